"""Custom tools towards servers that have none: functions of one text there, and custom tools again for the caller."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text

INPUT = "input"
"""The one parameter of the function that stands for a custom tool."""

_PARAMETERS = json_text.write(
    {
        "type": "object",
        "properties": {INPUT: {"type": "string", "description": "The whole input of the tool, as plain text."}},
        "required": [INPUT],
        "additionalProperties": False,
    }
)


def has_custom(request: pb.CompletionRequest) -> bool:
    """Tell whether a request declares a custom tool, or tells of a call of one."""
    if any(tool.kind == pb.TOOL_KIND_CUSTOM for tool in request.tools):
        return True
    return any(
        part.tool_call.kind == pb.TOOL_KIND_CUSTOM
        for message in request.messages
        if message.role == pb.ROLE_ASSISTANT
        for part in message.parts
        if part.HasField("tool_call")
    )


def declare_as_functions(request: pb.CompletionRequest) -> frozenset[str]:
    """Change the custom tools of a request into functions; return their names."""
    names = []
    for tool in request.tools:
        if tool.kind == pb.TOOL_KIND_CUSTOM:
            names.append(tool.name)
            tool.kind = pb.TOOL_KIND_FUNCTION
            tool.parameters_json = _PARAMETERS
            tool.format_json = ""
    if request.tool_choice.kind == pb.TOOL_KIND_CUSTOM:
        request.tool_choice.kind = pb.TOOL_KIND_FUNCTION
    return frozenset(names)


def call_as_function(part: pb.Part) -> None:
    """Change a call of a custom tool, or its result, into that of the function that stands for it."""
    if part.HasField("tool_call") and part.tool_call.kind == pb.TOOL_KIND_CUSTOM:
        call = part.tool_call
        call.kind = pb.TOOL_KIND_FUNCTION
        call.arguments_json = json_text.write({INPUT: call.input})
        call.input = ""
    elif part.HasField("tool_result") and part.tool_result.kind == pb.TOOL_KIND_CUSTOM:
        part.tool_result.kind = pb.TOOL_KIND_FUNCTION


def restore_call(call: pb.ToolCall) -> None:
    """Change a call of such a function back."""
    call.kind = pb.TOOL_KIND_CUSTOM
    call.input = _input_of(call.arguments_json)
    call.arguments_json = ""


class StreamedInputs:
    """The calls of such functions in one stream. The text lies inside JSON, so it is whole only at the end."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._waiting: dict[tuple[int, int], tuple[pb.ToolCallDelta, list[str]]] = {}

    def restored(self, events: Sequence[pb.CompletionEvent]) -> list[pb.CompletionEvent]:
        """Return the events with custom calls in place of the functions."""
        out: list[pb.CompletionEvent] = []
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "tool_call":
                if self._take(event.tool_call):
                    out.append(event)
                continue
            if kind == "item_finished":
                out += self._told(event.item_finished.choice, event.item_finished.item)
            elif kind == "choice_finished":
                out += self._told(event.choice_finished.choice, None)
            out.append(event)
        return out

    def _take(self, delta: pb.ToolCallDelta) -> bool:
        """Keep the arguments of such a call back; return whether something of the delta is to be told."""
        key = (delta.choice, delta.index)
        if delta.name in self._names:
            about = pb.ToolCallDelta(choice=delta.choice, item=delta.item, index=delta.index)
            self._waiting[key] = (about, [delta.arguments])
            delta.kind = pb.TOOL_KIND_CUSTOM
            delta.arguments = ""
            return True
        waiting = self._waiting.get(key)
        if waiting is None:
            return True
        waiting[1].append(delta.arguments)
        return False

    def _told(self, choice: int, item: int | None) -> list[pb.CompletionEvent]:
        """Return the inputs of the calls that end with an item, or with the choice."""
        ended = [
            key
            for key, (about, _) in self._waiting.items()
            if about.choice == choice and (item is None or about.item == item)
        ]
        events = []
        for key in ended:
            about, pieces = self._waiting.pop(key)
            about.arguments = _input_of("".join(pieces))
            events.append(pb.CompletionEvent(tool_call=about))
        return events


def _input_of(arguments: str) -> str:
    """Return the text in the arguments; where the model wrote anything else, all that it wrote."""
    try:
        document: Any = json_text.read(arguments)
    except json_text.UNREADABLE:
        return arguments
    text = document.get(INPUT, "" if not document else None) if isinstance(document, dict) else None
    return text if isinstance(text, str) else arguments
