"""The faults of OpenAI's imitators that lie in the JSON itself: usage, finish, errors in a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from dev.simulator.plan import Plan

from .errors import error_object

DONE = b"data: [DONE]\n\n"
ERROR_MESSAGE = "The upstream gave up in the middle of the answer (upstream-error-canary)."

Chunk = dict[str, Any]


def frame(chunk: Chunk) -> bytes:
    """One SSE event."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def usage_of(plan: Plan, usage: dict[str, Any]) -> Any:
    """The usage object as the fault distorts it; None if it is to be missing."""
    if plan.fault == "usage-missing":
        return None
    if plan.fault == "usage-negative":
        return usage | {name: -usage[name] for name in usage if isinstance(usage[name], int)}
    if plan.fault == "usage-float":
        return usage | {name: usage[name] + 0.5 for name in usage if isinstance(usage[name], int)}
    if plan.fault == "usage-absurd":
        value = orjson.Fragment(b'"12"' if plan.word("value") == "text" else plan.word("value").encode())
        return usage | {name: value for name in usage if isinstance(usage[name], int)}
    return usage


def halved(usage: dict[str, Any]) -> dict[str, Any]:
    """An earlier state of the same usage, which a later one must overwrite."""
    return usage | {name: usage[name] // 2 for name in usage if isinstance(usage[name], int)}


def document_of(plan: Plan, document: dict[str, Any], usage: dict[str, Any]) -> bytes:
    """The JSON document of a unary answer, with its usage and the fault's changes."""
    choices = document["choices"]
    if plan.fault == "error-event":
        return orjson.dumps({"error": error_object(500, "auto", ERROR_MESSAGE)})
    if plan.fault == "no-finish":
        for choice in choices:
            choice["finish_reason"] = None
    if plan.fault == "finish":
        for choice in choices:
            choice["finish_reason"] = plan.word("reason")
    if plan.fault == "sparse":
        document = {"choices": choices}
    shown = usage_of(plan, usage)
    if shown is not None:
        document["usage"] = halved(usage) if plan.fault == "usage-twice" else shown
    body = orjson.dumps(document)
    if plan.fault == "usage-twice":
        body = body[:-1] + b',"usage":' + orjson.dumps(usage) + b"}"
    return body


def events_of(plan: Plan, chunks: list[Chunk], usage: dict[str, Any], include_usage: bool) -> tuple[bytes, ...]:
    """The framed events: the chunks, a usage chunk if asked for, [DONE], and the fault's changes."""
    usage_chunks = _usage_chunks(plan, chunks, usage) if include_usage else []
    if include_usage:
        for chunk in chunks:
            chunk.setdefault("usage", None)
    if plan.fault == "usage-place":
        _place_usage(plan.word("at"), chunks, usage)
        usage_chunks = []
    if plan.fault == "finish":
        for choice in _finish_choices(chunks):
            choice["finish_reason"] = plan.word("reason")
    if plan.fault == "no-finish":
        chunks = [chunk for chunk in chunks if not any(_finish_choices([chunk]))]
    if plan.fault == "prelude":
        prelude = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        chunks.insert(0, prelude | {"prompt_filter_results": [{"prompt_index": 0}]})
    if plan.fault == "sparse":
        chunks = [chunks[0]] + [{"id": None, "choices": chunk["choices"]} for chunk in chunks[1:]]
    framed = [frame(chunk) for chunk in chunks + usage_chunks] + [DONE]
    if plan.fault == "no-done":
        framed.pop()
    if plan.fault == "error-event":
        kept = min(plan.count("n"), len(chunks))
        framed = framed[:kept] + _error_events(plan.word("form"), chunks[0])
    return tuple(framed)


def _usage_chunks(plan: Plan, chunks: list[Chunk], usage: dict[str, Any]) -> list[Chunk]:
    base = {name: value for name, value in chunks[0].items() if name not in ("choices", "usage")}
    shown = [usage_of(plan, usage)]
    if plan.fault == "usage-twice":
        shown.insert(0, halved(usage))
    return [base | {"choices": [], "usage": one} for one in shown if one is not None]


def _finish_choices(chunks: list[Chunk]) -> Iterator[dict[str, Any]]:
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["finish_reason"] is not None:
                yield choice


def _place_usage(place: str, chunks: list[Chunk], usage: dict[str, Any]) -> None:
    last = chunks[-1]
    if place == "finish":
        last["usage"] = usage
    elif place == "choice":
        last["choices"][0]["usage"] = usage
    elif place == "groq":
        last["x_groq"] = {"id": "req_upstream_canary", "usage": usage}
    elif place == "every":
        for number, chunk in enumerate(chunks):
            done = usage["completion_tokens"] * number // max(1, len(chunks) - 1)
            total = usage["prompt_tokens"] + done
            chunk["usage"] = usage | {"completion_tokens": done, "total_tokens": total}


def _error_events(form: str, chunk: Chunk) -> list[bytes]:
    error = error_object(500, "auto", ERROR_MESSAGE)
    if form == "openai":
        return [frame({"error": error})]
    if form == "done":
        return [frame({"error": error}), DONE]
    if form == "named":
        return [b"event: error\n" + frame({"error": error})]
    if form == "named-flat":
        return [b"event: error\n" + frame(error)]
    if form == "flat":
        return [frame({"object": "error", "message": ERROR_MESSAGE, "type": "server_error", "code": 500})]
    if form == "field":
        return [b"error: " + orjson.dumps(error) + b"\n\n"]
    if form == "text":
        return [frame({"error": ERROR_MESSAGE})]
    base = {name: value for name, value in chunk.items() if name not in ("choices", "usage")}
    if form == "groq":
        return [frame(base | {"choices": [], "x_groq": {"error": ERROR_MESSAGE}})]
    if form == "empty":
        return [frame({"id": "", "object": "", "created": 0, "model": "", "choices": []})]
    failed = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    return [frame(base | {"choices": [failed], "error": {"code": 502, "message": ERROR_MESSAGE}}), DONE]
