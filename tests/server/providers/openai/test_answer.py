"""Whole answers that are not as they should be; good ones are recorded in tests/wire."""

from typing import Any

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai import OpenAICodec

CODEC = OpenAICodec(mint=lambda: "call_minted")


def answer(message: Any = None, **fields: Any) -> pb.Completion:
    """The completion of an answer with one choice."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | fields
    return CODEC.decode_completion(orjson.dumps({"choices": [choice]}), pb.CompletionRequest())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"<html></html>",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":[null]}',
        b'{"choices":[{"index":0,"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"content":"a"}}]',
        b'{"choices":[{"message":{"content":"\\ud800"}}]}',
        b"[" * 100_000,
        b"data: {}\n\n",
        b'{"error":{"message":"x"}}',
        b'{"choices":[{"message":{"tool_calls":[{"id":"a"}]}}]}',
        b'{"choices":[{"message":{"audio":{"data":"!"}}}]}',
    ],
)
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    """And never an empty answer."""
    with pytest.raises(GatewayError) as caught:
        CODEC.decode_completion(body, pb.CompletionRequest())
    assert caught.value.code == "provider_error"
    assert caught.value.origin == "provider"


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        ("stop", pb.FINISH_REASON_STOP),
        ("end_turn", pb.FINISH_REASON_STOP),
        ("", pb.FINISH_REASON_STOP),
        (None, pb.FINISH_REASON_STOP),
        ("LENGTH", pb.FINISH_REASON_LENGTH),
        ("model_length", pb.FINISH_REASON_LENGTH),
        ("sensitive", pb.FINISH_REASON_CONTENT_FILTER),
        ("content_filter", pb.FINISH_REASON_CONTENT_FILTER),
        ("tired", pb.FINISH_REASON_OTHER),
    ],
)
def test_every_finish_reason_means_something(native: str | None, reason: pb.FinishReason.ValueType) -> None:
    """The upstream's own word is kept beside."""
    choice = answer({"content": "a"}, finish_reason=native).choices[0]
    assert choice.finish_reason == reason
    assert choice.native_finish_reason == (native or "")


@pytest.mark.parametrize("native", ["error", "abort", "network_error", "insufficient_system_resource"])
def test_a_failure_is_no_finish(native: str) -> None:
    """What came is incomplete, and the caller is told."""
    with pytest.raises(GatewayError) as caught:
        answer({"content": "a"}, finish_reason=native)
    assert caught.value.code == "stream_interrupted"


@pytest.mark.parametrize(("native", "called"), [("stop", True), ("", True), ("tired", True), ("length", False)])
def test_a_stop_after_a_call_is_the_call(native: str, called: bool) -> None:
    """But a cut call is cut."""
    choice = answer({"tool_calls": [{"id": "1", "function": {"name": "f"}}]}, finish_reason=native).choices[0]
    assert (choice.finish_reason == pb.FINISH_REASON_TOOL_CALLS) is called


@pytest.mark.parametrize(
    ("arguments", "text"),
    [('{"a": 1}', '{"a": 1}'), ({"a": 12345678901234567890}, '{"a":12345678901234567890}'), (None, "{}"), ("", "{}")],
)
def test_arguments_are_text(arguments: Any, text: str) -> None:
    """Whatever the server made of them; a call without arguments has an empty object."""
    parts = answer({"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}).choices[0].message.parts
    assert parts[0].tool_call == pb.ToolCall(
        id="call_minted", name="f", kind=pb.TOOL_KIND_FUNCTION, arguments_json=text
    )


def test_reasoning_is_taken_once() -> None:
    """From the first field that holds some."""
    parts = answer({"content": "b", "reasoning_content": "a", "reasoning": "a"}).choices[0].message.parts
    assert [part.WhichOneof("content") for part in parts] == ["reasoning", "text"]
    assert parts[0].reasoning.text == "a"


def test_what_a_call_holds_besides_comes_back() -> None:
    """Some servers want their marks returned with the call."""
    call = {"id": "1", "index": 0, "type": "function", "function": {"name": "f"}, "extra_content": {"s": "x"}}
    assert answer({"tool_calls": [call]}).choices[0].message.parts[0].extra_json == '{"extra_content":{"s":"x"}}'


def test_what_names_the_upstream_is_dropped() -> None:
    """Unknown fields beside the choices are not handed on, nor are prices among the counts."""
    body = orjson.dumps(
        {
            "provider": "Hidden",
            "x_groq": {"id": "req_1"},
            "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.5},
        }
    )
    completion = CODEC.decode_completion(body, pb.CompletionRequest())
    assert completion.extra_json == ""
    assert completion.usage.extra_json == ""


def test_indexes_that_are_none_fall_back_on_the_place() -> None:
    """Negative, huge or missing ones."""
    choices = [{"index": index, "message": {"content": "a"}} for index in (None, -1, 2**40)]
    completion = CODEC.decode_completion(orjson.dumps({"choices": choices}), pb.CompletionRequest())
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
