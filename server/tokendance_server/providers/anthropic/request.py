"""The canonical request as the JSON body of POST /messages. Pure; what it cannot say is told by gaps.py."""

from __future__ import annotations

from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.anthropic import capabilities as can
from tokendance_server.providers.anthropic.content import CUSTOM_INPUT, cache_control
from tokendance_server.providers.anthropic.thinking import takes_sampling, write_thinking
from tokendance_server.providers.anthropic.turns import write_conversation

Json = dict[str, Any]

VERSION = "2023-06-01"
"""The version of the API that is spoken where the caller names none of VERSIONS."""
VERSIONS = frozenset({VERSION, "2026-10-21"})
FORWARDED_HEADERS = frozenset({"anthropic-beta", "anthropic-version"})
DEFAULT_OUTPUT_TOKENS = 4096
"""The output cap where neither the caller nor the model has one: this wire format must name it."""
JSON_INSTRUCTION = "Answer with one JSON object and nothing else: no words around it, no code fence."

# Fields with a typed place in the canonical form: what that holds is the truth, and `extra_json` never stands in.
# Of `thinking`, `output_config`, `tool_choice` and `metadata` it may hold fields inside.
_TYPED = frozenset(
    {
        "max_tokens", "messages", "model", "service_tier", "stop_sequences", "stream", "system", "temperature",
        "tools", "top_k", "top_p",
    }
)  # fmt: skip

_CHOICES = {
    pb.TOOL_CHOICE_MODE_AUTO: "auto",
    pb.TOOL_CHOICE_MODE_NONE: "none",
    pb.TOOL_CHOICE_MODE_REQUIRED: "any",
    pb.TOOL_CHOICE_MODE_TOOL: "tool",
}
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
NO_PARAMETERS: Json = {"type": "object", "properties": {}}


def is_own(request: pb.CompletionRequest) -> bool:
    """Tell whether the request came in this dialect."""
    return request.dialect == pb.DIALECT_ANTHROPIC_MESSAGES


def write_request(request: pb.CompletionRequest, model: str, *, stream: bool, capabilities: frozenset[str]) -> Json:
    """Return the body for the upstream's `model`. Raises invalid_request for a `…_json` field that is no JSON."""
    own = is_own(request)
    cap = request.max_output_tokens if request.HasField("max_output_tokens") else DEFAULT_OUTPUT_TOKENS
    body: Json = {"model": model, "max_tokens": cap}
    write_conversation(request, body, own=own, system_turns=can.SYSTEM_TURNS in capabilities)
    if request.tools:
        _write_tools(request, body, own)
    _write_choice(request, body, own)
    write_thinking(request, body, own=own, capabilities=capabilities)
    if request.HasField("response_format"):
        _write_format(request.response_format, body)
    _write_sampling(request, body, own, capabilities)
    if user := user_of(request):
        body["metadata"] = {"user_id": user}
    tier = request.service_tier if own else _TIERS.get(request.service_tier, "")
    if tier:
        body["service_tier"] = tier
    if stream:
        body["stream"] = True
    if own and request.extra_json:
        extra = json_text.caller_extra(request.extra_json, "extra_json")
        if request.reasoning.HasField("max_tokens") and "thinking" not in body:
            # What is left out is left out whole.
            extra.pop("thinking", None)
        json_text.add_missing(body, {name: value for name, value in extra.items() if name not in _TYPED})
    return body


def dialect_headers(request: pb.CompletionRequest) -> tuple[tuple[str, str], ...]:
    """Return the caller's own headers of this dialect that change what its request means."""
    if not is_own(request):
        return ()
    return tuple(
        (header.name, header.value)
        for header in request.dialect_headers
        if header.value and (header.name == "anthropic-beta" or header.value in VERSIONS)
    )


def user_of(request: pb.CompletionRequest) -> str:
    """Return the caller's name for its end user, the hashed one where there are two."""
    return request.user if is_own(request) else request.safety_identifier or request.user


def is_tier_known(tier: str) -> bool:
    """Tell whether a service tier of another dialect has a word here."""
    return not tier or tier in _TIERS


def _write_sampling(request: pb.CompletionRequest, body: Json, own: bool, capabilities: frozenset[str]) -> None:
    sampling = request.sampling
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    if not own and not takes_sampling(request, capabilities):
        return
    if sampling.HasField("temperature"):
        body["temperature"] = sampling.temperature if own else min(sampling.temperature, 1.0)
    # Models refuse the two together, and of the two the temperature says more.
    if sampling.HasField("top_p") and (own or "temperature" not in body):
        body["top_p"] = sampling.top_p
    if sampling.HasField("top_k"):
        body["top_k"] = sampling.top_k


def _write_tools(request: pb.CompletionRequest, body: Json, own: bool) -> None:
    allowed = frozenset(request.tool_choice.allowed_names)
    tools = []
    for index, tool in enumerate(request.tools):
        if allowed and tool.name not in allowed:
            continue
        path = f"tools[{index}]"
        if tool.kind == pb.TOOL_KIND_HOSTED:
            if not own:
                continue
            written = json_text.caller_object(tool.native_json, path)
        else:
            written = _tool(tool, path, own)
        if tool.HasField("cache_breakpoint"):
            written.setdefault("cache_control", cache_control(tool.cache_breakpoint, own=own))
        if own and tool.extra_json:
            json_text.add_missing(written, json_text.caller_extra(tool.extra_json, path))
        tools.append(written)
    if tools:
        body["tools"] = tools


def _tool(tool: pb.Tool, path: str, own: bool) -> Json:
    written: Json = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        properties = {CUSTOM_INPUT: {"type": "string", "description": "The whole input of the tool, as plain text."}}
        written["input_schema"] = {"type": "object", "properties": properties, "required": [CUSTOM_INPUT]}
        return written
    schema = json_text.caller_object(tool.parameters_json, path) if tool.parameters_json else dict(NO_PARAMETERS)
    if not own:
        schema.setdefault("type", "object")
    written["input_schema"] = schema
    if tool.HasField("strict"):
        written["strict"] = tool.strict
    return written


def _write_choice(request: pb.CompletionRequest, body: Json, own: bool) -> None:
    if not own and "tools" not in body:
        return
    choice = request.tool_choice
    word = _CHOICES.get(choice.mode) if request.HasField("tool_choice") else None
    parallel = request.parallel_tool_calls if request.HasField("parallel_tool_calls") else None
    if word is None and (own or parallel is not False):
        return
    written: Json = {"type": word or "auto"}
    if word == "tool":
        written["name"] = choice.name
    if parallel is not None and (own or (not parallel and word != "none")):
        written["disable_parallel_tool_use"] = not parallel
    body["tool_choice"] = written


def _write_format(wanted: pb.ResponseFormat, body: Json) -> None:
    if wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA:
        path = "response_format.json_schema.schema"
        schema = json_text.caller_object(wanted.schema_json, path) if wanted.schema_json else {"type": "object"}
        body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
    elif wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_OBJECT:
        system = body.get("system", [])
        blocks = [{"type": "text", "text": system}] if isinstance(system, str) else system
        body["system"] = [*blocks, {"type": "text", "text": JSON_INSTRUCTION}]
