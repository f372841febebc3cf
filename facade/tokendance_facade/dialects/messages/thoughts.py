"""Reasoning of any provider in the two fields that callers of this dialect send back: text and signature.

A provider that seals its reasoning instead of signing it has what it sealed in the signature, behind a mark. No
signature of Anthropic's holds a full stop, so that nobody takes one for the other.
"""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb

SEALED = "sealed."


def signature_of(thought: pb.ReasoningContent | pb.ReasoningDelta) -> str:
    """Return what stands in the signature of a thinking block; may be empty."""
    if thought.signature or not thought.encrypted_content:
        return thought.signature
    return SEALED + thought.encrypted_content


def read_signature(thought: pb.ReasoningContent, signature: str) -> None:
    """Take a signature back apart."""
    if signature.startswith(SEALED):
        thought.encrypted_content = signature.removeprefix(SEALED)
    else:
        thought.signature = signature
