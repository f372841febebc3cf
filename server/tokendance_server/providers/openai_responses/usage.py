"""Token counts of the Responses API, which are those of Chat Completions under other names."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.openai.usage import read_usage as read_counts

_NAMES = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
    "total_tokens": "total_tokens",
}
_BACK = {theirs: ours for ours, theirs in _NAMES.items()}


def read_usage(counts: Any, request: pb.CompletionRequest, output_bytes: int) -> pb.Usage:
    """Return the usage of an answer of `output_bytes` bytes of UTF-8 to `request`; what is missing is estimated."""
    told = counts if isinstance(counts, dict) else {}
    usage = read_counts({_NAMES[name]: told[name] for name in _NAMES if name in told}, request, output_bytes)
    if usage.extra_json:
        unknown = json_text.read(usage.extra_json)
        usage.extra_json = json_text.write_object({_BACK[name]: value for name, value in unknown.items()})
    return usage
