"""Tool-call deltas of servers that imitate OpenAI, set right: index, id, name and kind once, then arguments only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai.answer import arguments_of, int_of, text_of, unreadable


@dataclass(slots=True)
class _Call:
    """One call so far. Until its name is known nothing of it is told, and its arguments wait."""

    index: int
    id: str = ""
    item: int = -1
    custom: bool = False
    told: bool = False
    has_arguments: bool = False
    waiting: str = ""


class CallNormalizer:
    """The tool calls of one choice; true once there is one.

    `next_item` numbers a call's output item when it begins, `mint` makes an id where the server gives none. Calls are
    numbered in the order of their beginning, whatever index the server gives them.
    """

    def __init__(self, choice: int, next_item: Callable[[], int], mint: Callable[[], str]) -> None:
        self._choice = choice
        self._next_item = next_item
        self._mint = mint
        self._calls: list[_Call] = []
        self._latest: dict[int, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, delta: dict[str, Any], position: int) -> Iterator[pb.ToolCallDelta]:
        """Yield what one entry of `tool_calls` adds; `position` is its place in that list."""
        call = self._call_of(int_of(delta.get("index"), position), text_of(delta.get("id")))
        custom = delta.get("custom")
        if isinstance(custom, dict):
            call.custom = True
            name, piece = text_of(custom.get("name")), text_of(custom.get("input"))
        else:
            about = delta.get("function")
            about = about if isinstance(about, dict) else {}
            name, piece = text_of(about.get("name")), arguments_of(about.get("arguments"))
        if call.told:
            if piece:
                call.has_arguments = True
                yield self._more(call, piece)
            return
        call.waiting += piece
        if name:
            yield self._first(call, name)

    def more(self, index: int, piece: str) -> pb.ToolCallDelta | None:
        """Return what a delta without id and name adds, or None where it cannot be told without `feed`."""
        call = self._latest.get(index)
        if call is None or not call.told or not piece:
            return None
        call.has_arguments = True
        return self._more(call, piece)

    def finish(self) -> Iterator[pb.ToolCallDelta]:
        """Yield what is missing at the end: a function without arguments gets an empty object.

        Raises provider_error where a call never got a name.
        """
        for call in self._calls:
            if not call.told:
                raise unreadable()
            if not call.has_arguments and not call.custom:
                call.has_arguments = True
                yield self._more(call, "{}")

    def _call_of(self, index: int, told_id: str) -> _Call:
        """The call that a delta belongs to: a new id on a used index is a new call, as some always say 0."""
        call = self._latest.get(index)
        if call is None or (told_id and call.id and told_id != call.id):
            call = _Call(len(self._calls))
            self._calls.append(call)
            self._latest[index] = call
        call.id = call.id or told_id
        return call

    def _first(self, call: _Call, name: str) -> pb.ToolCallDelta:
        call.told = True
        call.item = self._next_item()
        call.has_arguments = bool(call.waiting)
        first = pb.ToolCallDelta(
            choice=self._choice,
            item=call.item,
            index=call.index,
            id=call.id or self._mint(),
            name=name,
            kind=pb.TOOL_KIND_CUSTOM if call.custom else pb.TOOL_KIND_FUNCTION,
            arguments=call.waiting,
        )
        call.waiting = ""
        return first

    def _more(self, call: _Call, piece: str) -> pb.ToolCallDelta:
        return pb.ToolCallDelta(choice=self._choice, item=call.item, index=call.index, arguments=piece)
