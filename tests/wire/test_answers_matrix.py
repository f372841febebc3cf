"""M providers times N dialects: whatever an upstream streams comes to a caller of any dialect in that dialect's form.

The recorded streams and answers of all providers, found and not listed, go through the encoders of all dialects.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tests.open_responses import check_response, read_events

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2
from tokendance_facade.dialects.chat.stream import ChatStreamEncoder
from tokendance_facade.dialects.responses.answer import encode
from tokendance_facade.dialects.responses.request import decode
from tokendance_facade.dialects.responses.stream import ResponsesStreamEncoder

PROVIDERS = Path(__file__).parent / "providers"
STREAMS = sorted(str(path.relative_to(PROVIDERS)) for path in PROVIDERS.glob("*/streams/*.txtpb"))
ANSWERS = sorted(str(path.relative_to(PROVIDERS)) for path in PROVIDERS.glob("*/answers/*.txtpb"))
CALL = decode(b'{"model": "m", "input": "Hi", "stream": true}')


def events_of(name: str) -> list[pb.CompletionEvent]:
    """What a recorded stream means, under the gateway's own names."""
    text = (PROVIDERS / name).read_text()
    events = list(text_format.Parse(text, completions_service_pb2.StreamCompletionResponse()).events)
    events[0].started.id, events[0].started.model = "cmpl_1", "m"
    return events


def first_choice(events: list[pb.CompletionEvent]) -> dict[str, str]:
    """What was said, thought and called in the first answer of a stream."""
    said: dict[str, str] = {}
    for event in events:
        kind = event.WhichOneof("event")
        if kind == "text" and not event.text.choice:
            said["text"] = said.get("text", "") + event.text.text
        elif kind == "audio" and not event.audio.choice:
            said["text"] = said.get("text", "") + event.audio.transcript
        elif kind == "refusal" and not event.refusal.choice:
            said["refusal"] = said.get("refusal", "") + event.refusal.text
        elif kind == "reasoning" and not event.reasoning.choice:
            said["reasoning"] = said.get("reasoning", "") + event.reasoning.text + event.reasoning.summary
        elif kind == "tool_call" and not event.tool_call.choice:
            said["calls"] = said.get("calls", "") + event.tool_call.arguments
    return {name: text for name, text in said.items() if text}


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_is_one_of_responses(name: str) -> None:
    """With the events that the specification wants, and everything in it that this dialect can show."""
    events = events_of(name)
    encoder = ResponsesStreamEncoder(CALL, spare_id="resp_spare", now=lambda: 2**31)
    told = read_events(encoder.feed(events).decode())
    shown: dict[str, str] = {}
    for item in told[-1]["response"]["output"]:
        for part in item.get("content", ()):
            key = {"reasoning_text": "reasoning", "refusal": "refusal"}.get(part["type"], "text")
            shown[key] = shown.get(key, "") + (part.get("text") or part.get("refusal") or "")
        for part in item.get("summary", ()):
            shown["reasoning"] = shown.get("reasoning", "") + part["text"]
        if item["type"] in ("function_call", "custom_tool_call"):
            shown["calls"] = shown.get("calls", "") + (item.get("arguments") or item.get("input") or "")
    meant = first_choice(events)
    for kind in meant.keys() | shown.keys() - {""}:
        # Pieces of parallel calls, and of thoughts in two forms, come in turns; here each stands in its own place.
        assert sorted(shown.get(kind, "")) == sorted(meant.get(kind, "")), kind


@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_is_one_of_chat(name: str) -> None:
    """Each choice ends with a reason that clients know, and the stream with `[DONE]`."""
    encoder = ChatStreamEncoder(include_usage=True)
    blocks = encoder.feed(events_of(name)).decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]
    reasons = {choice.get("finish_reason") for chunk in chunks for choice in chunk["choices"]} - {None}
    assert reasons
    assert reasons <= {"stop", "length", "tool_calls", "content_filter"}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_is_one_of_responses(name: str) -> None:
    """With every key that the specification requires."""
    completion = text_format.Parse((PROVIDERS / name).read_text(), pb.Completion())
    completion.id, completion.model = "cmpl_1", "m"
    check_response(json.loads(encode(completion, CALL.settings, now=2**31)))
