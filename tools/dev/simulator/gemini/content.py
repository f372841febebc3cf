"""Writes answers of generateContent: the document, and the whole documents of which its stream consists."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.answer import Answer
from dev.simulator.plan import Plan
from dev.simulator.replies import Ask, Reply, ToolCall, reply_to

from .errors import error_body
from .quirks import document_of, events_of
from .requests import signature_of

Json = dict[str, Any]

_FINISH = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS"}


def content_answer(ask: Ask) -> Answer:
    """The answer to one request."""
    reply = reply_to(ask)
    usage = usage_object(ask, reply)
    return Answer(
        ask.plan,
        ask.stream,
        lambda: document_of(ask.plan, _document(ask, reply), usage),
        lambda: events_of(ask.plan, _documents(ask, reply), usage),
        error_body,
        tokens=(usage["promptTokenCount"], reply.tokens * ask.choices),
    )


def usage_object(ask: Ask, reply: Reply) -> Json:
    """The usage: thinking is counted beside the candidates."""
    tokens = reply.tokens * ask.choices
    thoughts = reply.reasoning_tokens * ask.choices
    usage = {
        "promptTokenCount": ask.prompt_tokens,
        "candidatesTokenCount": tokens - thoughts,
        "totalTokenCount": ask.prompt_tokens + tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": ask.prompt_tokens}],
    }
    return usage | {"thoughtsTokenCount": thoughts} if thoughts else usage


def _envelope(plan: Plan, candidates: list[Json]) -> Json:
    return {"candidates": candidates, "modelVersion": plan.model, "responseId": "resp-sim"}


def _document(ask: Ask, reply: Reply) -> Json:
    parts = [{"text": "".join(reply.reasoning), "thought": True}] if reply.reasoning else []
    if reply.pieces:
        parts.append({"text": reply.text})
    parts += _calls(ask.plan, reply.calls)
    candidates = [
        {"content": {"parts": parts, "role": "model"}, "finishReason": _FINISH[reply.finish], "index": index}
        for index in range(ask.choices)
    ]
    return _envelope(ask.plan, candidates)


def _documents(ask: Ask, reply: Reply) -> list[Json]:
    """The thinking, the text, all calls at once, the finish; the candidates interleaved."""
    steps: list[list[Json]] = [[{"text": piece, "thought": True}] for piece in reply.reasoning]
    steps += [[{"text": piece}] for piece in reply.pieces]
    if reply.calls:
        steps.append(_calls(ask.plan, reply.calls))
    told = [
        _envelope(ask.plan, [{"content": {"parts": parts, "role": "model"}, "index": index}])
        for parts in steps
        for index in range(ask.choices)
    ]
    ends = [
        {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": _FINISH[reply.finish], "index": index}
        for index in range(ask.choices)
    ]
    return told + [_envelope(ask.plan, [end]) for end in ends]


def _calls(plan: Plan, calls: tuple[ToolCall, ...]) -> list[Json]:
    """Whole calls without ids, of which only the first is signed."""
    form = plan.word("form") if plan.fault == "tool-quirks" else ""
    parts: list[Json] = []
    for call in calls:
        about: Json = {"name": call.name, "args": orjson.loads(call.arguments)}
        if form == "null-arguments":
            about["args"] = None
        elif form in ("repeat", "repeat-id"):
            about["id"] = call.id
        elif form == "empty-name":
            about["name"] = ""
        part: Json = {"functionCall": about}
        if not parts:
            part["thoughtSignature"] = signature_of(call.name)
        parts.append(part)
    return parts
