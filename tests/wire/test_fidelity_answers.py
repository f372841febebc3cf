"""An answer of an upstream of the caller's own dialect comes back as it was, unknown fields included.

Ours are only its id, the model's name, times and counts, and what a stateless gateway says of storing.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.open_responses import check_response
from tests.wire.test_fidelity import objects

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.responses import answer
from tokendance_facade.dialects.responses.request import decode
from tokendance_facade.dialects.responses.stream import ResponsesStreamEncoder
from tokendance_server.providers.wire_formats import WIRE_FORMATS

CODEC = WIRE_FORMATS["openai"](["responses"])
CALL = decode(json.dumps({"model": "m", "input": "Hi", "stream": True}).encode())
OURS = {"id", "model", "created_at", "completed_at", "usage", "store", "background", "previous_response_id"}

_TEXT = {
    "type": "output_text",
    "text": "Sun over A.",
    "annotations": [
        {"type": "url_citation", "start_index": 0, "end_index": 3, "url": "https://example.com/", "title": "t"},
        {"type": "file_citation", "file_id": "file_1", "filename": "a.txt", "index": 2},
    ],
    "logprobs": [],
}
ANSWER: dict[str, Any] = {
    "id": "resp_theirs",
    "object": "response",
    "created_at": 1_700_000_000,
    "completed_at": 1_700_000_001,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "theirs",
    "output": [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "They ask."}],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
            "encrypted_content": "sealed",
        },
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "phase": "commentary",
            "content": [_TEXT, {"type": "refusal", "refusal": "Not that."}],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "weather",
            "namespace": "house",
            "arguments": '{"city": "A"}',
            "status": "completed",
        },
        {
            "type": "custom_tool_call",
            "id": "ctc_1",
            "call_id": "call_2",
            "name": "note",
            "input": "plain",
            "status": "completed",
        },
    ],
    "temperature": 0.7,
    "text": {"format": {"type": "text"}, "verbosity": "high"},
    "reasoning": {"effort": "high", "summary": "detailed"},
    "tools": [{"type": "web_search"}],
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "moderation": {"flagged": False},
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}
OPAQUE = frozenset({"usage", "metadata"})
PLACES = len(list(objects(ANSWER, OPAQUE)))


def with_unknown(place: int) -> dict[str, Any]:
    """The answer with an unknown field in one of its objects."""
    document = copy.deepcopy(ANSWER)
    list(objects(document, OPAQUE))[place]["unknown_field"] = {"deep": [1, None]}
    return document


def check(shown: dict[str, Any], sent: dict[str, Any]) -> None:
    """Everything that was sent is shown, but for what is ours."""
    assert {name: shown.get(name) for name in sent if name not in OURS} == {
        name: value for name, value in sent.items() if name not in OURS
    }
    assert (shown["store"], shown["background"]) == (False, False)


@pytest.mark.parametrize("place", range(PLACES))
def test_a_whole_answer_comes_back_as_it_was(place: int) -> None:
    """With an unknown field at any level."""
    sent = with_unknown(place)
    completion = CODEC.decode_completion(json.dumps(sent).encode(), CALL.completion)
    completion.id, completion.model, completion.created = "cmpl_1", "m", 1_700_000_005
    shown = json.loads(answer.encode(completion, CALL.settings, now=1_700_000_009))
    check(shown, sent)
    assert (shown["id"], shown["model"]) == ("resp_1", "m")


def events_of(sent: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer as its upstream would stream it."""
    begun = {**sent, "status": "in_progress", "output": [], "usage": None, "completed_at": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(sent["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        empty: dict[str, Any] = {"content": [], "summary": [], "arguments": "", "input": ""}
        bare = {name: empty.get(name, value) for name, value in item.items()}
        events.append({"type": "response.output_item.added", "output_index": index, "item": bare})
        if item["type"] == "web_search_call":
            events.append({"type": "response.web_search_call.searching", **place})
        for number, part in enumerate(item.get("content", ()) if item["type"] == "message" else ()):
            where = {**place, "content_index": number}
            if part["type"] == "refusal":
                events.append({"type": "response.refusal.delta", **where, "delta": part["refusal"]})
                continue
            events += [
                {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []}
                for piece in (part["text"][:4], part["text"][4:])
            ]
            events += [
                {"type": "response.output_text.annotation.added", **where, "annotation_index": at, "annotation": one}
                for at, one in enumerate(part["annotations"])
            ]
        if item["type"] == "function_call":
            events.append({"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": sent})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


@pytest.mark.parametrize("place", range(PLACES))
def test_a_streamed_answer_comes_back_as_it_was(place: int) -> None:
    """Its last event holds all of it, each item is told whole, and events that only its upstream knows pass on."""
    sent = with_unknown(place)
    decoder = CODEC.stream_decoder(CALL.completion)
    wire = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events_of(sent))
    events: list[pb.CompletionEvent] = [*decoder.feed(wire), *decoder.close()]
    events[0].started.id, events[0].started.model = "cmpl_1", "m"
    encoder = ResponsesStreamEncoder(CALL, spare_id="resp_spare", now=lambda: 1_700_000_009)
    told = [
        json.loads(block.split("\ndata: ")[1])
        for block in encoder.feed(events).decode().split("\n\n")
        if block.startswith("event: ")
    ]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    check(told[-1]["response"], sent)
    assert [event["item"] for event in told if event["type"] == "response.output_item.done"] == sent["output"]
    assert [event for event in told if event["type"] == "response.web_search_call.searching"]


def test_what_an_upstream_says_too_little_of_is_completed() -> None:
    """An imitator of the dialect leaves out what the specification requires, or says null or nonsense."""
    sent = {**ANSWER, "temperature": None, "top_p": "high", "text": {}, "reasoning": {}, "tool_choice": {"type": "x"}}
    sent["tools"] = [{"type": "function", "name": "f"}, 1]
    completion = CODEC.decode_completion(json.dumps(sent).encode(), CALL.completion)
    shown = json.loads(answer.encode(completion, CALL.settings, now=1))
    check_response(shown)
    assert (shown["temperature"], shown["top_p"], shown["tool_choice"]) == (1.0, 1.0, {"type": "x"})
    assert shown["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}
    ]
