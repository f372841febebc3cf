"""The canonical request as the JSON body of POST /responses. Pure; what it cannot say is told by gaps.py.

`store` is always false: what the gateway serves is stateless, and nobody's conversation is kept upstream.
"""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.openai_responses.gaps import DIALECT
from tokendance_server.providers.openai_responses.items import write_items

Json = dict[str, Any]

ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"

# Fields that only the typed form decides, whatever `extra_json` says.
_TYPED = frozenset(
    {"background", "conversation", "frequency_penalty", "input", "instructions", "max_output_tokens", "metadata",
     "model", "presence_penalty", "previous_response_id", "prompt_cache_key", "safety_identifier", "service_tier",
     "store", "stream", "temperature", "tools", "top_logprobs", "top_p", "user"}
)  # fmt: skip
_CHOICES = {
    pb.TOOL_CHOICE_MODE_AUTO: "auto",
    pb.TOOL_CHOICE_MODE_NONE: "none",
    pb.TOOL_CHOICE_MODE_REQUIRED: "required",
}
_KINDS = {pb.TOOL_KIND_CUSTOM: "custom"}
_VERBOSITIES = {pb.VERBOSITY_LOW: "low", pb.VERBOSITY_MEDIUM: "medium", pb.VERBOSITY_HIGH: "high"}


def write_request(request: pb.CompletionRequest, model: str, *, stream: bool) -> Json:
    """Return the body for the upstream's `model`. Raises invalid_request for a `…_json` field that is no JSON."""
    own = request.dialect == DIALECT
    body: Json = {"model": model}
    body["input"] = write_items(request, own, body)
    body["store"] = False
    if stream:
        body["stream"] = True
    if request.tools:
        _write_tools(request, body, own)
    if request.HasField("tool_choice") and "tools" in body:
        _write_choice(request.tool_choice, request, body)
    if request.HasField("parallel_tool_calls"):
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.HasField("max_output_tokens"):
        body["max_output_tokens"] = request.max_output_tokens
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        if request.sampling.HasField(name):
            body[name] = getattr(request.sampling, name)
    _write_output(request, body)
    for name in ("user", "service_tier", "prompt_cache_key", "safety_identifier"):
        value = getattr(request, name)
        if value:
            body[name] = value
    # Labels of the call are the gateway's where a dialect does not give them to its upstream.
    if request.metadata and own:
        body["metadata"] = dict(sorted(request.metadata.items()))
    if own and request.extra_json:
        _write_rest(json_text.caller_extra(request.extra_json, "extra_json"), body, stream=stream)
    return body


def _write_output(request: pb.CompletionRequest, body: Json) -> None:
    include = []
    if request.reasoning.include_encrypted:
        include.append(ENCRYPTED)
    if request.logprobs.enabled:
        include.append(LOGPROBS)
    if include:
        body["include"] = include
    if request.logprobs.HasField("top"):
        body["top_logprobs"] = request.logprobs.top
    reasoning = {
        name: value
        for name, value in (("effort", request.reasoning.effort), ("summary", request.reasoning.summary))
        if value
    }
    if reasoning:
        body["reasoning"] = reasoning
    text: Json = {}
    if request.HasField("response_format"):
        text["format"] = _format(request.response_format)
    if request.verbosity in _VERBOSITIES:
        text["verbosity"] = _VERBOSITIES[request.verbosity]
    if text:
        body["text"] = text


def _format(wanted: pb.ResponseFormat) -> Json:
    if wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_OBJECT:
        return {"type": "json_object"}
    if wanted.kind != pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA:
        return {"type": "text"}
    written: Json = {"type": "json_schema", "name": wanted.name or "answer"}
    if wanted.description:
        written["description"] = wanted.description
    written["schema"] = json_text.caller_object(wanted.schema_json or "{}", "text.format.schema")
    if wanted.HasField("strict"):
        written["strict"] = wanted.strict
    return written


def _write_rest(extra: Json, body: Json, *, stream: bool) -> None:
    """Unknown fields of the caller's, also inside objects of which the rest is typed."""
    include = extra.pop("include", None)
    if isinstance(include, list):
        body["include"] = [*body.get("include", ()), *include]
    # Where the typed choice does not say all of it, the whole stands here.
    if "tool_choice" in extra:
        body["tool_choice"] = extra.pop("tool_choice")
    if not stream:
        extra.pop("stream_options", None)
    json_text.add_missing(body, {name: value for name, value in extra.items() if name not in _TYPED})


def _write_tools(request: pb.CompletionRequest, body: Json, own: bool) -> None:
    tools: list[Json] = []
    space: list[Json] = []
    name = ""
    for index, tool in enumerate(request.tools):
        if tool.HasField("declared_in") and own:
            continue
        path = f"tools[{index}]"
        if tool.kind == pb.TOOL_KIND_HOSTED and not own:
            continue
        written = _tool(tool, path, own)
        if not tool.namespace:
            name = ""
            tools.append(written)
            continue
        if tool.namespace != name or tool.namespace_json:
            name, space = tool.namespace, []
            about = json_text.caller_extra(tool.namespace_json, path) if tool.namespace_json else {}
            tools.append({"type": "namespace", "name": name, **about, "tools": space})
        space.append(written)
    if tools:
        body["tools"] = tools


def _tool(tool: pb.Tool, path: str, own: bool) -> Json:
    if tool.kind == pb.TOOL_KIND_HOSTED:
        return json_text.caller_object(tool.native_json, path)
    written: Json = {"type": _KINDS.get(tool.kind, "function"), "name": tool.name}
    if tool.description:
        written["description"] = tool.description
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        if tool.format_json:
            written["format"] = json_text.caller_object(tool.format_json, f"{path}.format")
    else:
        if tool.parameters_json:
            written["parameters"] = json_text.caller_object(tool.parameters_json, f"{path}.parameters")
        elif not own:
            written["parameters"] = {"type": "object", "properties": {}}
        if tool.HasField("strict"):
            written["strict"] = tool.strict
        elif not own:
            # Said expressly, because this dialect's default is the other one.
            written["strict"] = False
    if own and tool.extra_json:
        json_text.add_missing(written, json_text.caller_extra(tool.extra_json, path))
    return written


def _write_choice(choice: pb.ToolChoice, request: pb.CompletionRequest, body: Json) -> None:
    if choice.mode == pb.TOOL_CHOICE_MODE_TOOL:
        body["tool_choice"] = {"type": _KINDS.get(choice.kind, "function"), "name": choice.name}
        return
    word = _CHOICES.get(choice.mode)
    if choice.allowed_names and choice.mode != pb.TOOL_CHOICE_MODE_NONE:
        kinds = {tool.name: _KINDS.get(tool.kind, "function") for tool in request.tools}
        allowed = [{"type": kinds.get(name, "function"), "name": name} for name in choice.allowed_names]
        body["tool_choice"] = {"type": "allowed_tools", "mode": word or "auto", "tools": allowed}
    elif word is not None:
        body["tool_choice"] = word
