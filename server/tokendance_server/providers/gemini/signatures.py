"""Thought signatures: the upstream's own proofs, which must come back with the turn that they were given with.

A signature travels in two places, because no dialect of a caller brings both back: with the tool call that it stands
on, and marked as this dialect's with the turn's reasoning. A mark tells it from a signature of another family, which
this upstream would refuse.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text

MARK = "g1."
"""Before a signature that travels with reasoning. No other family's signature has a full stop."""

CHAT_FIELD = "extra_content"
"""The unknown field of a call in which chat clients bring a signature back."""

SKIP = "skip_thought_signature_validator"
"""What the upstream takes in place of a signature that was lost."""

_MOST_BYTES = 1024 * 1024


def read_signature(value: Any) -> bytes:
    """Return the signature on a part of an answer; empty where there is none that can be read.

    It comes in either alphabet of base64, with or without padding.
    """
    if not isinstance(value, str) or not value or len(value) > _MOST_BYTES:
        return b""
    plain = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def write_signature(signature: bytes) -> str:
    """Return a signature as the upstream takes it."""
    return base64.b64encode(signature).decode()


def marked(signature: bytes) -> str:
    """Return a signature as it travels with reasoning."""
    return MARK + write_signature(signature)


def signature_of_reasoning(reasoning: pb.ReasoningContent) -> bytes:
    """Return the signature that came with reasoning; empty where it has none, or one of another family."""
    for text in (reasoning.signature, reasoning.encrypted_content):
        if text.startswith(MARK):
            return read_signature(text.removeprefix(MARK))
    return b""


def signature_of_call(part: pb.Part) -> bytes:
    """Return the signature of a call of an earlier turn: its own, or the one that a chat client brought back."""
    if part.tool_call.signature:
        return part.tool_call.signature
    if not part.extra_json:
        return b""
    extra = json_text.caller_extra(part.extra_json, "extra_json").get(CHAT_FIELD)
    about = extra.get("google") if isinstance(extra, dict) else None
    return read_signature(about.get("thought_signature")) if isinstance(about, dict) else b""
