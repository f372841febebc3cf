"""Documents for schemas: each satisfies the rules that it can know, and no schema takes long."""

import time
from typing import Any

import pytest

from tokendance_server.providers.schema_sample import sample

SAMPLES: list[tuple[Any, Any]] = [
    ({}, {}),
    (True, {}),
    (False, None),
    ({"const": 5}, 5),
    ({"enum": ["b", "a"]}, "b"),
    ({"type": "string"}, "demo"),
    ({"type": "string", "minLength": 6}, "demodemo"),
    ({"type": "string", "maxLength": 2}, "de"),
    ({"type": "string", "format": "date"}, "2025-01-01"),
    ({"type": "integer"}, 0),
    ({"type": "integer", "minimum": 3}, 3),
    ({"type": "integer", "exclusiveMinimum": 3}, 4),
    ({"type": "integer", "maximum": -3}, -3),
    ({"type": "integer", "exclusiveMaximum": -3}, -4),
    ({"type": "integer", "minimum": 3, "multipleOf": 5}, 5),
    ({"type": "number", "minimum": 0.2, "maximum": 0.4}, pytest.approx(0.3)),
    ({"type": "boolean"}, True),
    ({"type": "null"}, None),
    ({"type": ["null", "string"]}, "demo"),
    ({"type": ["null"]}, None),
    ({"type": "array"}, []),
    ({"type": "array", "minItems": 2, "items": {"type": "boolean"}}, [True, True]),
    ({"minItems": 2, "prefixItems": [{"const": 1}], "items": {"const": 2}}, [1, 2]),
    ({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "demo"}),
    ({"required": ["a"], "properties": {"a": {"type": "integer"}}}, {"a": 0}),
    ({"anyOf": [{"type": "null"}, {"type": "object"}, {"type": "integer"}]}, 0),
    ({"oneOf": [{"type": "object", "required": ["k"], "properties": {"k": {"const": 1}}}]}, {"k": 1}),
    ({"allOf": [{"required": ["a"]}, {"properties": {"a": {"const": 1}}}]}, {"a": 1}),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 1}}}, 1),
    ({"$ref": "#/prefixItems/1", "prefixItems": [{}, {"const": 7}]}, 7),
    ({"$ref": "https://example.com/other"}, {}),
]


@pytest.mark.parametrize(("schema", "document"), SAMPLES)
def test_a_schema_has_its_document(schema: Any, document: Any) -> None:
    """As small as the rules allow."""
    assert sample(schema) == document


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"required": ["a", "b"], "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}},
        {"type": "array", "minItems": 10**9, "items": {"$ref": "#"}},
        {"type": "string", "minLength": 10**12},
        {"type": "integer", "minimum": 1e308, "multipleOf": 1e-308},
        {"type": "integer", "minimum": 10**400},
        {"type": 5, "enum": [], "anyOf": [], "required": 7, "properties": [], "$ref": 4, "allOf": "x"},
    ],
)
def test_no_schema_takes_long(schema: Any) -> None:
    """Not one that refers to itself, nor one that asks for a great deal."""
    begun = time.monotonic()
    sample(schema)
    assert time.monotonic() - begun < 2
