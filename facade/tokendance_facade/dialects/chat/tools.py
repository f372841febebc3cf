"""Tools and tool choice of a Chat Completions request, in today's form and in the deprecated one of `functions`."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_extra, dump_text, unknown_fields

MAX_TOOLS = 1024
TOOL_FIELDS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"})
"""The fields that are read here, together."""

_MODES = {
    "none": pb.TOOL_CHOICE_MODE_NONE,
    "auto": pb.TOOL_CHOICE_MODE_AUTO,
    "required": pb.TOOL_CHOICE_MODE_REQUIRED,
}
_KINDS = {"function": pb.TOOL_KIND_FUNCTION, "custom": pb.TOOL_KIND_CUSTOM}
_CHOICES = frozenset({"function", "custom", "allowed_tools"})
_TOOL = frozenset({"type", "function", "custom"})
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})
_CUSTOM = frozenset({"name", "description", "format"})


def decode_tool_fields(document: Document, request: pb.CompletionRequest) -> bool:
    """Read tools and tool choice into the request; return whether the deprecated form was used."""
    if document.keys().isdisjoint(TOOL_FIELDS):
        return False
    functions = document.get("functions")
    tools = document.get("tools")
    if tools is not None:
        if functions:
            raise checks.invalid("functions", "Send `tools` or the deprecated `functions`, not both.")
        for index, tool in enumerate(checks.array(tools, "tools", high=MAX_TOOLS)):
            _tool(request.tools.add(), tool, f"tools[{index}]")
    elif functions is not None:
        for index, function in enumerate(checks.array(functions, "functions", high=MAX_TOOLS)):
            target = request.tools.add(kind=pb.TOOL_KIND_FUNCTION)
            _keep(target, {}, _function(target, function, f"functions[{index}]"), f"functions[{index}]")
    names = {tool.name for tool in request.tools if tool.kind != pb.TOOL_KIND_HOSTED}
    choice = document.get("tool_choice")
    if choice is not None:
        _tool_choice(request, choice, names)
    elif document.get("function_call") is not None:
        _function_choice(request, document["function_call"], names)
    parallel = document.get("parallel_tool_calls")
    if parallel is not None:
        checks.boolean(parallel, "parallel_tool_calls")
        # Many clients send it always; without tools it says nothing, and some upstreams would refuse it.
        if request.tools:
            request.parallel_tool_calls = parallel
    return bool(functions)


def _tool(tool: pb.Tool, value: Any, path: str) -> None:
    item = checks.obj(value, path)
    kind = item.get("type")
    if kind is None:
        raise checks.missing(f"{path}.type")
    if kind == "function":
        tool.kind = pb.TOOL_KIND_FUNCTION
        _keep(tool, item, _function(tool, _inner(item, "function", path), f"{path}.function"), path)
    elif kind == "custom":
        tool.kind = pb.TOOL_KIND_CUSTOM
        _keep(tool, item, _custom(tool, _inner(item, "custom", path), f"{path}.custom"), path)
    else:
        # Run by the upstream, and known only to one that speaks this dialect.
        checks.text(kind, f"{path}.type", low=1, high=128)
        tool.kind = pb.TOOL_KIND_HOSTED
        tool.name = kind
        tool.native_json = dump_text(item, path)


def _inner(item: Document, name: str, path: str) -> Any:
    if item.get(name) is None:
        raise checks.missing(f"{path}.{name}")
    return item[name]


def _function(tool: pb.Tool, value: Any, path: str) -> Document:
    item = checks.obj(value, path)
    _name_and_description(tool, item, path)
    if item.get("parameters") is not None:
        tool.parameters_json = dump_text(checks.obj(item["parameters"], f"{path}.parameters"), f"{path}.parameters")
    if item.get("strict") is not None:
        tool.strict = checks.boolean(item["strict"], f"{path}.strict")
    rest = unknown_fields(item, _FUNCTION, path)
    return {"function": rest} if rest else {}


def _custom(tool: pb.Tool, value: Any, path: str) -> Document:
    item = checks.obj(value, path)
    _name_and_description(tool, item, path)
    if item.get("format") is not None:
        tool.format_json = dump_text(checks.obj(item["format"], f"{path}.format"), f"{path}.format")
    rest = unknown_fields(item, _CUSTOM, path)
    return {"custom": rest} if rest else {}


def _name_and_description(tool: pb.Tool, item: Document, path: str) -> None:
    if item.get("name") is None:
        raise checks.missing(f"{path}.name")
    tool.name = checks.tool_name(item["name"], f"{path}.name")
    if item.get("description") is not None:
        tool.description = checks.text(item["description"], f"{path}.description")


def _keep(tool: pb.Tool, item: Document, nested: Document, path: str) -> None:
    extra = {**(unknown_fields(item, _TOOL, path) or {}), **nested}
    if extra:
        tool.extra_json = dump_extra(extra, path)


def _tool_choice(request: pb.CompletionRequest, value: Any, names: set[str]) -> None:
    if type(value) is str:
        mode = _MODES[checks.one_of(value, "tool_choice", frozenset(_MODES))]
        if request.tools:
            request.tool_choice.mode = mode
        elif mode == pb.TOOL_CHOICE_MODE_REQUIRED:
            raise checks.invalid("tool_choice", "`tool_choice: required` needs `tools`.")
        return
    item = checks.obj(value, "tool_choice")
    kind = item.get("type")
    if kind is None:
        raise checks.missing("tool_choice.type")
    checks.one_of(kind, "tool_choice.type", _CHOICES)
    inner = checks.obj(_inner(item, kind, "tool_choice"), f"tool_choice.{kind}")
    if kind == "allowed_tools":
        _allowed_tools(request, inner, names)
    else:
        name = checks.required_text(inner, "name", f"tool_choice.{kind}")
        _check_named(name, names, f"tool_choice.{kind}.name")
        request.tool_choice.mode = pb.TOOL_CHOICE_MODE_TOOL
        request.tool_choice.name = name
        request.tool_choice.kind = _KINDS[kind]


def _allowed_tools(request: pb.CompletionRequest, item: Document, names: set[str]) -> None:
    path = "tool_choice.allowed_tools"
    mode = item.get("mode")
    if mode is None:
        raise checks.missing(f"{path}.mode")
    request.tool_choice.mode = _MODES[checks.one_of(mode, f"{path}.mode", frozenset({"auto", "required"}))]
    for index, allowed in enumerate(checks.array(item.get("tools"), f"{path}.tools", low=1, high=MAX_TOOLS)):
        where = f"{path}.tools[{index}]"
        kind = checks.one_of(checks.obj(allowed, where).get("type"), f"{where}.type", frozenset(_KINDS))
        inner = checks.obj(_inner(allowed, kind, where), f"{where}.{kind}")
        name = checks.required_text(inner, "name", f"{where}.{kind}")
        _check_named(name, names, f"{where}.{kind}.name")
        request.tool_choice.allowed_names.append(name)


def _function_choice(request: pb.CompletionRequest, value: Any, names: set[str]) -> None:
    """The deprecated `function_call`: `none`, `auto`, or the one function to call."""
    if type(value) is str:
        mode = _MODES[checks.one_of(value, "function_call", frozenset({"none", "auto"}))]
        if request.tools:
            request.tool_choice.mode = mode
        return
    name = checks.required_text(checks.obj(value, "function_call"), "name", "function_call")
    _check_named(name, names, "function_call.name")
    request.tool_choice.mode = pb.TOOL_CHOICE_MODE_TOOL
    request.tool_choice.name = name
    request.tool_choice.kind = pb.TOOL_KIND_FUNCTION


def _check_named(name: str, names: set[str], path: str) -> None:
    if name not in names:
        raise checks.invalid(path, f"`{path}` must be the name of a tool of this request.")
