"""JSON Schemas as this dialect takes them."""

from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers.gemini.schema import adapt_schema
from tokendance_server.providers.warnings import Warnings


@pytest.mark.parametrize(
    ("schema", "taken"),
    [
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": ["string", "null"], "title": "t"}, {"type": ["string", "null"], "title": "t"}),
        ({"allOf": [{"$ref": "#/definitions/A"}], "title": "t"}, {"$ref": "#/$defs/A"}),
        ({"allOf": [{"type": "object", "title": "in"}], "title": "out"}, {"type": "object", "title": "out"}),
        ({"definitions": {"A": {"const": 1}}}, {"$defs": {"A": {"enum": [1]}}}),
        ({"$schema": "s", "$comment": "c", "default": 1, "examples": [1], "type": "integer"}, {"type": "integer"}),
        ({"properties": {"pattern": {"type": "string"}}}, {"properties": {"pattern": {"type": "string"}}}),
        ({"items": True, "additionalProperties": {"const": 1}}, {"items": True, "additionalProperties": {"enum": [1]}}),
    ],
)
def test_what_can_be_said_otherwise_is_rewritten(schema: dict[str, Any], taken: dict[str, Any]) -> None:
    """Without a word to the caller, because it means the same."""
    gaps = Warnings()
    assert adapt_schema(schema, "s", gaps) == taken
    assert gaps.told() == []


@pytest.mark.parametrize(
    ("schema", "taken", "left_out"),
    [
        ({"type": "string", "pattern": "a"}, {"type": "string"}, ["s.pattern"]),
        ({"anyOf": [{"not": {}}, {"oneOf": [{"multipleOf": 2}]}]}, {"anyOf": [{}, {"oneOf": [{}]}]},
         ["s.anyOf[0].not", "s.anyOf[1].oneOf[0].multipleOf"]),
        ({"allOf": [{"type": "object"}, {"title": "t"}]}, {}, ["s.allOf"]),
        ({"$ref": "#/$defs/A", "minimum": 1, "description": "d"}, {"$ref": "#/$defs/A"}, ["s.minimum"]),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_left_out_and_named(
    schema: dict[str, Any], taken: dict[str, Any], left_out: list[str]
) -> None:
    """With its place in the caller's schema."""
    gaps = Warnings()
    assert adapt_schema(schema, "s", gaps) == taken
    assert [gap.field for gap in gaps.told()] == left_out


def test_a_schema_without_a_bottom_is_refused() -> None:
    """In one sentence, and not by falling over it."""
    schema: dict[str, Any] = {}
    for _ in range(200):
        schema = {"properties": {"a": schema}}
    with pytest.raises(GatewayError, match="nested too deeply") as caught:
        adapt_schema(schema, "tools[0].function.parameters")
    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert caught.value.param == "tools[0].function.parameters"
