"""The faults that lie in the JSON of the Gemini API itself: usage, finish reasons, errors in a stream."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.openai.quirks import ERROR_MESSAGE, frame, halved, usage_of
from dev.simulator.plan import Plan

from .errors import error_object

Json = dict[str, Any]


def document_of(plan: Plan, document: Json, usage: Json) -> bytes:
    """The JSON document of a unary answer, with its usage and the fault's changes."""
    if plan.fault == "error-event":
        return orjson.dumps({"error": error_object(500, plan.word("reason"), ERROR_MESSAGE)})
    _distort(plan, document)
    if plan.fault == "no-finish":
        for candidate in document["candidates"]:
            del candidate["finishReason"]
    if plan.fault == "sparse":
        document = {"candidates": document["candidates"]}
    shown = usage_of(plan, usage)
    if shown is not None:
        document["usageMetadata"] = halved(usage) if plan.fault == "usage-twice" else shown
    body = orjson.dumps(document)
    if plan.fault == "usage-twice":
        body = body[:-1] + b',"usageMetadata":' + orjson.dumps(usage) + b"}"
    return body


def events_of(plan: Plan, documents: list[Json], usage: Json) -> tuple[bytes, ...]:
    """The framed events with the fault's changes; the usage grows from event to event."""
    if plan.fault == "no-finish":
        documents = [one for one in documents if "finishReason" not in one["candidates"][0]]
    shown = usage_of(plan, usage)
    for number, document in enumerate(documents, 1):
        _distort(plan, document)
        if shown is not None and number == len(documents):
            document["usageMetadata"] = shown
        elif shown is not None and plan.fault != "usage-place":
            said = usage["candidatesTokenCount"] * number // len(documents)
            document["usageMetadata"] = usage | {"candidatesTokenCount": said}
    if plan.fault == "sparse":
        documents = documents[:1] + [
            {name: one[name] for name in ("candidates", "usageMetadata") if name in one} for one in documents[1:]
        ]
    if plan.fault == "prelude":
        documents.insert(0, {"usageMetadata": {"promptTokenCount": 1}})
    framed = [frame(document) for document in documents]
    if plan.fault == "error-event":
        framed = framed[: min(plan.count("n"), len(framed) - 1)] + _error_events(plan)
    return tuple(framed)


def _distort(plan: Plan, document: Json) -> None:
    if plan.fault == "finish":
        for candidate in document["candidates"]:
            if "finishReason" in candidate:
                candidate["finishReason"] = plan.word("reason")


def _error_events(plan: Plan) -> list[bytes]:
    """The error as an event, bare in the middle of the stream, or in another form."""
    document = {"error": error_object(500, plan.word("reason"), ERROR_MESSAGE)}
    form = plan.word("form")
    if form in ("field", "flat"):
        return [orjson.dumps([document] if form == "flat" else document, option=orjson.OPT_INDENT_2) + b"\n"]
    if form in ("named", "named-flat"):
        return [b"event: error\n" + frame(document)]
    if form == "text":
        return [frame({"error": ERROR_MESSAGE})]
    return [] if form == "empty" else [frame(document)]
