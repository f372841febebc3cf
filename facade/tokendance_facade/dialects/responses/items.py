"""The `input` of a Responses request into canonical turns, item by item.

What the model said in one go (content, reasoning, calls) is one turn, however many items it was written as; where its
items begin is kept. Items that only this dialect knows are kept whole, in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_extra, dump_text, unknown_fields
from tokendance_facade.dialects.responses.parts import add_content
from tokendance_facade.dialects.responses.thoughts import unpack
from tokendance_facade.dialects.responses.tools import decode_tools

MAX_ITEMS = 10_000
MAX_INPUT_CHARACTERS = 10 * 1024 * 1024

_ROLES = {
    "user": pb.ROLE_USER,
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_DEVELOPER,
    "assistant": pb.ROLE_ASSISTANT,
}
_PHASES = frozenset({"commentary", "final_answer"})
_ITEM = frozenset({"type", "id", "status"})
_MESSAGE = _ITEM | {"role", "content", "phase"}
_FUNCTION_CALL = _ITEM | {"call_id", "name", "arguments", "namespace"}
_CUSTOM_CALL = _ITEM | {"call_id", "name", "input", "namespace"}
_OUTPUT = _ITEM | {"call_id", "output", "name"}
_REASONING = _ITEM | {"summary", "content", "encrypted_content"}

# What the model did, beside what has a type of its own here. Other items come from the caller's side.
_OF_THE_MODEL = frozenset({"mcp_list_tools", "mcp_approval_request", "program"})


def decode_input(request: pb.CompletionRequest, value: Any) -> None:
    """Append the turns to the request. Raises invalid_request and unsupported_parameter, naming the field."""
    if type(value) is str:
        checks.text(value, "input", high=MAX_INPUT_CHARACTERS)
        request.messages.add(role=pb.ROLE_USER).parts.add().text.text = value
        return
    turns = _Turns(request)
    for index, item in enumerate(checks.array(value, "input", high=MAX_ITEMS)):
        path = f"input[{index}]"
        if type(item) is not dict:
            raise checks.invalid(path, f"`{path}` must be an object.")
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference" if "id" in item else None
        if kind is None:
            raise checks.missing(f"{path}.type")
        checks.text(kind, f"{path}.type", low=1, high=64)
        _KINDS.get(kind, _native)(turns, item, path)


class _Turns:
    """The turns so far. Consecutive items of the model are gathered in one."""

    def __init__(self, request: pb.CompletionRequest) -> None:
        self.request = request
        self._assistant: pb.Message | None = None

    def add(self, role: pb.Role.ValueType) -> pb.Message:
        """Begin a turn."""
        message = self.request.messages.add(role=role)
        self._assistant = message if role == pb.ROLE_ASSISTANT else None
        return message

    def assistant(self) -> pb.Message:
        """Return the turn of the model that is going on, begun if need be."""
        return self.add(pb.ROLE_ASSISTANT) if self._assistant is None else self._assistant


def _message(turns: _Turns, item: Document, path: str) -> None:
    word = item.get("role")
    if word is None:
        raise checks.missing(f"{path}.role")
    role = _ROLES[checks.one_of(word, f"{path}.role", frozenset(_ROLES))]
    if item.get("content") is None:
        raise checks.missing(f"{path}.content")
    theirs = role == pb.ROLE_ASSISTANT
    message = turns.assistant() if theirs else turns.add(role)
    begin = len(message.parts)
    add_content(message.parts, item["content"], f"{path}.content")
    if len(message.parts) == begin:
        message.parts.add().text.text = ""
    first = message.parts[begin]
    extra = unknown_fields(item, _MESSAGE, path)
    if theirs:
        first.item.id = _id(item, path)
        if extra:
            first.item.extra_json = dump_extra(extra, path)
    else:
        message.id = _id(item, path)
        if extra:
            message.extra_json = dump_extra(extra, path)
    _status(first, item, path)
    if item.get("phase") is not None:
        first.item.phase = checks.one_of(item["phase"], f"{path}.phase", _PHASES)


def _function_call(turns: _Turns, item: Document, path: str) -> None:
    part = _call(turns, item, path, pb.TOOL_KIND_FUNCTION, _FUNCTION_CALL)
    part.tool_call.arguments_json = checks.text(item.get("arguments"), f"{path}.arguments")


def _custom_call(turns: _Turns, item: Document, path: str) -> None:
    part = _call(turns, item, path, pb.TOOL_KIND_CUSTOM, _CUSTOM_CALL)
    part.tool_call.input = checks.text(item.get("input"), f"{path}.input")


def _call(turns: _Turns, item: Document, path: str, kind: pb.ToolKind.ValueType, known: frozenset[str]) -> pb.Part:
    part = turns.assistant().parts.add()
    call = part.tool_call
    call.kind = kind
    call.id = checks.required_text(item, "call_id", path, high=512)
    call.name = checks.required_text(item, "name", path, high=256)
    call.item_id = _id(item, path)
    if item.get("namespace") is not None:
        call.namespace = checks.text(item["namespace"], f"{path}.namespace", high=256)
    _rest(part, item, known, path)
    return part


def _function_output(turns: _Turns, item: Document, path: str) -> None:
    _output(turns, item, path, pb.TOOL_KIND_FUNCTION)


def _custom_output(turns: _Turns, item: Document, path: str) -> None:
    _output(turns, item, path, pb.TOOL_KIND_CUSTOM)


def _output(turns: _Turns, item: Document, path: str, kind: pb.ToolKind.ValueType) -> None:
    part = turns.add(pb.ROLE_TOOL).parts.add()
    result = part.tool_result
    result.kind = kind
    result.call_id = checks.required_text(item, "call_id", path, high=512)
    result.item_id = _id(item, path)
    if item.get("name") is not None:
        result.name = checks.text(item["name"], f"{path}.name", high=256)
    if item.get("output") is None:
        raise checks.missing(f"{path}.output")
    add_content(result.parts, item["output"], f"{path}.output")
    _rest(part, item, _OUTPUT, path)


def _reasoning(turns: _Turns, item: Document, path: str) -> None:
    part = turns.assistant().parts.add()
    thought = part.reasoning
    thought.item_id = _id(item, path)
    rest: Document = {}
    if item.get("summary") is not None:
        texts, plain = _texts(item["summary"], f"{path}.summary", "summary_text")
        thought.summary.extend(texts)
        if not plain:
            rest["summary"] = item["summary"]
    if item.get("content") is not None:
        texts, plain = _texts(item["content"], f"{path}.content", "reasoning_text")
        thought.text = "".join(texts)
        if not plain or len(texts) > 1:
            rest["content"] = item["content"]
    if item.get("encrypted_content") is not None:
        thought.encrypted_content = checks.text(item["encrypted_content"], f"{path}.encrypted_content")
        unpack(thought)
    _rest(part, item, _REASONING, path, rest)


def _texts(value: Any, path: str, kind: str) -> tuple[list[str], bool]:
    """Return the texts of a list of parts of one kind, and whether that is all there is to them."""
    texts: list[str] = []
    plain = True
    for index, entry in enumerate(checks.array(value, path, high=MAX_ITEMS)):
        where = f"{path}[{index}]"
        texts.append(checks.text(checks.obj(entry, where).get("text"), f"{where}.text"))
        plain = plain and entry.keys() == {"type", "text"} and entry["type"] == kind
    return texts, plain


def _additional_tools(turns: _Turns, item: Document, path: str) -> None:
    """Tools declared inside the conversation: known as tools to every upstream, and kept where they stood."""
    _native(turns, item, path)
    at = len(turns.request.messages) - 1
    declared = len(turns.request.tools)
    decode_tools(turns.request, item.get("tools"), f"{path}.tools")
    for tool in turns.request.tools[declared:]:
        tool.declared_in = at


def _reference(turns: _Turns, item: Document, path: str) -> None:
    raise checks.unsupported(path, "Nothing is stored here that an item could refer to; send the item itself.")


def _native(turns: _Turns, item: Document, path: str) -> None:
    kind = item["type"]
    theirs = kind.endswith("_call") or kind in _OF_THE_MODEL
    message = turns.assistant() if theirs else turns.add(pb.ROLE_TOOL)
    native = message.parts.add().native
    native.dialect = pb.DIALECT_OPENAI_RESPONSES
    native.type = kind
    native.json = dump_text(item, path)


def _id(item: Document, path: str) -> str:
    value = item.get("id")
    return "" if value is None else checks.text(value, f"{path}.id", high=512)


def _status(part: pb.Part, item: Document, path: str) -> None:
    if item.get("status") is not None:
        part.item.status = checks.text(item["status"], f"{path}.status", high=64)


def _rest(part: pb.Part, item: Document, known: frozenset[str], path: str, more: Document | None = None) -> None:
    _status(part, item, path)
    extra = {**(unknown_fields(item, known, path) or {}), **(more or {})}
    if extra:
        part.extra_json = dump_extra(extra, path)


_KINDS: dict[str, Callable[[_Turns, Document, str], None]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_output,
    "custom_tool_call": _custom_call,
    "custom_tool_call_output": _custom_output,
    "reasoning": _reasoning,
    "additional_tools": _additional_tools,
    "item_reference": _reference,
}
