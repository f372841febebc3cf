"""Deltas of tool calls in the ways of servers that imitate OpenAI: each comes out as it should have been."""

from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai.calls import CallNormalizer

FUNCTION = pb.TOOL_KIND_FUNCTION


def normalized(*deltas: dict[str, Any], position: int = 0) -> list[pb.ToolCallDelta]:
    """What comes out of these deltas and the end of the choice."""
    items = iter(range(10, 20))
    calls = CallNormalizer(0, lambda: next(items), lambda: "minted")
    out = [part for delta in deltas for part in calls.feed(delta, position)]
    return [*out, *calls.finish()]


def delta(arguments: Any = None, name: Any = None, **fields: Any) -> dict[str, Any]:
    """One entry of `tool_calls`."""
    return {"function": {"name": name, "arguments": arguments}} | fields


def first(arguments: str = "", **fields: Any) -> pb.ToolCallDelta:
    """The first delta that is told of a call."""
    wanted: dict[str, Any] = {"item": 10, "id": "a", "name": "f", "kind": FUNCTION} | fields
    return pb.ToolCallDelta(arguments=arguments, **wanted)


def more(arguments: str, index: int = 0, item: int = 10) -> pb.ToolCallDelta:
    """A later one."""
    return pb.ToolCallDelta(index=index, item=item, arguments=arguments)


ONE_CALL = [first(), more('{"a"'), more(":1}")]


@pytest.mark.parametrize(
    "repeated",
    [
        {},
        {"id": None, "type": None},
        {"id": "a", "type": "function"},
        {"id": ""},
    ],
)
@pytest.mark.parametrize("name", [None, "", "f"])
def test_id_and_name_are_told_once(repeated: dict[str, Any], name: str | None) -> None:
    """Whether the server repeats them, empties them or leaves them out."""
    out = normalized(
        delta("", "f", index=0, id="a"),
        delta('{"a"', name, index=0, **repeated),
        delta(":1}", name, index=0, **repeated),
    )
    assert out == ONE_CALL


def test_arguments_wait_for_the_name() -> None:
    """Clients need it in the very first delta."""
    out = normalized(delta('{"a"', index=0, id="a"), delta(":1", index=0), delta("}", "f", index=0))
    assert out == [first('{"a":1}')]


def test_a_missing_id_is_minted_and_a_late_one_ignored() -> None:
    """It has gone out already."""
    out = normalized(delta("{", "f", index=0), delta("}", index=0, id="late"))
    assert out == [first("{", id="minted"), more("}")]


@pytest.mark.parametrize("index", [{"index": 0}, {}, {"index": None}, {"index": "0"}])
def test_a_new_id_is_a_new_call(index: dict[str, Any]) -> None:
    """Where all calls have the same number, or none."""
    out = normalized(delta("{}", "f", id="a", **index), delta("{", "g", id="b", **index), delta("}", **index))
    assert out == [first("{}"), first("{", id="b", name="g", index=1, item=11), more("}", index=1, item=11)]


def test_calls_may_take_turns() -> None:
    """Each delta finds its call by its number."""
    out = normalized(
        delta("", "f", index=0, id="a"),
        delta("", "g", index=1, id="b"),
        delta("1", index=0),
        delta("2", index=1),
    )
    assert out == [first(), first(id="b", name="g", index=1, item=11), more("1"), more("2", index=1, item=11)]


@pytest.mark.parametrize("arguments", [None, ""])
def test_a_call_without_arguments_gets_an_empty_object(arguments: str | None) -> None:
    """Clients parse the arguments."""
    assert normalized(delta(arguments, "f", index=0, id="a")) == [first(), more("{}")]


def test_an_object_is_written_as_text() -> None:
    """Large integers included."""
    assert normalized(delta({"n": 12345678901234567890}, "f", id="a")) == [first('{"n":12345678901234567890}')]


def test_a_custom_tool_has_input() -> None:
    """Free text, which may also be none."""
    out = normalized(
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": ""}},
        {"index": 0, "custom": {"input": "ls"}},
    )
    assert out == [first(kind=pb.TOOL_KIND_CUSTOM), more("ls")]
    assert normalized({"index": 0, "id": "a", "custom": {"name": "f"}}) == [first(kind=pb.TOOL_KIND_CUSTOM)]


def test_a_call_that_never_gets_a_name_is_an_error() -> None:
    """Nobody could answer it."""
    with pytest.raises(GatewayError) as caught:
        normalized(delta("{}", index=0, id="a"))
    assert caught.value.code == "provider_error"
