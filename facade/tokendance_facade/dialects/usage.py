"""Usage and finish reasons in OpenAI's words, for all of its dialects."""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.documents import Document, add_extra

FINISH_REASONS: dict[int, str] = {
    pb.FINISH_REASON_UNSPECIFIED: "stop",
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
    pb.FINISH_REASON_CONTENT_FILTER: "content_filter",
    # The dialect has no words for these two; the native one is shown beside.
    pb.FINISH_REASON_PAUSE: "stop",
    pb.FINISH_REASON_OTHER: "stop",
}

SHOWS_NATIVE = frozenset({pb.FINISH_REASON_PAUSE, pb.FINISH_REASON_OTHER})
"""The finish reasons that say too little without the upstream's own word."""


def usage_document(usage: pb.Usage, account: pb.CallAccount | None = None, *, same_dialect: bool = True) -> Document:
    """Return usage as Chat Completions shows it: prompt tokens include cached ones, completion tokens reasoning.

    With `account`, also what the call cost, and whether that is an estimate. Fields that only the upstream's dialect
    knows are told where it is the `same_dialect`.
    """
    prompt: Document = {"cached_tokens": usage.cached_input_tokens, "audio_tokens": usage.audio_input_tokens}
    if usage.cache_write_tokens:
        prompt["cache_write_tokens"] = usage.cache_write_tokens
    if usage.image_input_tokens:
        prompt["image_tokens"] = usage.image_input_tokens
    document: Document = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    }
    if account is not None:
        if account.HasField("cost_micros"):
            document["cost_micros"] = account.cost_micros
        if account.estimated:
            document["estimated"] = True
    if same_dialect and usage.extra_json:
        add_extra(document, usage.extra_json)
    return document
