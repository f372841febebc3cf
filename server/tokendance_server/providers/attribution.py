"""The line by which Claude Code tells Anthropic whom to bill: it is for that vendor, and goes to no other.

It stands as a text of its own at the head of the system prompt, and changes with every prompt: elsewhere it would tell
one vendor of a contract with another, and break the caching of prompts.
"""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb

ATTRIBUTION = "x-anthropic-billing-header:"


def without_attribution(request: pb.CompletionRequest) -> pb.CompletionRequest:
    """Return the request without that text: the same one where it has none, else a copy."""
    if request.dialect != pb.DIALECT_ANTHROPIC_MESSAGES or not request.messages:
        return request
    system = request.messages[0]
    if system.role != pb.ROLE_SYSTEM or not any(map(_is_attribution, system.parts)):
        return request
    copy = pb.CompletionRequest()
    copy.CopyFrom(request)
    kept = [part for part in system.parts if not _is_attribution(part)]
    del copy.messages[0].parts[:]
    copy.messages[0].parts.extend(kept)
    if not kept:
        del copy.messages[0]
    return copy


def _is_attribution(part: pb.Part) -> bool:
    return part.HasField("text") and part.text.text.startswith(ATTRIBUTION)
