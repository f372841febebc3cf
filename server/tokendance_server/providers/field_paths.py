"""Where in the caller's own request a message or a part of the canonical form stood, as a path for errors."""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb

_FIELDS = frozenset({"tool_call", "tool_result", "reasoning", "refusal"})
"""The kinds of part that Chat Completions has as fields of the message, not as content."""


def message_path(request: pb.CompletionRequest, at: int) -> str:
    """Return the path of the message at this place; Anthropic Messages have their first instructions in `system`."""
    if request.dialect != pb.DIALECT_ANTHROPIC_MESSAGES or not _has_system(request):
        return f"messages[{at}]"
    return f"messages[{at - 1}]" if at else "system"


def part_path(request: pb.CompletionRequest, at: int, part_at: int) -> str:
    """Return the path of a part, by its place among the parts of the message at `at`."""
    path = message_path(request, at)
    if path == "system":
        return f"system[{part_at}]"
    if request.dialect == pb.DIALECT_ANTHROPIC_MESSAGES:
        return f"{path}.content[{part_at}]"
    if request.dialect == pb.DIALECT_OPENAI_CHAT:
        return path + _chat_field(request.messages[at], part_at)
    return f"{path}.parts[{part_at}]"


def _chat_field(message: pb.Message, part_at: int) -> str:
    kinds = [part.WhichOneof("content") for part in message.parts[: part_at + 1]]
    kind = kinds[-1]
    if kind == "tool_call":
        return f".tool_calls[{kinds.count(kind) - 1}]"
    if kind in _FIELDS:
        return ""
    return f".content[{sum(other not in _FIELDS for other in kinds) - 1}]"


def _has_system(request: pb.CompletionRequest) -> bool:
    first = request.messages[0] if request.messages else None
    return first is not None and first.role == pb.ROLE_SYSTEM and not first.extra_json
