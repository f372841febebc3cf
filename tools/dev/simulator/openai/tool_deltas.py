"""How a tool call is cut into deltas: rightly, and in the ways of servers that imitate OpenAI."""

from __future__ import annotations

from typing import Any

import orjson

from dev.simulator.plan import Plan
from dev.simulator.replies import ToolCall, argument_pieces

Delta = dict[str, Any]


def call_object(call: ToolCall, plan: Plan) -> dict[str, Any]:
    """The whole call, as a unary answer has it."""
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    whole = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _arguments(call, plan)},
    }
    if _form(plan) == "no-id":
        del whole["id"]
    return whole


def call_deltas(calls: tuple[ToolCall, ...], plan: Plan) -> list[Delta]:
    """The deltas of all calls of one choice in order: the first of each names it, later ones carry pieces."""
    each = [_deltas(index, call, plan) for index, call in enumerate(calls)]
    if _form(plan) == "interleaved":
        longest = max(map(len, each))
        return [deltas[at] for at in range(longest) for deltas in each if at < len(deltas)]
    return [delta for deltas in each for delta in deltas]


def _form(plan: Plan) -> str:
    return plan.word("form") if plan.fault == "tool-quirks" else ""


def _arguments(call: ToolCall, plan: Plan) -> Any:
    if _form(plan) == "object":
        return orjson.loads(call.arguments)
    return None if _form(plan) == "null-arguments" else call.arguments


def _deltas(index: int, call: ToolCall, plan: Plan) -> list[Delta]:
    if call.custom:
        first: Delta = {"index": index, "id": call.id, "type": "custom"}
        first["custom"] = {"name": call.name, "input": ""}
        return [first] + [{"index": index, "custom": {"input": piece}} for piece in argument_pieces(call.arguments)]
    form = _form(plan)
    if form in ("whole", "object", "null-arguments"):
        return [{"index": index} | call_object(call, plan)]
    first = {"index": index, "id": call.id, "type": "function"}
    first["function"] = {"name": call.name, "arguments": ""}
    pieces = argument_pieces(call.arguments)
    deltas = [first] + [{"index": index, "function": {"arguments": piece}} for piece in pieces]
    for delta in deltas:
        _distort(delta, delta is first, form, call)
    return deltas


def _distort(delta: Delta, is_first: bool, form: str, call: ToolCall) -> None:
    if form == "no-index":
        del delta["index"]
    elif form == "zero-index":
        delta["index"] = 0
    elif form == "no-id" and is_first:
        del delta["id"]
    elif form == "late-name":
        if is_first:
            del delta["function"]["name"]
        elif delta["function"]["arguments"] == argument_pieces(call.arguments)[0]:
            delta["function"]["name"] = call.name
    if is_first:
        return
    if form == "repeat":
        delta.update(id=call.id, type="function")
        delta["function"]["name"] = call.name
    elif form == "repeat-id":
        delta["id"] = call.id
    elif form == "nulls":
        delta.update(id=None, type=None)
        delta["function"]["name"] = None
    elif form == "empty-name":
        delta["function"]["name"] = ""
