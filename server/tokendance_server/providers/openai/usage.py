"""Token counts of the OpenAI dialect: read where they can be believed, estimated from text lengths where not."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import estimate_input, tokens_of

MOST_TOKENS = 1_000_000_000
"""No call uses more; a larger count is nonsense."""

_INPUT_DETAILS = {
    "cached_tokens": "cached_input_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "audio_tokens": "audio_input_tokens",
    "image_tokens": "image_input_tokens",
}
_OUTPUT_DETAILS = {
    "reasoning_tokens": "reasoning_tokens",
    "audio_tokens": "audio_output_tokens",
    "accepted_prediction_tokens": "accepted_prediction_tokens",
    "rejected_prediction_tokens": "rejected_prediction_tokens",
}


def find_usage(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the usage object of an answer or a chunk, wherever servers put it: overwrite, never add."""
    found = document.get("usage")
    if not isinstance(found, dict):
        choices = document.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            found = choices[0].get("usage")
    if not isinstance(found, dict):
        found = document.get("x_groq")
        found = found.get("usage") if isinstance(found, dict) else None
    return found if isinstance(found, dict) and found else None


def read_usage(counts: dict[str, Any] | None, request: pb.CompletionRequest, output_bytes: int) -> pb.Usage:
    """Return the usage of an answer of `output_bytes` bytes of UTF-8 to `request`.

    A count that is missing, negative, no whole number or above MOST_TOKENS is estimated, and the source says so.
    """
    counts = counts or {}
    input_tokens = _count(counts.get("prompt_tokens"))
    output_tokens = _count(counts.get("completion_tokens"))
    total = _count(counts.get("total_tokens"))
    if output_tokens is None and total is not None and input_tokens is not None and total >= input_tokens:
        output_tokens = total - input_tokens
    believed = input_tokens is not None and output_tokens is not None
    usage = pb.Usage(
        input_tokens=estimate_input(request) if input_tokens is None else input_tokens,
        output_tokens=tokens_of(output_bytes) if output_tokens is None else output_tokens,
        source=pb.USAGE_SOURCE_PROVIDER if believed else pb.USAGE_SOURCE_ESTIMATED,
    )
    _read_details(counts, total, usage)
    return usage


def _read_details(counts: dict[str, Any], total: int | None, usage: pb.Usage) -> None:
    unknown: dict[str, dict[str, int]] = {}
    for place, fields in (("prompt_tokens_details", _INPUT_DETAILS), ("completion_tokens_details", _OUTPUT_DETAILS)):
        details = counts.get(place)
        if not isinstance(details, dict):
            continue
        for name, value in details.items():
            if not value or not (count := _count(value)):
                continue
            if name in fields:
                setattr(usage, fields[name], count)
            else:
                unknown.setdefault(place, {})[name] = count
    if not usage.cached_input_tokens:
        usage.cached_input_tokens = _count(counts.get("prompt_cache_hit_tokens")) or 0
    reasoning = usage.reasoning_tokens
    # One server leaves reasoning out of its completion tokens; its total gives it away.
    if reasoning and total == usage.input_tokens + usage.output_tokens + reasoning:
        usage.output_tokens += reasoning
    usage.cached_input_tokens = min(usage.cached_input_tokens, usage.input_tokens)
    usage.reasoning_tokens = min(reasoning, usage.output_tokens)
    if unknown:
        usage.extra_json = json_text.write_object(unknown)


def _count(value: Any) -> int | None:
    """A believable count, or None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_TOKENS else None
