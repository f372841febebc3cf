"""Parameters of a route in the body of a request."""

import json
from typing import Any

import pytest

from tokendance_server.providers.parameters import join

BODY = {"model": "m", "temperature": 0.5, "reasoning": {"effort": "low"}, "seed": 123456789012345678901}


@pytest.mark.parametrize(
    ("default", "forced", "changes"),
    [
        ({}, {}, {}),
        ({"temperature": 1, "top_p": 0.9}, {}, {"top_p": 0.9}),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {}, {"reasoning": {"effort": "low", "summary": "auto"}}),
        ({}, {"temperature": 1, "store": False}, {"temperature": 1, "store": False}),
        ({}, {"reasoning": {"summary": "auto"}}, {"reasoning": {"effort": "low", "summary": "auto"}}),
        ({}, {"reasoning": "none"}, {"reasoning": "none"}),
        ({"top_k": 1}, {"top_k": 2}, {"top_k": 2}),
    ],
)
def test_defaults_stand_below_and_forced_ones_above(
    default: dict[str, Any], forced: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Field by field, objects inside objects too; nothing else of the body changes."""
    texts = [json.dumps(one) if one else "" for one in (default, forced)]
    for _ in range(2):  # what is remembered of the parameters must not have changed
        assert json.loads(join(json.dumps(BODY).encode(), *texts)) == {**BODY, **changes}


def test_a_forced_null_takes_a_field_out() -> None:
    """Some upstreams refuse a field whatever its value."""
    assert json.loads(join(b'{"a":1,"b":{"c":2,"d":3}}', "", '{"a":null,"b":{"c":null},"e":null}')) == {"b": {"d": 3}}


def test_without_parameters_the_body_is_the_same_object() -> None:
    """It costs nothing where nothing is asked."""
    body = b'{"a":  1}'
    assert join(body, "", "") is body
