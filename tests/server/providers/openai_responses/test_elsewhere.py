"""A Responses request towards upstreams of other dialects: names there and back, what is left out, what is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai import OpenAICodec
from tokendance_server.providers.openai_responses.elsewhere import ElsewhereCodec, short_name

CODEC = ElsewhereCodec(OpenAICodec(mint=lambda: "call_minted"))
RESPONSES = pb.DIALECT_OPENAI_RESPONSES


def request(*messages: pb.Message, **fields: Any) -> pb.CompletionRequest:
    """A request that came as Responses, with a tool in a namespace and one without."""
    asked = pb.CompletionRequest(model="m", dialect=RESPONSES, **fields)
    asked.messages.add(role=pb.ROLE_USER).parts.add().text.text = "Hi"
    asked.messages.extend(messages)
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="plain")
    asked.tools.add(
        kind=pb.TOOL_KIND_FUNCTION, name="turn", namespace="wheel", namespace_json='{"description":"Turns."}'
    )
    return asked


def native(kind: str, role: pb.Role.ValueType) -> pb.Message:
    """An item that only Responses knows."""
    part = pb.Part(native=pb.NativePart(dialect=RESPONSES, type=kind, json=json.dumps({"type": kind})))
    return pb.Message(role=role, parts=[part])


def sent(asked: pb.CompletionRequest) -> dict[str, Any]:
    """What goes upstream."""
    document: dict[str, Any] = json.loads(CODEC.encode_completion(asked, "upstream", stream=False).body)
    return document


def chat_call(name: str) -> dict[str, Any]:
    """A call as a chat server writes it."""
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}


def test_a_namespace_becomes_part_of_its_tools_names() -> None:
    """And what it says of itself, of its first tool's description; calls of earlier turns are called the same."""
    call = pb.Part(tool_call=pb.ToolCall(id="a", name="turn", namespace="wheel", kind=pb.TOOL_KIND_FUNCTION))
    asked = request(pb.Message(role=pb.ROLE_ASSISTANT, parts=[call]))
    asked.tool_choice.mode, asked.tool_choice.name = pb.TOOL_CHOICE_MODE_TOOL, "turn"
    body = sent(asked)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["plain", "wheel__turn"]
    assert body["tools"][1]["function"]["description"] == "Turns."
    assert body["messages"][1]["tool_calls"][0]["function"]["name"] == "wheel__turn"
    assert body["tool_choice"]["function"]["name"] == "wheel__turn"


def test_calls_come_back_under_the_callers_names() -> None:
    """In one message and in a stream."""
    message = {"role": "assistant", "content": None, "tool_calls": [chat_call("wheel__turn")]}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    completion = CODEC.decode_completion(json.dumps(body).encode(), request())
    call = completion.choices[0].message.parts[0].tool_call
    assert (call.namespace, call.name) == ("wheel", "turn")
    decoder = CODEC.stream_decoder(request())
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **chat_call("wheel__turn")}]}}]}
    events = decoder.feed(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(chunk).encode())
    first = next(event.tool_call for event in events if event.HasField("tool_call"))
    assert (first.namespace, first.name) == ("wheel", "turn")
    assert decoder.done


@pytest.mark.parametrize(
    ("namespace", "name", "short"),
    [
        ("", "plain", "plain"),
        ("n", "f", "n__f"),
        ("mcp.server/a", "read.file", "mcp_server_a__read_file"),
    ],
)
def test_names_are_spelt_as_every_api_takes_them(namespace: str, name: str, short: str) -> None:
    """With underscores for what they do not take."""
    assert short_name(namespace, name) == short


def test_long_names_stay_apart() -> None:
    """They end in a digest of themselves."""
    one, other = short_name("n" * 60, "first"), short_name("n" * 60, "second")
    assert one != other
    assert len(one) == len(other) == 64


