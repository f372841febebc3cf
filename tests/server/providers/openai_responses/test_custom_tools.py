"""Custom tools towards a chat server that has none: there as functions, and back as they were."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.wire_formats import WIRE_FORMATS

CODEC = WIRE_FORMATS["openai"](["no_custom"], mint=lambda: "call_minted")


def request(dialect: pb.Dialect.ValueType) -> pb.CompletionRequest:
    """A request with a custom tool, which was called before and must be called again."""
    asked = pb.CompletionRequest(model="m", dialect=dialect)
    asked.messages.add(role=pb.ROLE_USER).parts.add().text.text = "Hi"
    call = pb.ToolCall(id="a", name="patch", kind=pb.TOOL_KIND_CUSTOM, input='a "b"')
    asked.messages.add(role=pb.ROLE_ASSISTANT).parts.add().tool_call.CopyFrom(call)
    result = asked.messages.add(role=pb.ROLE_TOOL).parts.add().tool_result
    result.call_id, result.kind = "a", pb.TOOL_KIND_CUSTOM
    result.parts.add().text.text = "Done."
    asked.tools.add(kind=pb.TOOL_KIND_CUSTOM, name="patch", description="Edits.", format_json='{"type":"grammar"}')
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="look")
    asked.tool_choice.mode, asked.tool_choice.name = pb.TOOL_CHOICE_MODE_TOOL, "patch"
    asked.tool_choice.kind = pb.TOOL_KIND_CUSTOM
    return asked


DIALECTS = (pb.DIALECT_OPENAI_RESPONSES, pb.DIALECT_OPENAI_CHAT, pb.DIALECT_UNSPECIFIED)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_custom_tool_goes_as_a_function_of_one_text(dialect: pb.Dialect.ValueType) -> None:
    """The tool, its calls and the choice of it; that its grammar is not kept is told."""
    asked = request(dialect)
    assert [warning.field for warning in CODEC.warnings(asked)] == ["tools[0].format"]
    body = json.loads(CODEC.encode_completion(asked, "u", stream=False).body)
    function = body["tools"][0]["function"]
    assert (function["name"], list(function["parameters"]["properties"])) == ("patch", ["input"])
    call = body["messages"][1]["tool_calls"][0]
    assert (call["type"], json.loads(call["function"]["arguments"])) == ("function", {"input": 'a "b"'})
    assert body["tool_choice"] == {"type": "function", "function": {"name": "patch"}}


def call_of(name: str, arguments: str) -> dict[str, Any]:
    """A call as a chat server writes it."""
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    ("arguments", "text"), [('{"input":"x\\ny"}', "x\ny"), ("plain", "plain"), ("{}", ""), ('{"a":1}', '{"a":1}')]
)
def test_its_calls_come_back_as_custom_ones(arguments: str, text: str) -> None:
    """With the text, or with whatever the model wrote in its place; other calls stay as they are."""
    calls = [call_of("patch", arguments), {**call_of("look", "{}"), "id": "call_2"}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    asked = request(pb.DIALECT_OPENAI_RESPONSES)
    parts = CODEC.decode_completion(json.dumps(answer).encode(), asked).choices[0].message.parts
    assert (parts[0].tool_call.kind, parts[0].tool_call.input) == (pb.TOOL_KIND_CUSTOM, text)
    assert (parts[1].tool_call.kind, parts[1].tool_call.arguments_json) == (pb.TOOL_KIND_FUNCTION, "{}")


def test_a_streamed_call_comes_back_whole() -> None:
    """The text lies inside JSON: it is told at the end, once, and before the choice ends."""
    first = call_of("patch", '{"inp')
    deltas: list[dict[str, Any]] = [
        {"tool_calls": [{"index": 0, **first}]},
        {"tool_calls": [{"index": 1, **call_of("look", "{"), "id": "call_2"}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'ut":"x y"}'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
    ]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    wire = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"
    decoder = CODEC.stream_decoder(request(pb.DIALECT_OPENAI_RESPONSES))
    events = [*decoder.feed(wire), *decoder.close()]
    told = [event.tool_call for event in events if event.HasField("tool_call")]
    assert [(one.index, one.name, one.arguments) for one in told] == [
        (0, "patch", ""),
        (1, "look", "{"),
        (1, "", "}"),
        (0, "", "x y"),
    ]
    assert told[0].kind == pb.TOOL_KIND_CUSTOM
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[-2:] == ["choice_finished", "finished"]
