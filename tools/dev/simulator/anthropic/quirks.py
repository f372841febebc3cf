"""The faults that lie in the JSON of the Messages API itself: usage, stop reasons, errors in a stream."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.openai.quirks import ERROR_MESSAGE, halved, usage_of
from dev.simulator.plan import Plan

from .errors import envelope, error_object

Event = tuple[str, dict[str, Any]]
_CACHE = ("cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "service_tier")


def frame(name: str, fields: dict[str, Any]) -> bytes:
    """One SSE event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))


def without_cache(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage as it comes at the end: what is not repeated keeps what the beginning said."""
    return {name: value for name, value in usage.items() if name not in _CACHE}


def document_of(plan: Plan, document: dict[str, Any], usage: dict[str, Any]) -> bytes:
    """The JSON document of a unary answer, with its usage and the fault's changes."""
    if plan.fault == "error-event":
        return orjson.dumps(envelope(_error(plan)))
    if plan.fault == "no-finish":
        document["stop_reason"] = None
    if plan.fault == "finish":
        document["stop_reason"] = plan.word("reason")
    if plan.fault == "sparse":
        document = {name: document[name] for name in ("content", "stop_reason")}
    shown = usage_of(plan, usage)
    if shown is not None:
        document["usage"] = halved(usage) if plan.fault == "usage-twice" else shown
    body = orjson.dumps(document)
    if plan.fault == "usage-twice":
        body = body[:-1] + b',"usage":' + orjson.dumps(usage) + b"}"
    return body


def events_of(plan: Plan, events: list[Event], usage: dict[str, Any]) -> tuple[bytes, ...]:
    """The framed events with the fault's changes."""
    begun, (_, ended) = events[0][1]["message"], events[-2]
    if plan.fault.startswith("usage-"):
        _distort_usage(plan, begun, ended, usage)
    if plan.fault == "usage-twice":
        events.insert(-2, ("message_delta", {"delta": {}, "usage": halved(without_cache(usage))}))
    if plan.fault == "finish":
        ended["delta"]["stop_reason"] = plan.word("reason")
    if plan.fault == "no-finish":
        del events[-2]
    if plan.fault == "no-done":
        events.pop()
    if plan.fault == "prelude":
        events.insert(0, ("ping", {}))
        events.insert(2, ("upstream_canary", {"note": "an event of a later version"}))
    if plan.fault == "sparse":
        events[0][1]["message"] = {"id": begun["id"], "usage": begun["usage"]}
    framed = [frame(name, fields) for name, fields in events]
    if plan.fault == "error-event":
        kept = min(plan.count("n"), len(framed) - 2)
        framed = framed[:kept] + _error_events(plan)
    return tuple(framed)


def _distort_usage(plan: Plan, begun: dict[str, Any], ended: dict[str, Any], usage: dict[str, Any]) -> None:
    for place in (begun, ended):
        shown = usage_of(plan, place["usage"])
        if shown is None:
            del place["usage"]
        else:
            place["usage"] = shown
    if plan.fault == "usage-place":
        ended["usage"] = usage


def _error(plan: Plan) -> dict[str, Any]:
    return error_object(500, plan.word("reason"), ERROR_MESSAGE)


def _error_events(plan: Plan) -> list[bytes]:
    """The error of the API, or one in a form of servers that imitate it."""
    error, form = _error(plan), plan.word("form")
    if form in ("flat", "named-flat"):
        return [frame("error", error | {"type": "error"})]
    if form == "text":
        return [b"event: error\ndata: %b\n\n" % orjson.dumps({"error": ERROR_MESSAGE})]
    if form == "groq":
        return [frame("message_delta", {"delta": {}, "error": error})]
    if form == "empty":
        return []
    return [frame("error", {"error": error})]
