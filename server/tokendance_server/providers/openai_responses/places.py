"""Where in the caller's own request something of the canonical form stood; looked up only where it is told."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.field_paths import message_path, part_path

_OF_THE_MODEL = frozenset({"mcp_list_tools", "mcp_approval_request", "program"})


def is_item(kind: str) -> bool:
    """Tell whether a native part of the model's turn is an item of its own, and not content of one."""
    return kind.endswith("_call") or kind in _OF_THE_MODEL


class Places:
    """The paths of one request, each of its lists walked once at most."""

    def __init__(self, request: pb.CompletionRequest) -> None:
        self._request = request

    def of(self, at: int, part_at: int | None = None) -> str:
        """Return the path of a message, or of a part of it, in the caller's own dialect."""
        request = self._request
        if request.dialect != pb.DIALECT_OPENAI_RESPONSES:
            return message_path(request, at) if part_at is None else part_path(request, at, part_at)
        if request.messages[at].instructions:
            return "instructions"
        before = self._begins[at]
        if part_at is None:
            return f"input[{before}]"
        item, content = self._parts(at)[part_at]
        return f"input[{before + item}]" if content is None else f"input[{before + item}].content[{content}]"

    def of_tool(self, index: int) -> str:
        """Return the path of a tool, by its place among those of the canonical form."""
        return self._tools[index] if index < len(self._tools) else f"tools[{index}]"

    @cached_property
    def _begins(self) -> list[int]:
        begins, items = [], 0
        for at, message in enumerate(self._request.messages):
            begins.append(items)
            if not message.instructions:
                items += max((item for item, _ in self._parts(at)), default=0) + 1
        return begins

    @cached_property
    def _walked(self) -> dict[int, list[tuple[int, int | None]]]:
        return {}

    def _parts(self, at: int) -> list[tuple[int, int | None]]:
        parts = self._walked.get(at)
        if parts is None:
            parts = self._walked[at] = list(_within(self._request.messages[at]))
        return parts

    @cached_property
    def _tools(self) -> list[str]:
        paths = []
        top, within = -1, -1
        space = ""
        for tool in self._request.tools:
            if tool.HasField("declared_in"):
                paths.append(f"{self.of(tool.declared_in)}.tools")
                continue
            if tool.namespace and tool.namespace == space and not tool.namespace_json:
                within += 1
            else:
                top, within, space = top + 1, 0, tool.namespace
            paths.append(f"tools[{top}].tools[{within}]" if space else f"tools[{top}]")
        return paths


def place(request: pb.CompletionRequest, at: int, part_at: int | None = None) -> str:
    """Return one path of a request."""
    return Places(request).of(at, part_at)


def _within(message: pb.Message) -> Iterator[tuple[int, int | None]]:
    """For each part of a turn the item that it was written in, and its place in the content of that, if it has one."""
    item, content = -1, -1
    spoken = False
    for part in message.parts:
        kind = part.WhichOneof("content")
        alone = kind in ("tool_call", "tool_result", "reasoning")
        if kind == "native":
            alone = message.role == pb.ROLE_TOOL or (message.role == pb.ROLE_ASSISTANT and is_item(part.native.type))
        if alone:
            item, spoken = item + 1, False
            yield item, None
            continue
        begins = not spoken or (message.role == pb.ROLE_ASSISTANT and part.HasField("item"))
        item, content = (item + 1, 0) if begins else (item, content + 1)
        spoken = True
        yield item, content
