"""JSON of others: kept as it is where it is good, refused where it is not."""

import pytest

from tokendance.errors import GatewayError
from tokendance_server.providers import json_text


def test_order_and_large_integers_survive() -> None:
    """What goes through comes out equal, byte for byte where it is compact."""
    text = '{"z":123456789012345678901234567890,"a":[1.5,null],"ü":"\\u0000"}'
    assert json_text.write(json_text.read(text)) == text


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"a":NaN}', "{}{}", "[" * 100_000])
def test_a_callers_field_must_hold_one_object(text: str) -> None:
    """Everything else is invalid_request, naming the field."""
    with pytest.raises(GatewayError) as caught:
        json_text.caller_object(text, "tools[0].function.parameters")
    assert caught.value.code == "invalid_request"
    assert caught.value.param == "tools[0].function.parameters"
    assert caught.value.origin == "caller"


def test_numbers_that_are_none_read_as_null() -> None:
    """NaN and the infinities, which some servers write."""
    assert json_text.read_lenient(b'{"a":NaN,"b":-Infinity,"c":1}') == {"a": None, "b": None, "c": 1}


@pytest.mark.parametrize("data", [b'{"a":NaN', b'{"a":NaN,"b":"\\ud800"}', b"\xff", b'{"a":"NaN"', b"[" * 100_000])
def test_what_is_broken_stays_broken(data: bytes) -> None:
    """Leniency ends at NaN: half documents, half surrogates and depth are still refused."""
    with pytest.raises(json_text.UNREADABLE):
        json_text.read_lenient(data)


def test_only_missing_fields_are_added() -> None:
    """Nested objects are joined, everything typed stays."""
    document = {"a": 1, "b": {"c": 2}, "d": None}
    json_text.add_missing(document, {"a": 9, "b": {"c": 9, "e": 3}, "d": {"x": 1}, "f": [4]})
    assert document == {"a": 1, "b": {"c": 2, "e": 3}, "d": None, "f": [4]}


def test_nothing_is_written_as_nothing() -> None:
    """An empty object becomes an empty text."""
    assert json_text.write_object({}) == ""
    assert json_text.write_object({"a": 1}) == '{"a":1}'
