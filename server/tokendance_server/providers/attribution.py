"""The line by which Claude Code tells Anthropic whom to bill: it is for that vendor, and goes to no other.

It stands as a text of its own at the head of the system prompt, and changes with every prompt: elsewhere it would tell
one vendor of a contract with another, and break the caching of prompts.
"""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb

ATTRIBUTION = "x-anthropic-billing-header:"


def without_attribution(request: pb.CompletionRequest) -> pb.CompletionRequest:
    """Return the request without that line: the same one where it has none, else a copy."""
    if request.dialect != pb.DIALECT_ANTHROPIC_MESSAGES or not request.messages:
        return request
    system = request.messages[0]
    if system.role != pb.ROLE_SYSTEM or not any(map(_is_attribution, system.parts)):
        return request
    copy = pb.CompletionRequest()
    copy.CopyFrom(request)
    instructions = copy.messages[0].parts
    for part in instructions:
        if _is_attribution(part):
            # What stands on the lines behind it is the caller's own.
            part.text.text = part.text.text.partition("\n")[2]
    kept = [part for part in instructions if not part.HasField("text") or part.text.text]
    del instructions[:]
    instructions.extend(kept)
    if not kept:
        del copy.messages[0]
    return copy


def _is_attribution(part: pb.Part) -> bool:
    return part.HasField("text") and part.text.text.startswith(ATTRIBUTION)
