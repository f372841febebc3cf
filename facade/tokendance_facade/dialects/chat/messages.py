"""The `messages` of a Chat Completions request into canonical turns, role by role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.chat.parts import add_content, decode_tool_call
from tokendance_facade.dialects.documents import Document, dump_extra, unknown_fields

MAX_MESSAGES = 10_000

_PLAIN = frozenset({"role", "content", "name"})
_ASSISTANT = _PLAIN | {
    "refusal",
    "tool_calls",
    "audio",
    "function_call",
    "reasoning_content",
    "reasoning",
    "annotations",
}
_TOOL = _PLAIN | {"tool_call_id"}


def decode_messages(request: pb.CompletionRequest, value: Any) -> None:
    """Append the turns to the request. Raises invalid_request naming the field."""
    items = checks.array(value, "messages", low=1, high=MAX_MESSAGES)
    functions = _FunctionCalls()
    add = request.messages.add
    for index, item in enumerate(items):
        path = f"messages[{index}]"
        if type(item) is not dict:
            raise checks.invalid(path, f"`{path}` must be an object.")
        role = item.get("role")
        decode = _ROLES.get(role) if type(role) is str else None
        if decode is None:
            if role is None:
                raise checks.missing(f"{path}.role")
            checks.one_of(role, f"{path}.role", frozenset(_ROLES))
            continue
        decode(add(), item, path, functions)


class _FunctionCalls:
    """The ids of calls in the deprecated form, which has none: a result belongs to the last call of its name."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._count = 0

    def called(self, name: str) -> str:
        """Return a new id for a call."""
        self._ids[name] = call_id = f"call_{name}_{self._count}"
        self._count += 1
        return call_id

    def answered(self, name: str, path: str) -> str:
        """Return the id of the last call of this name."""
        call_id = self._ids.get(name)
        if call_id is None:
            raise checks.invalid(f"{path}.name", f"`{path}.name` must be the name of a function called before.")
        return call_id


_Decode = Callable[[pb.Message, Document, str, _FunctionCalls], None]


def _plain(role: pb.Role.ValueType, *, media: bool) -> _Decode:
    """Return the decoder of a role that has content and a name only."""

    def decode(message: pb.Message, item: Document, path: str, functions: _FunctionCalls) -> None:
        message.role = role
        content = item.get("content")
        if type(content) is str:
            message.parts.add().text.text = content
        elif content is None:
            raise checks.missing(f"{path}.content")
        else:
            add_content(message.parts, content, f"{path}.content", media=media)
        if len(item) > 2:
            _name_and_extra(message, item, path, _PLAIN)

    return decode


def _assistant(message: pb.Message, item: Document, path: str, functions: _FunctionCalls) -> None:
    message.role = pb.ROLE_ASSISTANT
    _reasoning(message, item, path)
    content = item.get("content")
    if type(content) is str:
        if content:
            message.parts.add().text.text = content
    elif content is not None:
        add_content(message.parts, content, f"{path}.content", media=False, refusal=True)
    # A turn of calls alone may leave `content` out.
    if len(item) > 2 or content is None:
        _assistant_fields(message, item, path, functions)
        _name_and_extra(message, item, path, _ASSISTANT)
    if not message.parts:
        if content is None:
            raise checks.invalid(
                f"{path}.content", f"`{path}.content` is required where there is no `tool_calls`, `refusal` or `audio`."
            )
        message.parts.add().text.text = ""


def _assistant_fields(message: pb.Message, item: Document, path: str, functions: _FunctionCalls) -> None:
    refusal = item.get("refusal")
    if refusal is not None:
        message.parts.add().refusal.text = checks.text(refusal, f"{path}.refusal")
    audio = item.get("audio")
    if audio is not None:
        where = f"{path}.audio"
        message.parts.add().audio.id = checks.required_text(checks.obj(audio, where), "id", where)
    calls = item.get("tool_calls")
    if calls is not None:
        for index, call in enumerate(checks.array(calls, f"{path}.tool_calls", high=1024)):
            decode_tool_call(message.parts.add(), call, f"{path}.tool_calls[{index}]")
    function_call = item.get("function_call")
    if function_call is not None:
        where = f"{path}.function_call"
        checks.obj(function_call, where)
        call = message.parts.add().tool_call
        call.kind = pb.TOOL_KIND_FUNCTION
        call.name = checks.required_text(function_call, "name", where, high=256)
        call.arguments_json = checks.text(function_call.get("arguments"), f"{where}.arguments")
        call.id = functions.called(call.name)


def _reasoning(message: pb.Message, item: Document, path: str) -> None:
    """Take over what servers add to the form and want back: the reasoning, in one of its two names."""
    for name in ("reasoning_content", "reasoning"):
        value = item.get(name)
        if value is not None:
            message.parts.add().reasoning.text = checks.text(value, f"{path}.{name}")
            return


def _tool(message: pb.Message, item: Document, path: str, functions: _FunctionCalls) -> None:
    message.role = pb.ROLE_TOOL
    part = message.parts.add()
    part.tool_result.call_id = checks.required_text(item, "tool_call_id", path)
    _result(part.tool_result, item, path)
    if len(item) > 3:
        _name_and_extra(message, item, path, _TOOL)
        part.tool_result.name = message.name


def _function(message: pb.Message, item: Document, path: str, functions: _FunctionCalls) -> None:
    message.role = pb.ROLE_TOOL
    name = checks.required_text(item, "name", path, high=256)
    result = message.parts.add().tool_result
    result.call_id = functions.answered(name, path)
    result.name = name
    result.kind = pb.TOOL_KIND_FUNCTION
    if item.get("content") is None:
        result.parts.add().text.text = ""
    else:
        _result(result, item, path)


def _result(result: pb.ToolResult, item: Document, path: str) -> None:
    content = item.get("content")
    if type(content) is str:
        result.parts.add().text.text = content
    elif content is None:
        raise checks.missing(f"{path}.content")
    else:
        add_content(result.parts, content, f"{path}.content", media=True)


def _name_and_extra(message: pb.Message, item: Document, path: str, known: frozenset[str]) -> None:
    name = item.get("name")
    if name is not None:
        message.name = checks.text(name, f"{path}.name", high=256)
    extra = unknown_fields(item, known, path) or {}
    # The official SDKs' users send an answer's message back whole; its empty lists mean nothing.
    if item.get("annotations"):
        extra["annotations"] = item["annotations"]
    if extra:
        message.extra_json = dump_extra(extra, path)


_ROLES: dict[str, _Decode] = {
    "system": _plain(pb.ROLE_SYSTEM, media=False),
    "developer": _plain(pb.ROLE_DEVELOPER, media=False),
    "user": _plain(pb.ROLE_USER, media=True),
    "assistant": _assistant,
    "tool": _tool,
    "function": _function,
}
