"""Where in the caller's own request something of the canonical form stood; looked up only where it is told."""

from __future__ import annotations

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.field_paths import message_path, part_path

_OF_THE_MODEL = frozenset({"mcp_list_tools", "mcp_approval_request", "program"})


def is_item(kind: str) -> bool:
    """Tell whether a native part of the model's turn is an item of its own, and not content of one."""
    return kind.endswith("_call") or kind in _OF_THE_MODEL


def begins_item(part: pb.Part, *, first: bool) -> bool:
    """Tell whether an item of the model's turn begins with this part; `first`: it follows no content."""
    kind = part.WhichOneof("content")
    if kind in ("tool_call", "reasoning") or (kind == "native" and is_item(part.native.type)):
        return True
    return first or part.HasField("item")


def place(request: pb.CompletionRequest, at: int, part_at: int | None = None) -> str:
    """Return the path of a message, or of a part of it, in the caller's own dialect."""
    if request.dialect != pb.DIALECT_OPENAI_RESPONSES:
        return message_path(request, at) if part_at is None else part_path(request, at, part_at)
    items = -1
    for number, message in enumerate(request.messages[: at + 1]):
        if not message.instructions:
            items += _items_of(message, part_at + 1 if number == at and part_at is not None else None)
    return "instructions" if items < 0 else f"input[{items}]"


def tool_place(request: pb.CompletionRequest, index: int) -> str:
    """Return the path of a tool, by its place among those of the canonical form."""
    top, within = -1, -1
    space = ""
    for tool in request.tools[: index + 1]:
        if tool.HasField("declared_in"):
            continue
        if tool.namespace and tool.namespace == space and not tool.namespace_json:
            within += 1
        else:
            top, within, space = top + 1, 0, tool.namespace
    if index < len(request.tools) and request.tools[index].HasField("declared_in"):
        return f"{place(request, request.tools[index].declared_in)}.tools"
    return f"tools[{top}].tools[{within}]" if space else f"tools[{top}]"


def _items_of(message: pb.Message, until: int | None) -> int:
    if message.role != pb.ROLE_ASSISTANT:
        return 1
    items, first = 0, True
    for part in message.parts[:until]:
        if begins_item(part, first=first):
            items += 1
        kind = part.WhichOneof("content")
        first = kind in ("tool_call", "reasoning") or (kind == "native" and is_item(part.native.type))
    return items
