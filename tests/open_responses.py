"""What the Open Responses specification requires of each answer and event: its keys, and what they may hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

Check = Callable[[Any], bool]


def _is(*kinds: type) -> Check:
    return lambda value: type(value) in kinds


_TEXT, _WHOLE, _NUMBER, _TRUTH, _LIST, _OBJECT = _is(str), _is(int), _is(int, float), _is(bool), _is(list), _is(dict)


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


RESPONSE: dict[str, Check] = {
    "id": _TEXT,
    "object": lambda value: value == "response",
    "created_at": _WHOLE,
    "completed_at": _or_null(_WHOLE),
    "status": lambda value: value in ("completed", "failed", "in_progress", "cancelled", "queued", "incomplete"),
    "incomplete_details": _or_null(_OBJECT),
    "model": _TEXT,
    "previous_response_id": _or_null(_TEXT),
    "instructions": _or_null(_TEXT),
    "output": _LIST,
    "error": _or_null(_OBJECT),
    "tools": _LIST,
    "tool_choice": _is(str, dict),
    "truncation": lambda value: value in ("auto", "disabled"),
    "parallel_tool_calls": _TRUTH,
    "text": lambda value: type(value) is dict and type(value.get("format")) is dict,
    "top_p": _NUMBER,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "top_logprobs": _WHOLE,
    "temperature": _NUMBER,
    "reasoning": _or_null(lambda value: {"effort", "summary"} <= value.keys()),
    "usage": _or_null(_OBJECT),
    "max_output_tokens": _or_null(_WHOLE),
    "max_tool_calls": _or_null(_WHOLE),
    "store": _TRUTH,
    "background": _TRUTH,
    "service_tier": _TEXT,
    "metadata": _OBJECT,
    "safety_identifier": _or_null(_TEXT),
    "prompt_cache_key": _or_null(_TEXT),
}
USAGE: dict[str, Check] = {
    "input_tokens": _WHOLE,
    "output_tokens": _WHOLE,
    "total_tokens": _WHOLE,
    "input_tokens_details": lambda value: type(value.get("cached_tokens")) is int,
    "output_tokens_details": lambda value: type(value.get("reasoning_tokens")) is int,
}
ITEMS: dict[str, dict[str, Check]] = {
    "message": {
        "id": _TEXT,
        "status": _TEXT,
        "role": lambda value: value == "assistant",
        "content": _LIST,
    },
    "function_call": {"id": _TEXT, "call_id": _TEXT, "name": _TEXT, "arguments": _TEXT, "status": _TEXT},
    "custom_tool_call": {"id": _TEXT, "call_id": _TEXT, "name": _TEXT, "input": _TEXT},
    "reasoning": {"id": _TEXT, "summary": _LIST},
}
PARTS: dict[str, dict[str, Check]] = {
    "output_text": {"text": _TEXT, "annotations": _LIST, "logprobs": _LIST},
    "refusal": {"refusal": _TEXT},
    "reasoning_text": {"text": _TEXT},
    "summary_text": {"text": _TEXT},
}
_PLACE: dict[str, Check] = {"item_id": _TEXT, "output_index": _WHOLE}
_IN_CONTENT = _PLACE | {"content_index": _WHOLE}
_IN_SUMMARY = _PLACE | {"summary_index": _WHOLE}
_LIFECYCLE: dict[str, Check] = {"response": _OBJECT}
EVENTS: dict[str, dict[str, Check]] = {
    **{
        f"response.{word}": _LIFECYCLE
        for word in ("queued", "created", "in_progress", "completed", "failed", "incomplete")
    },
    "response.output_item.added": {"output_index": _WHOLE, "item": _OBJECT},
    "response.output_item.done": {"output_index": _WHOLE, "item": _OBJECT},
    "response.content_part.added": _IN_CONTENT | {"part": _OBJECT},
    "response.content_part.done": _IN_CONTENT | {"part": _OBJECT},
    "response.output_text.delta": _IN_CONTENT | {"delta": _TEXT, "logprobs": _LIST},
    "response.output_text.done": _IN_CONTENT | {"text": _TEXT, "logprobs": _LIST},
    "response.output_text.annotation.added": _IN_CONTENT | {"annotation_index": _WHOLE, "annotation": _OBJECT},
    "response.refusal.delta": _IN_CONTENT | {"delta": _TEXT},
    "response.refusal.done": _IN_CONTENT | {"refusal": _TEXT},
    "response.function_call_arguments.delta": _PLACE | {"delta": _TEXT},
    "response.function_call_arguments.done": _PLACE | {"arguments": _TEXT},
    "response.custom_tool_call_input.delta": _PLACE | {"delta": _TEXT},
    "response.custom_tool_call_input.done": _PLACE | {"input": _TEXT},
    "response.reasoning_summary_part.added": _IN_SUMMARY | {"part": _OBJECT},
    "response.reasoning_summary_part.done": _IN_SUMMARY | {"part": _OBJECT},
    "response.reasoning_summary_text.delta": _IN_SUMMARY | {"delta": _TEXT},
    "response.reasoning_summary_text.done": _IN_SUMMARY | {"text": _TEXT},
    "response.reasoning_text.delta": _IN_CONTENT | {"delta": _TEXT},
    "response.reasoning_text.done": _IN_CONTENT | {"text": _TEXT},
    **{f"response.web_search_call.{word}": _PLACE for word in ("in_progress", "searching", "completed")},
    "error": {"error": lambda value: {"type", "code", "message", "param"} <= value.keys()},
    "keepalive": {},
}
ENDS = frozenset({"response.completed", "response.failed", "response.incomplete"})


def check_response(document: dict[str, Any]) -> None:
    """Raise AssertionError where an answer lacks a key, or holds what no reader of the specification takes."""
    _check(document, RESPONSE, "the answer")
    if document["usage"] is not None:
        _check(document["usage"], USAGE, "usage")
    for tool in document["tools"]:
        if tool["type"] == "function":
            assert {"name", "description", "parameters", "strict"} <= tool.keys(), tool
    for item in document["output"]:
        check_item(item)
    statuses = [item.get("status") for item in document["output"]]
    assert "incomplete" not in statuses[:-1]


def check_item(item: dict[str, Any]) -> None:
    """Raise AssertionError for an item that lacks a key."""
    _check(item, ITEMS.get(item["type"], {}), f"an item of the type {item['type']}")
    for part in (*item.get("content", ()), *item.get("summary", ())):
        _check(part, PARTS[part["type"]], f"a part of the type {part['type']}")


def read_events(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream; raises AssertionError for one that is not as the specification wants it."""
    blocks = text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""], text[-300:]
    events = []
    for block in blocks[:-2]:
        head, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        events.append(event)
    check_events(events)
    return events


def check_events(events: Iterable[dict[str, Any]]) -> None:
    """Raise AssertionError where events lack keys, are numbered wrongly, or do not end once and last."""
    told = list(events)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert told[0]["type"] == "response.created"
    assert [event["type"] for event in told if event["type"] in ENDS] == [told[-1]["type"]]
    opened: set[int] = set()
    for event in told:
        _check(event, EVENTS[event["type"]], event["type"])
        if "response" in event:
            check_response(event["response"])
        elif "item" in event:
            check_item(event["item"])
            if event["type"].endswith(".added"):
                assert event["output_index"] == len(opened)
                opened.add(event["output_index"])
        elif "part" in event:
            _check(event["part"], PARTS[event["part"]["type"]], event["type"])
    done = [event for event in told if event["type"] == "response.output_item.done"]
    if told[-1]["type"] != "response.failed":
        assert [event["item"] for event in sorted(done, key=lambda one: one["output_index"])] == told[-1]["response"][
            "output"
        ]


def _check(document: dict[str, Any], keys: dict[str, Check], what: str) -> None:
    for key, check in keys.items():
        assert key in document, f"{what} lacks {key}: {document}"
        assert check(document[key]), f"{what} has {key} = {document[key]!r}"
