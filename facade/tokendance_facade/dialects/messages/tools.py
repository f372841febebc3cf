"""Tools and tool choice of a Messages request."""

from __future__ import annotations

import re
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_extra, dump_text, unknown_fields
from tokendance_facade.dialects.messages.blocks import read_mark

MAX_TOOLS = 1024

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_CUSTOM = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})
_CHOICES = {
    "auto": pb.TOOL_CHOICE_MODE_AUTO,
    "any": pb.TOOL_CHOICE_MODE_REQUIRED,
    "tool": pb.TOOL_CHOICE_MODE_TOOL,
    "none": pb.TOOL_CHOICE_MODE_NONE,
}
_CHOICE = frozenset({"type", "disable_parallel_tool_use"})


def decode_tools(request: pb.CompletionRequest, value: Any) -> frozenset[str]:
    """Read `tools` into the request; return the names of those that the upstream runs."""
    hosted = set()
    for index, item in enumerate(checks.array(value, "tools", high=MAX_TOOLS)):
        path = f"tools[{index}]"
        kind = checks.obj(item, path).get("type")
        if kind is None or kind == "custom":
            _custom(request.tools.add(kind=pb.TOOL_KIND_FUNCTION), item, path)
            continue
        # Run by the upstream, or of a form that only models of this dialect know.
        tool = request.tools.add(kind=pb.TOOL_KIND_HOSTED)
        tool.name = checks.text(kind, f"{path}.type", low=1, high=128)
        tool.native_json = dump_text(item, path)
        hosted.add(str(item.get("name", kind)))
    return frozenset(hosted)


def decode_tool_choice(request: pb.CompletionRequest, value: Any, hosted: frozenset[str]) -> Document:
    """Read `tool_choice` into the request, whose tools are known; return what of it has no typed place."""
    item = checks.obj(value, "tool_choice")
    if item.get("type") is None:
        raise checks.missing("tool_choice.type")
    kind = checks.one_of(item["type"], "tool_choice.type", frozenset(_CHOICES))
    choice = request.tool_choice
    choice.mode = _CHOICES[kind]
    known = _CHOICE
    if kind == "tool":
        choice.name = checks.required_text(item, "name", "tool_choice", high=256)
        if choice.name in hosted:
            choice.kind = pb.TOOL_KIND_HOSTED
        elif any(tool.name == choice.name for tool in request.tools):
            choice.kind = pb.TOOL_KIND_FUNCTION
        else:
            message = "`tool_choice.name` must be the name of a tool of this request."
            raise checks.invalid("tool_choice.name", message)
        known = _CHOICE | {"name"}
    single = item.get("disable_parallel_tool_use")
    if single is not None:
        request.parallel_tool_calls = not checks.boolean(single, "tool_choice.disable_parallel_tool_use")
    return unknown_fields(item, known, "tool_choice") or {}


def _custom(tool: pb.Tool, item: Document, path: str) -> None:
    name = item.get("name")
    if name is None:
        raise checks.missing(f"{path}.name")
    if type(name) is not str or _NAME.fullmatch(name) is None:
        message = f"`{path}.name` must have 1 to 128 characters: letters, digits, underscores and hyphens."
        raise checks.invalid(f"{path}.name", message)
    tool.name = name
    if item.get("description") is not None:
        tool.description = checks.text(item["description"], f"{path}.description")
    if item.get("input_schema") is None:
        raise checks.missing(f"{path}.input_schema")
    schema = checks.obj(item["input_schema"], f"{path}.input_schema")
    tool.parameters_json = dump_text(schema, f"{path}.input_schema")
    if item.get("strict") is not None:
        tool.strict = checks.boolean(item["strict"], f"{path}.strict")
    extra = {**(unknown_fields(item, _CUSTOM, path) or {}), **read_mark(tool, item, path)}
    if extra:
        tool.extra_json = dump_extra(extra, path)
