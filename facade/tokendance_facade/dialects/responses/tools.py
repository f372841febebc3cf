"""Tools and tool choice of a Responses request: functions, custom tools, namespaces of them, and hosted tools."""

from __future__ import annotations

import re
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_extra, dump_text, unknown_fields

MAX_TOOLS = 1024

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
_MODES = {
    "none": pb.TOOL_CHOICE_MODE_NONE,
    "auto": pb.TOOL_CHOICE_MODE_AUTO,
    "required": pb.TOOL_CHOICE_MODE_REQUIRED,
}
_KINDS = {"function": pb.TOOL_KIND_FUNCTION, "custom": pb.TOOL_KIND_CUSTOM}
_FUNCTION = frozenset({"type", "name", "description", "parameters", "strict"})
_CUSTOM = frozenset({"type", "name", "description", "format"})
_NAMESPACE = frozenset({"type", "name", "tools"})
_NAMED = frozenset({"type", "name"})
_ALLOWED = frozenset({"type", "mode", "tools"})


def decode_tool_fields(request: pb.CompletionRequest, document: Document) -> Document:
    """Read tools and how they may be used into the request; return what has no typed place there."""
    if document.get("tools") is not None:
        decode_tools(request, document["tools"], "tools")
    rest: Document = {}
    choice = document.get("tool_choice")
    names = frozenset(tool.name for tool in request.tools if tool.kind != pb.TOOL_KIND_HOSTED)
    if choice is not None and not _decode_choice(request, choice, names):
        rest["tool_choice"] = choice
    parallel = document.get("parallel_tool_calls")
    if parallel is not None:
        checks.boolean(parallel, "parallel_tool_calls")
        # Without tools it says nothing, and upstreams of other dialects would refuse it.
        if request.tools:
            request.parallel_tool_calls = parallel
        else:
            rest["parallel_tool_calls"] = parallel
    return rest


def decode_tools(request: pb.CompletionRequest, value: Any, path: str) -> None:
    """Append tools to the request. Raises invalid_request naming the field."""
    for index, item in enumerate(checks.array(value, path, high=MAX_TOOLS)):
        where = f"{path}[{index}]"
        if checks.obj(item, where).get("type") == "namespace" and item.get("tools"):
            _namespace(request, item, where)
        else:
            _tool(request, item, where)
        if len(request.tools) > MAX_TOOLS:
            raise checks.invalid(path, f"At most {MAX_TOOLS:,} tools are served, those in namespaces included.")


def _namespace(request: pb.CompletionRequest, item: Document, path: str) -> None:
    name = _tool_name(item, path)
    about = unknown_fields(item, _NAMESPACE, path)
    begin = len(request.tools)
    for index, inner in enumerate(checks.array(item["tools"], f"{path}.tools", high=MAX_TOOLS)):
        _tool(request, checks.obj(inner, f"{path}.tools[{index}]"), f"{path}.tools[{index}]")
    for tool in request.tools[begin:]:
        tool.namespace = name
    request.tools[begin].namespace_json = dump_extra(about or {}, path)


def _tool(request: pb.CompletionRequest, item: Document, path: str) -> None:
    kind = item.get("type")
    if kind is None:
        raise checks.missing(f"{path}.type")
    checks.text(kind, f"{path}.type", low=1, high=128)
    tool = request.tools.add()
    tool.kind = _KINDS.get(kind, pb.TOOL_KIND_HOSTED)
    if tool.kind == pb.TOOL_KIND_HOSTED:
        # Run by the upstream, or known only to one that speaks this dialect.
        tool.name = kind
        tool.native_json = dump_text(item, path)
        return
    tool.name = _tool_name(item, path)
    if item.get("description") is not None:
        tool.description = checks.text(item["description"], f"{path}.description")
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        if item.get("format") is not None:
            tool.format_json = dump_text(checks.obj(item["format"], f"{path}.format"), f"{path}.format")
        extra = unknown_fields(item, _CUSTOM, path)
    else:
        if item.get("parameters") is not None:
            where = f"{path}.parameters"
            tool.parameters_json = dump_text(checks.obj(item["parameters"], where), where)
        if item.get("strict") is not None:
            tool.strict = checks.boolean(item["strict"], f"{path}.strict")
        extra = unknown_fields(item, _FUNCTION, path)
    if extra:
        tool.extra_json = dump_extra(extra, path)


def _tool_name(item: Document, path: str) -> str:
    name = item.get("name")
    if name is None:
        raise checks.missing(f"{path}.name")
    if type(name) is not str or _NAME.fullmatch(name) is None:
        raise checks.invalid(
            f"{path}.name", f"`{path}.name` must have 1 to 128 letters, digits, underscores, hyphens, dots or slashes."
        )
    return name


def _decode_choice(request: pb.CompletionRequest, value: Any, names: frozenset[str]) -> bool:
    """Read the choice; return whether the typed form says all of it."""
    if type(value) is str:
        mode = _MODES[checks.one_of(value, "tool_choice", frozenset(_MODES))]
        if not request.tools:
            if mode == pb.TOOL_CHOICE_MODE_REQUIRED:
                raise checks.invalid("tool_choice", "`tool_choice: required` needs `tools`.")
            return False
        request.tool_choice.mode = mode
        return True
    item = checks.obj(value, "tool_choice")
    kind = item.get("type")
    if kind is None:
        raise checks.missing("tool_choice.type")
    checks.text(kind, "tool_choice.type", low=1, high=128)
    if kind == "allowed_tools":
        return _allowed_tools(request, item, names)
    request.tool_choice.mode = pb.TOOL_CHOICE_MODE_TOOL
    if kind not in _KINDS:
        request.tool_choice.kind = pb.TOOL_KIND_HOSTED
        request.tool_choice.name = kind
        return False
    request.tool_choice.name = _known_name(item, "tool_choice", names)
    request.tool_choice.kind = _KINDS[kind]
    return item.keys() <= _NAMED


def _allowed_tools(request: pb.CompletionRequest, item: Document, names: frozenset[str]) -> bool:
    mode = item.get("mode")
    if mode is None:
        raise checks.missing("tool_choice.mode")
    request.tool_choice.mode = _MODES[checks.one_of(mode, "tool_choice.mode", frozenset({"auto", "required"}))]
    complete = item.keys() <= _ALLOWED
    for index, allowed in enumerate(checks.array(item.get("tools"), "tool_choice.tools", low=1, high=MAX_TOOLS)):
        path = f"tool_choice.tools[{index}]"
        kind = checks.text(checks.obj(allowed, path).get("type"), f"{path}.type", low=1, high=128)
        if kind in _KINDS:
            request.tool_choice.allowed_names.append(_known_name(allowed, path, names))
            complete = complete and allowed.keys() <= _NAMED
        else:
            request.tool_choice.allowed_names.append(kind)
            complete = False
    return complete


def _known_name(item: Document, path: str, names: frozenset[str]) -> str:
    name = checks.required_text(item, "name", path, high=128)
    if name not in names:
        raise checks.invalid(f"{path}.name", f"`{path}.name` must be the name of a tool of this request.")
    return name
