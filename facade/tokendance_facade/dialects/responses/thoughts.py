"""Reasoning of providers with another form of it, as the `encrypted_content` of a reasoning item, and back.

Callers send reasoning items back as they came. What a provider wants to see again (its text, its signature) travels
there as one opaque text of our own. It holds nothing that the caller may not know, and is believed as the caller's.
"""

from __future__ import annotations

import base64
import binascii

from google.protobuf.message import DecodeError

from tokendance.gateway.v1 import completion_pb2 as pb

PREFIX = "tdr1."


def pack(thought: pb.ReasoningContent) -> str:
    """Return what to show as `encrypted_content`: the upstream's own, or ours, or nothing where none is needed."""
    if thought.encrypted_content and not thought.signature and not thought.redacted:
        return thought.encrypted_content
    if not thought.signature and not thought.encrypted_content:
        return ""
    whole = pb.ReasoningContent(
        text=thought.text,
        encrypted_content=thought.encrypted_content,
        signature=thought.signature,
        redacted=thought.redacted,
    )
    return PREFIX + base64.urlsafe_b64encode(whole.SerializeToString()).decode()


def unpack(thought: pb.ReasoningContent) -> None:
    """Put back what `pack` has put away. Opaque reasoning of others, and what was damaged, stays as it is."""
    if not thought.encrypted_content.startswith(PREFIX):
        return
    try:
        data = base64.b64decode(thought.encrypted_content[len(PREFIX) :], altchars=b"-_", validate=True)
        whole = pb.ReasoningContent.FromString(data)
    except (binascii.Error, ValueError, DecodeError):
        return
    thought.encrypted_content = whole.encrypted_content
    thought.signature = whole.signature
    thought.redacted = whole.redacted
    if whole.text:
        thought.text = whole.text
