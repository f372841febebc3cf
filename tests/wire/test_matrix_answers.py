"""M providers times N dialects, the way back: what an upstream says is said in every dialect that a caller may speak.

Every recorded answer and stream of every wire format is written in every dialect. Recordings are found, not listed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import text_format

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2
from tokendance_facade.dialects import chat, messages, responses
from tokendance_facade.dialects.chat import answer as chat_answer
from tokendance_facade.dialects.chat import request as chat_request
from tokendance_facade.dialects.chat import stream as chat_stream
from tokendance_facade.dialects.messages import answer as messages_answer
from tokendance_facade.dialects.messages import request as messages_request
from tokendance_facade.dialects.messages import stream as messages_stream
from tokendance_facade.dialects.responses import answer as responses_answer
from tokendance_facade.dialects.responses import request as responses_request
from tokendance_facade.dialects.responses import stream as responses_stream
from tokendance_server.providers.gemini import GeminiCodec

PROVIDERS = Path(__file__).parent / "providers"
ANSWERS = sorted(f"{path.parts[-3]}/{path.stem}" for path in PROVIDERS.glob("*/answers/*.txtpb"))
STREAMS = sorted(f"{path.parts[-3]}/{path.stem}" for path in PROVIDERS.glob("*/streams/*.txtpb"))
ASK = b'{"model":"m","input":"Hi"}'


@dataclass(frozen=True)
class Dialect:
    """How a dialect writes a whole answer, and a stream of events."""

    whole: Callable[[pb.Completion], bytes]
    stream: Callable[[Iterable[pb.CompletionEvent]], bytes]
    choices: bool = False
    """Whether it can show more answers than one."""


def responses_whole(completion: pb.Completion) -> bytes:
    """A `response` object."""
    return responses_answer.encode(completion, responses_request.decode(ASK).settings, now=7)


def responses_events(events: Iterable[pb.CompletionEvent]) -> bytes:
    """The stream of one response."""
    call = responses_request.decode(ASK)
    return responses_stream.ResponsesStreamEncoder(call, spare_id="resp_1", now=lambda: 7).feed(events)


DIALECTS = {
    chat.__name__: Dialect(
        chat_answer.encode, lambda events: chat_stream.ChatStreamEncoder(include_usage=True).feed(events), choices=True
    ),
    messages.__name__: Dialect(
        messages_answer.encode, lambda events: messages_stream.MessagesStreamEncoder().feed(events)
    ),
    responses.__name__: Dialect(responses_whole, responses_events),
}


def read(name: str, kind: str) -> str:
    """The meaning of a recording."""
    provider, _, case = name.partition("/")
    return (PROVIDERS / provider / kind / f"{case}.txtpb").read_text()


def escaped(text: str) -> bytes:
    """A text as it stands in JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


def check_said(wire: bytes, said: Sequence[str]) -> None:
    """Everything that was said is there."""
    missing = [text for text in said if escaped(text) not in wire]
    assert missing == []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_said_in_every_dialect(name: str, dialect: str) -> None:
    """Its texts, refusals and reasoning, and which tools it calls."""
    completion = text_format.Parse(read(name, "answers"), pb.Completion())
    wire = DIALECTS[dialect].whole(completion)
    assert isinstance(json.loads(wire), dict)
    choices = completion.choices if DIALECTS[dialect].choices else completion.choices[:1]
    parts = [part for choice in choices for part in choice.message.parts]
    check_said(wire, [part.text.text for part in parts if part.HasField("text")])
    check_said(wire, [part.refusal.text for part in parts if part.HasField("refusal")])
    check_said(wire, [part.reasoning.text for part in parts if part.HasField("reasoning")])
    check_said(wire, [part.tool_call.name for part in parts if part.HasField("tool_call")])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_said_in_every_dialect(name: str, dialect: str) -> None:
    """Piece by piece, to its end."""
    meant = text_format.Parse(read(name, "streams"), completions_service_pb2.StreamCompletionResponse()).events
    wire = DIALECTS[dialect].stream(meant)
    assert wire.endswith(b"\n\n")
    for line in wire.split(b"\n"):
        if line.startswith(b"data: {"):
            json.loads(line.removeprefix(b"data: "))
    every = DIALECTS[dialect].choices
    check_said(wire, [one.text.text for one in meant if one.HasField("text") and (every or not one.text.choice)])
    check_said(wire, [one.reasoning.text for one in meant if one.HasField("reasoning")])
    check_said(wire, [one.tool_call.name for one in meant if one.HasField("tool_call")])


def from_messages(answer: pb.Completion) -> pb.CompletionRequest:
    """The next request of a caller of Messages, who sends the blocks back as they came."""
    content = json.loads(messages_answer.encode(answer))["content"]
    results = [
        {"type": "tool_result", "tool_use_id": one["id"], "content": "1"}
        for one in content
        if one["type"] == "tool_use"
    ]
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": results},
    ]
    return messages_request.decode(json.dumps({"model": "m", "max_tokens": 9, "messages": turns}).encode()).completion


def from_responses(answer: pb.Completion) -> pb.CompletionRequest:
    """The next request of a caller of Responses, who sends the items back as they came."""
    output = json.loads(responses_whole(answer))["output"]
    results = [
        {"type": "function_call_output", "call_id": one["call_id"], "output": "1"}
        for one in output
        if one["type"] == "function_call"
    ]
    turns = [{"role": "user", "content": "Hi"}, *output, *results]
    return responses_request.decode(json.dumps({"model": "m", "store": False, "input": turns}).encode()).completion


def from_chat(answer: pb.Completion) -> pb.CompletionRequest:
    """The next request of a caller of chat, who sends the message back as it came."""
    message = json.loads(chat_answer.encode(answer))["choices"][0]["message"]
    results = [{"role": "tool", "tool_call_id": one["id"], "content": "1"} for one in message["tool_calls"]]
    turns = [{"role": "user", "content": "Hi"}, message, *results]
    return chat_request.decode(json.dumps({"model": "m", "messages": turns}).encode()).completion


@pytest.mark.parametrize("next_request", [from_chat, from_messages, from_responses])
def test_a_signature_comes_back_through_every_dialect(
    next_request: Callable[[pb.Completion], pb.CompletionRequest],
) -> None:
    """On the call that it was given with, though its caller's API has no place for it."""
    ids = iter(["call_1", "call_2"])
    codec = GeminiCodec(mint=lambda: next(ids))
    wire = (PROVIDERS / "gemini" / "answers" / "two_calls_one_signature_no_ids.json").read_bytes()
    given = json.loads(wire)["candidates"][0]["content"]["parts"][1]["thoughtSignature"]
    request = next_request(codec.decode_completion(wire, pb.CompletionRequest()))
    body = json.loads(codec.encode_completion(request, "m", stream=False).body)
    calls = [part for part in body["contents"][1]["parts"] if "functionCall" in part]
    assert [call.get("thoughtSignature") for call in calls] == [given, None]
    results = [part["functionResponse"]["id"] for part in body["contents"][2]["parts"]]
    assert results == [call["functionCall"]["id"] for call in calls] == ["call_1", "call_2"]