def test_records_of_hosted_tools_are_left_out_and_told() -> None:
    """A turn of nothing else goes with them."""
    asked = request(native("web_search_call", pb.ROLE_ASSISTANT), native("shell_call_output", pb.ROLE_TOOL))
    warnings = CODEC.warnings(asked)
    assert [warning.field for warning in warnings] == ["input[1]", "input[2]"]
    assert len(sent(asked)["messages"]) == 1


def test_tools_of_the_conversation_are_carried_as_tools() -> None:
    """Their declaration is left out, and nothing is to be told."""
    asked = request(native("additional_tools", pb.ROLE_TOOL))
    asked.tools.add(kind=pb.TOOL_KIND_CUSTOM, name="exec", namespace="functions", declared_in=1)
    assert list(CODEC.warnings(asked)) == []
    body = sent(asked)
    assert body["tools"][2]["custom"]["name"] == "functions__exec"
    assert len(body["messages"]) == 1


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (native("compaction", pb.ROLE_TOOL), "input[1]"),
        (native("input_video", pb.ROLE_USER), "input[1].content[0]"),
    ],
)
def test_what_only_its_upstream_can_read_is_refused_by_name(message: pb.Message, param: str) -> None:
    """Leaving it out would change the answer."""
    with pytest.raises(GatewayError) as refused:
        CODEC.warnings(request(message))
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)


def test_the_codecs_own_words_have_the_callers_paths() -> None:
    """Warnings and refusals, though the codec sees another request."""
    asked = request(native("web_search_call", pb.ROLE_ASSISTANT), reasoning=pb.Reasoning(include_encrypted=True))
    asked.tools.add(kind=pb.TOOL_KIND_HOSTED, name="web_search", native_json='{"type":"web_search"}')
    picture = pb.Part(image=pb.Image(url="https://example.com/a.png"))
    asked.messages.add(role=pb.ROLE_USER).parts.extend([picture, pb.Part(image=pb.Image(file_id="file_1"))])
    with pytest.raises(GatewayError) as refused:
        CODEC.warnings(asked)
    assert refused.value.param == refused.value.metadata["param"] == "input[2].content[1]"
    del asked.messages[-1]
    assert [warning.field for warning in CODEC.warnings(asked)] == ["input[1]", "include", "tools[2]"]


def test_requests_of_other_dialects_pass_unchanged() -> None:
    """Nothing is copied, and nothing renamed."""
    asked = pb.CompletionRequest(model="m", dialect=pb.DIALECT_OPENAI_CHAT)
    asked.messages.add(role=pb.ROLE_USER).parts.add().text.text = "Hi"
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="a.b")
    assert CODEC.encode_completion(asked, "u", stream=True) == OpenAICodec().encode_completion(asked, "u", stream=True)


def test_what_says_nothing_without_tools_is_left_out_in_silence() -> None:
    """Codex sends both with every turn, that which sums up a conversation included."""
    asked = request(extra_json='{"tool_choice":"auto","parallel_tool_calls":true,"client_metadata":{}}')
    del asked.tools[:]
    assert [warning.field for warning in CODEC.warnings(asked)] == ["client_metadata"]


def test_hosted_tools_alone_leave_no_word_about_tools() -> None:
    """Some servers refuse what is said of tools where there are none."""
    asked = request(parallel_tool_calls=True)
    del asked.tools[:]
    asked.tools.add(kind=pb.TOOL_KIND_HOSTED, name="web_search", native_json='{"type":"web_search"}')
    asked.tool_choice.mode = pb.TOOL_CHOICE_MODE_AUTO
    assert sent(asked).keys() == {"model", "messages"}


def test_many_records_are_looked_at_quickly() -> None:
    """Only those that are told are looked up, however many there are."""
    parts = [native("web_search_call", pb.ROLE_ASSISTANT).parts[0] for _ in range(10_000)]
    for part in parts:
        part.item.extra_json = '{"a":1}'
    asked = request(pb.Message(role=pb.ROLE_ASSISTANT, parts=parts))
    began = time.process_time()
    warnings = CODEC.warnings(asked)
    assert time.process_time() - began < 2
    assert len(warnings) == 64
