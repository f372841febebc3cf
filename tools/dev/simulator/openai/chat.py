"""Writes chat completions: the document, and the chunks in the order that OpenAI's clients rely on."""

from __future__ import annotations

from typing import Any

from dev.simulator.answer import Answer
from dev.simulator.replies import Ask, Reply, reply_to

from .errors import error_body
from .quirks import Chunk, document_of, events_of
from .tool_deltas import call_deltas, call_object

CREATED = 1_767_225_600
"""All answers are from 2026-01-01T00:00:00Z, so that equal requests have equal answers."""


def chat_answer(ask: Ask) -> Answer:
    """The answer to one chat request."""
    reply = reply_to(ask)
    usage = usage_object(ask, reply)
    return Answer(
        ask.plan,
        ask.stream,
        lambda: document_of(ask.plan, _document(ask, reply), usage),
        lambda: events_of(ask.plan, _chunks(ask, reply), usage, ask.include_usage),
        error_body,
        tokens=(usage["prompt_tokens"], usage["completion_tokens"]),
    )


def usage_object(ask: Ask, reply: Reply) -> dict[str, Any]:
    """The usage: prompt once, completion for every choice."""
    completion_tokens = reply.tokens * ask.choices
    return {
        "prompt_tokens": ask.prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": ask.prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reply.reasoning_tokens * ask.choices,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _envelope(ask: Ask, kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-sim",
        "object": kind,
        "created": CREATED,
        "model": ask.plan.model,
        "service_tier": "default",
        "system_fingerprint": "fp_sim",
    }


def _document(ask: Ask, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if reply.calls else _think_tag(ask, reply) + reply.text,
        "refusal": None,
        "annotations": [],
    }
    for name in _reasoning_fields(ask):
        message[name] = "".join(reply.reasoning)
    if reply.calls:
        message["tool_calls"] = [call_object(call, ask.plan) for call in reply.calls]
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": _finish(ask, reply)}
        for index in range(ask.choices)
    ]
    return _envelope(ask, "chat.completion") | {"choices": choices}


def _chunks(ask: Ask, reply: Reply) -> list[Chunk]:
    """For each choice the role, the thinking, the text, the calls, the finish; the choices interleaved."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if reply.calls else ""}]
    fields = _reasoning_fields(ask)
    if fields:
        deltas += [dict.fromkeys(fields, piece) for piece in reply.reasoning]
    elif reply.reasoning:
        inline = ["<th", "ink>", *reply.reasoning, "</thi", "nk>"]
        deltas += [{"content": piece} for piece in inline]
    deltas += [{"content": piece} for piece in reply.pieces]
    deltas += [{"tool_calls": [delta]} for delta in call_deltas(reply.calls, ask.plan)]
    chunks = [_chunk(ask, index, delta, None) for delta in deltas for index in range(ask.choices)]
    return chunks + [_chunk(ask, index, {}, _finish(ask, reply)) for index in range(ask.choices)]


def _chunk(ask: Ask, index: int, delta: dict[str, Any], finish: str | None) -> Chunk:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _envelope(ask, "chat.completion.chunk") | {"choices": [choice]}


def _finish(ask: Ask, reply: Reply) -> str:
    plan = ask.plan
    if plan.fault == "tool-quirks" and plan.word("form") == "finish-stop":
        return "stop"
    return reply.finish


def _reasoning_fields(ask: Ask) -> tuple[str, ...]:
    """The fields that carry the thinking; none if there is none, or if it is inline."""
    if ask.plan.fault != "reasoning" or ask.plan.word("field") == "think":
        return ()
    field = ask.plan.word("field")
    return ("reasoning_content", "reasoning") if field == "both" else (field,)


def _think_tag(ask: Ask, reply: Reply) -> str:
    inline = reply.reasoning and not _reasoning_fields(ask)
    return f"<think>{''.join(reply.reasoning)}</think>" if inline else ""
