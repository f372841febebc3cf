"""Writes messages: the document, and the events in the order that Anthropic's clients rely on."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.answer import Answer
from dev.simulator.replies import Ask, Reply, ToolCall, argument_pieces, reply_to

from .errors import error_body
from .quirks import document_of, events_of, without_cache
from .requests import signature_of

Event = tuple[str, dict[str, Any]]

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
SEALED = "c2VhbGVkIHRob3VnaHQ="


def messages_answer(ask: Ask) -> Answer:
    """The answer to one request."""
    reply = reply_to(ask)
    usage = {
        "input_tokens": ask.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": reply.tokens,
        "service_tier": "standard",
    }
    return Answer(
        ask.plan,
        ask.stream,
        lambda: document_of(ask.plan, _message(ask, reply) | {"content": _blocks(ask, reply)}, usage),
        lambda: events_of(ask.plan, _events(ask, reply, usage), usage),
        error_body,
        tokens=(ask.prompt_tokens, reply.tokens),
    )


def _message(ask: Ask, reply: Reply) -> dict[str, Any]:
    return {
        "id": "msg_sim",
        "type": "message",
        "role": "assistant",
        "model": ask.plan.model,
        "content": [],
        "stop_reason": _stop_reason(ask, reply),
        "stop_sequence": None,
    }


def _stop_reason(ask: Ask, reply: Reply) -> str:
    plan = ask.plan
    if plan.fault == "tool-quirks" and plan.word("form") == "finish-stop":
        return "end_turn"
    return _STOPS[reply.finish]


def _blocks(ask: Ask, reply: Reply) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        thinking = "".join(reply.reasoning)
        blocks.append({"type": "thinking", "thinking": thinking, "signature": signature_of(thinking)})
        if ask.plan.word("field") == "both":
            blocks.append({"type": "redacted_thinking", "data": SEALED})
    if reply.pieces:
        blocks.append({"type": "text", "text": reply.text})
    blocks += [_call(ask, call, orjson.loads(call.arguments)) for call in reply.calls]
    return blocks


def _call(ask: Ask, call: ToolCall, given: Any) -> dict[str, Any]:
    block = {"type": "tool_use", "id": call.id.replace("call_", "toolu_"), "name": call.name, "input": given}
    if ask.plan.fault == "tool-quirks" and ask.plan.word("form") == "no-id":
        del block["id"]
    return block


def _events(ask: Ask, reply: Reply, usage: dict[str, Any]) -> list[Event]:
    """The beginning, a ping, each block with its pieces, why it ended, the end."""
    message = _message(ask, reply) | {"stop_reason": None, "usage": usage | {"output_tokens": 1}}
    events: list[Event] = [("message_start", {"message": message}), ("ping", {})]
    for index, block in enumerate(_blocks(ask, reply)):
        empty, deltas = _pieces(ask, reply, block)
        events.append(("content_block_start", {"index": index, "content_block": empty}))
        events += [("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
        events.append(("content_block_stop", {"index": index}))
    ended = {"stop_reason": _stop_reason(ask, reply), "stop_sequence": None}
    events.append(("message_delta", {"delta": ended, "usage": without_cache(usage)}))
    return [*events, ("message_stop", {})]


def _pieces(ask: Ask, reply: Reply, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and its deltas."""
    kind = block["type"]
    if kind == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in reply.pieces]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in reply.reasoning]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
    if kind == "redacted_thinking":
        return block, []
    if ask.plan.fault == "tool-quirks" and ask.plan.word("form") in ("whole", "object"):
        return block, []
    arguments = orjson.dumps(block["input"]).decode()
    pieces = ("", *argument_pieces(arguments))
    return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
