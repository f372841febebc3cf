"""Usage and reasons to stop in the words of this dialect."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra

_REASONS = {
    pb.FINISH_REASON_LENGTH: "max_tokens",
    pb.FINISH_REASON_TOOL_CALLS: "tool_use",
    pb.FINISH_REASON_CONTENT_FILTER: "refusal",
    pb.FINISH_REASON_PAUSE: "pause_turn",
}


def usage_document(usage: pb.Usage, account: pb.CallAccount | None, *, same_dialect: bool) -> Document:
    """Return usage: `input_tokens` without what was read from a cache or written to it, output with reasoning.

    With `account`, also what the call cost, and whether that is an estimate.
    """
    fresh = usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens
    document: Document = {
        "input_tokens": max(fresh, 0),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        document["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if account is not None:
        if account.HasField("cost_micros"):
            document["cost_micros"] = account.cost_micros
        if account.estimated:
            document["estimated"] = True
    if same_dialect and usage.extra_json:
        add_extra(document, usage.extra_json)
    return document


def stop_fields(
    reason: pb.FinishReason.ValueType, native: str, stop_sequence: str, *, same_dialect: bool, refused: bool = False
) -> dict[str, Any]:
    """Return `stop_reason` and `stop_sequence`. `refused`: the answer holds a refusal in words."""
    word = _REASONS.get(reason)
    if same_dialect and native and reason != pb.FINISH_REASON_TOOL_CALLS:
        word = native
    elif word is None:
        word = "refusal" if refused else "stop_sequence" if stop_sequence else "end_turn"
    return {"stop_reason": word, "stop_sequence": stop_sequence or None}
