"""Token counts of Gemini: read where they can be believed, estimated from text lengths where not."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import estimate_input, tokens_of

MOST_TOKENS = 1_000_000_000
"""No call uses more; a larger count is nonsense."""

_INPUT_DETAILS = {"AUDIO": "audio_input_tokens", "IMAGE": "image_input_tokens"}
_OUTPUT_DETAILS = {"AUDIO": "audio_output_tokens"}


def read_usage(counts: Any, request: pb.CompletionRequest, output_bytes: int) -> pb.Usage:
    """Return the usage of an answer of `output_bytes` bytes of UTF-8 to `request`.

    The prompt of tools that the upstream ran is part of the prompt, and thinking part of the answer: where the total
    says that the answer's count holds the thinking already, it is not added again. A count that is missing or cannot
    be is estimated, and the source says so.
    """
    counts = counts if isinstance(counts, dict) else {}
    prompt = _count(counts.get("promptTokenCount"))
    tools = _count(counts.get("toolUsePromptTokenCount")) or 0
    said = _count(counts.get("candidatesTokenCount"))
    thoughts = _count(counts.get("thoughtsTokenCount")) or 0
    total = _count(counts.get("totalTokenCount"))
    if said is None and prompt is not None and (thoughts or total is not None):
        # An answer of nothing but thinking, or none at all, has no count of its own.
        said = max(0, total - prompt - tools - thoughts) if total is not None else 0
    believed = prompt is not None and said is not None
    input_tokens = estimate_input(request) if prompt is None else prompt + tools
    if said is None:
        output_tokens = tokens_of(output_bytes)
    elif thoughts <= said and total == (prompt or 0) + tools + said:
        output_tokens = said
    else:
        output_tokens = said + thoughts
    usage = pb.Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=min(_count(counts.get("cachedContentTokenCount")) or 0, input_tokens),
        reasoning_tokens=min(thoughts, output_tokens),
        source=pb.USAGE_SOURCE_PROVIDER if believed else pb.USAGE_SOURCE_ESTIMATED,
    )
    _read_details(counts, usage)
    return usage


def _read_details(counts: dict[str, Any], usage: pb.Usage) -> None:
    unknown: dict[str, dict[str, int]] = {}
    for place, fields in (("promptTokensDetails", _INPUT_DETAILS), ("candidatesTokensDetails", _OUTPUT_DETAILS)):
        details = counts.get(place)
        for one in details if isinstance(details, list) else ():
            kind = one.get("modality") if isinstance(one, dict) else None
            count = _count(one.get("tokenCount")) if isinstance(kind, str) else None
            if not count or kind == "TEXT":
                continue
            if kind in fields:
                setattr(usage, fields[kind], count)
            else:
                unknown.setdefault(place, {})[str(kind)] = count
    usage.extra_json = json_text.write_object(unknown)


def _count(value: Any) -> int | None:
    """A believable count, or None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_TOKENS else None
