"""Token counts of the Messages API, which tells a prompt in three parts: new, read from a cache, written to it."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import estimate_input, tokens_of
from tokendance_server.providers.openai.usage import MOST_TOKENS

_READ = frozenset({"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"})


def merge_counts(known: dict[str, Any], told: Any) -> None:
    """Put later counts over earlier ones; what is absent or null stays."""
    if isinstance(told, dict):
        known.update((name, value) for name, value in told.items() if value is not None)


def read_usage(counts: dict[str, Any], request: pb.CompletionRequest, output_bytes: int) -> pb.Usage:
    """Return the usage of an answer of `output_bytes` bytes of UTF-8 to `request`.

    A count that is missing, negative, no whole number or above MOST_TOKENS is estimated, and the source says so.
    """
    fresh, output = _count(counts.get("input_tokens")), _count(counts.get("output_tokens"))
    read = _count(counts.get("cache_read_input_tokens")) or 0
    written = _count(counts.get("cache_creation_input_tokens")) or 0
    believed = fresh is not None and output is not None
    usage = pb.Usage(
        input_tokens=max(estimate_input(request), read + written) if fresh is None else fresh + read + written,
        output_tokens=tokens_of(output_bytes) if output is None else output,
        cached_input_tokens=read,
        cache_write_tokens=written,
        source=pb.USAGE_SOURCE_PROVIDER if believed else pb.USAGE_SOURCE_ESTIMATED,
    )
    details = counts.get("output_tokens_details")
    thinking = _count(details.get("thinking_tokens")) if isinstance(details, dict) else None
    usage.reasoning_tokens = min(thinking or 0, usage.output_tokens)
    usage.extra_json = json_text.write_object({name: value for name, value in counts.items() if name not in _READ})
    return usage


def _count(value: Any) -> int | None:
    """A believable count, or None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_TOKENS else None
