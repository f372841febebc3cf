"""The canonical request as the JSON body of POST /chat/completions. Pure; what it cannot say is told by gaps.py."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.openai import capabilities as can
from tokendance_server.providers.openai.gaps import CONTENT

Json = dict[str, Any]

# Fields with a typed place in the canonical form: what that holds is the truth, and `extra_json` never stands in.
_TYPED = frozenset(
    {
        "audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages",
        "metadata", "modalities", "model", "n", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
        "stream", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
    }
)  # fmt: skip

_ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
_CHOICES = {
    pb.TOOL_CHOICE_MODE_AUTO: "auto",
    pb.TOOL_CHOICE_MODE_NONE: "none",
    pb.TOOL_CHOICE_MODE_REQUIRED: "required",
}
_MODALITIES = {pb.MODALITY_TEXT: "text", pb.MODALITY_AUDIO: "audio", pb.MODALITY_IMAGE: "image"}
# What other dialects call the tiers of this one.
_TIERS = {"standard_only": "default"}
_VERBOSITIES = {pb.VERBOSITY_LOW: "low", pb.VERBOSITY_MEDIUM: "medium", pb.VERBOSITY_HIGH: "high"}


def write_request(request: pb.CompletionRequest, model: str, *, stream: bool, capabilities: frozenset[str]) -> Json:
    """Return the body for the upstream's `model`. Raises invalid_request for a `…_json` field that is no JSON."""
    own = request.dialect == pb.DIALECT_OPENAI_CHAT
    body: Json = {"model": model, "messages": _messages(request, own, capabilities)}
    if stream:
        body["stream"] = True
    if request.tools:
        _write_tools(request, body, own, capabilities)
    if request.HasField("tool_choice"):
        _write_choice(request.tool_choice, body, capabilities)
    # Without a tool that goes there, some servers refuse the word.
    if request.HasField("parallel_tool_calls") and "tools" in body:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.HasField("response_format"):
        _write_format(request.response_format, body)
    if request.HasField("max_output_tokens"):
        cap = "max_completion_tokens" if can.MAX_COMPLETION_TOKENS in capabilities else "max_tokens"
        body[cap] = request.max_output_tokens
    if request.HasField("choice_count"):
        body["n"] = request.choice_count
    if request.HasField("sampling"):
        _write_sampling(request.sampling, body, capabilities)
    if request.logprobs.enabled:
        body["logprobs"] = True
        if request.logprobs.HasField("top"):
            body["top_logprobs"] = request.logprobs.top
    if request.reasoning.effort and can.NO_EFFORT not in capabilities:
        body["reasoning_effort"] = request.reasoning.effort
    _write_output(request, body)
    if can.CORE_FIELDS not in capabilities:
        _write_preferences(request, body)
    _write_rest(request, body, own=own, stream=stream, capabilities=capabilities)
    return body


def _write_sampling(sampling: pb.Sampling, body: Json, capabilities: frozenset[str]) -> None:
    for name in ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"):
        if sampling.HasField(name):
            body[name] = getattr(sampling, name)
    if sampling.HasField("seed"):
        body["random_seed" if can.RANDOM_SEED in capabilities else "seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        body["logit_bias"] = {
            token: int(bias) if bias.is_integer() else bias for token, bias in sorted(sampling.logit_bias.items())
        }


def _write_output(request: pb.CompletionRequest, body: Json) -> None:
    modalities = [_MODALITIES[modality] for modality in request.modalities if modality in _MODALITIES]
    if modalities:
        body["modalities"] = modalities
    if request.HasField("audio"):
        voice: Any = request.audio.voice_json
        if voice.startswith("{"):
            voice = json_text.caller_object(voice, "audio.voice")
        body["audio"] = {"voice": voice, "format": request.audio.format}


def _write_preferences(request: pb.CompletionRequest, body: Json) -> None:
    for name in ("user", "service_tier", "prompt_cache_key", "safety_identifier"):
        value = getattr(request, name)
        if value:
            body[name] = _TIERS.get(value, value) if name == "service_tier" else value
    if request.verbosity in _VERBOSITIES:
        body["verbosity"] = _VERBOSITIES[request.verbosity]


def _write_rest(
    request: pb.CompletionRequest, body: Json, *, own: bool, stream: bool, capabilities: frozenset[str]
) -> None:
    """Unknown fields of the caller's, and what depends on them."""
    extra = json_text.caller_extra(request.extra_json, "extra_json") if own and request.extra_json else {}
    options = extra.pop("stream_options", None)
    for name, value in extra.items():
        if name not in _TYPED:
            body.setdefault(name, value)
        elif isinstance(value, dict) and isinstance(body.get(name), dict):
            json_text.add_missing(body[name], value)
    # Upstreams take labels only for an answer that they store; ours are kept with the usage record in any case.
    if request.metadata and body.get("store") is True and can.CORE_FIELDS not in capabilities:
        body["metadata"] = dict(sorted(request.metadata.items()))
    if stream and can.NO_STREAM_OPTIONS not in capabilities:
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}


def _write_tools(request: pb.CompletionRequest, body: Json, own: bool, capabilities: frozenset[str]) -> None:
    allowed = frozenset(request.tool_choice.allowed_names)
    filtered = bool(allowed) and can.ALLOWED_TOOLS not in capabilities
    tools = []
    for index, tool in enumerate(request.tools):
        if filtered and tool.name not in allowed:
            continue
        if tool.kind == pb.TOOL_KIND_HOSTED:
            if own:
                tools.append(json_text.caller_object(tool.native_json, f"tools[{index}]"))
            continue
        written = _tool(tool, f"tools[{index}]", capabilities)
        if own and tool.extra_json:
            json_text.add_missing(written, json_text.caller_extra(tool.extra_json, f"tools[{index}]"))
        tools.append(written)
    if tools:
        body["tools"] = tools


def _tool(tool: pb.Tool, path: str, capabilities: frozenset[str]) -> Json:
    about: Json = {"name": tool.name}
    if tool.description:
        about["description"] = tool.description
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        if tool.format_json:
            about["format"] = json_text.caller_object(tool.format_json, f"{path}.custom.format")
        return {"type": "custom", "custom": about}
    about["parameters"] = (
        json_text.caller_object(tool.parameters_json, f"{path}.function.parameters")
        if tool.parameters_json
        else {"type": "object", "properties": {}}
    )
    if tool.HasField("strict") and can.NO_STRICT not in capabilities:
        about["strict"] = tool.strict
    return {"type": "function", "function": about}


def _write_choice(choice: pb.ToolChoice, body: Json, capabilities: frozenset[str]) -> None:
    if "tools" not in body:
        return
    if choice.mode == pb.TOOL_CHOICE_MODE_TOOL:
        body["tool_choice"] = _named(choice.name, choice.kind)
        return
    word = _CHOICES.get(choice.mode)
    if choice.allowed_names and can.ALLOWED_TOOLS in capabilities and choice.mode != pb.TOOL_CHOICE_MODE_NONE:
        allowed = frozenset(choice.allowed_names)
        named = [
            {"type": tool["type"], tool["type"]: {"name": tool[tool["type"]]["name"]}}
            for tool in body["tools"]
            if tool["type"] in ("function", "custom") and tool[tool["type"]]["name"] in allowed
        ]
        body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": word or "auto", "tools": named}}
        return
    if word is not None:
        body["tool_choice"] = "any" if word == "required" and can.REQUIRED_IS_ANY in capabilities else word


def _named(name: str, kind: pb.ToolKind.ValueType) -> Json:
    word = "custom" if kind == pb.TOOL_KIND_CUSTOM else "function"
    return {"type": word, word: {"name": name}}


def _write_format(wanted: pb.ResponseFormat, body: Json) -> None:
    if wanted.kind == pb.RESPONSE_FORMAT_KIND_TEXT:
        body["response_format"] = {"type": "text"}
    elif wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_OBJECT:
        body["response_format"] = {"type": "json_object"}
    elif wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA:
        # Required here, and only a label: dialects without it are given one.
        about: Json = {"name": wanted.name or "answer"}
        if wanted.description:
            about["description"] = wanted.description
        if wanted.schema_json:
            about["schema"] = json_text.caller_object(wanted.schema_json, "response_format.json_schema.schema")
        if wanted.HasField("strict"):
            about["strict"] = wanted.strict
        body["response_format"] = {"type": "json_schema", "json_schema": about}


def _messages(request: pb.CompletionRequest, own: bool, capabilities: frozenset[str]) -> list[Json]:
    written: list[Json] = []
    for index, message in enumerate(request.messages):
        if len(message.parts) == 1 and _is_plain(message):
            written.append({"role": _ROLES[message.role], "content": message.parts[0].text.text})
            continue
        path = f"messages[{index}]"
        results = [part.tool_result for part in message.parts if part.HasField("tool_result")]
        # Results answer the turn before, so they come first, each as a message of its own.
        written += [_result(result, path, own, capabilities) for result in results]
        if results and len(results) == len(message.parts):
            if message.name:
                written[-1]["name"] = message.name
            _add_extra(written[-1], message.extra_json, path, own)
            continue
        spoken = _spoken(message, path, own, capabilities)
        _add_extra(spoken, message.extra_json, path, own)
        written.append(spoken)
    return written


def _is_plain(message: pb.Message) -> bool:
    """True for the message that most are: one text of the system, the user or the assistant, and nothing else."""
    part = message.parts[0]
    return (
        part.HasField("text")
        and message.role in (pb.ROLE_USER, pb.ROLE_ASSISTANT, pb.ROLE_SYSTEM)
        and not (message.name or message.extra_json or part.extra_json or part.HasField("cache_breakpoint"))
    )


def _spoken(message: pb.Message, path: str, own: bool, capabilities: frozenset[str]) -> Json:
    """A turn as one message: what is said as its content, and the rest as its fields."""
    role = _ROLES.get(message.role, "user")
    if role == "developer" and can.DEVELOPER_ROLE not in capabilities:
        role = "system"
    written: Json = {"role": role}
    if message.name:
        written["name"] = message.name
    calls: list[Json] = []
    content: list[pb.Part] = []
    for part in message.parts:
        kind = part.WhichOneof("content")
        if kind == "text":
            content.append(part)
        elif kind == "tool_call":
            calls.append(_call(part, path, own))
        elif kind == "refusal" and own and part.extra_json:
            content.append(part)
        elif kind == "refusal":
            written["refusal"] = written.get("refusal", "") + part.refusal.text
        elif kind == "reasoning":
            _write_reasoning(part.reasoning, written, capabilities)
        elif kind == "audio" and part.audio.WhichOneof("source") == "id":
            written["audio"] = {"id": part.audio.id}
        elif kind in CONTENT:
            content.append(part)
    if content or not (calls or written.keys() - {"role", "name"}):
        written["content"] = _content(content, path, own, capabilities)
    else:
        written["content"] = None
    if calls:
        written["tool_calls"] = calls
    return written


def _write_reasoning(reasoning: pb.ReasoningContent, written: Json, capabilities: frozenset[str]) -> None:
    text = reasoning.text or "\n".join(reasoning.summary)
    if can.REASONING_CONTENT in capabilities:
        written["reasoning_content"] = written.get("reasoning_content", "") + text
    elif can.REASONING in capabilities:
        written["reasoning"] = written.get("reasoning", "") + text


def _call(part: pb.Part, path: str, own: bool) -> Json:
    call = part.tool_call
    if call.kind == pb.TOOL_KIND_CUSTOM:
        written: Json = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.input}}
    else:
        arguments = call.arguments_json or "{}"
        written = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
    _add_extra(written, part.extra_json, path, own)
    return written


def _result(result: pb.ToolResult, path: str, own: bool, capabilities: frozenset[str]) -> Json:
    content = _content(result.parts, path, own, capabilities)
    return {"role": "tool", "tool_call_id": result.call_id, "content": content}


def _content(parts: Iterable[pb.Part], path: str, own: bool, capabilities: frozenset[str]) -> str | list[Json]:
    """One plain text as a text, everything else as a list of parts."""
    parts = list(parts)
    plain = [part.text.text for part in parts if part.HasField("text")]
    if len(plain) == len(parts):
        bare = len(parts) == 1 and not (own and (parts[0].extra_json or parts[0].HasField("cache_breakpoint")))
        if bare or not parts or can.TEXT_CONTENT in capabilities:
            return "\n".join(plain)
    return [_part(part, f"{path}.content[{index}]", own) for index, part in enumerate(parts)]


def _part(part: pb.Part, path: str, own: bool) -> Json:
    kind = part.WhichOneof("content")
    if kind == "native":
        return json_text.caller_object(part.native.json, path)
    if kind == "text":
        written: Json = {"type": "text", "text": part.text.text}
    elif kind == "refusal":
        written = {"type": "refusal", "refusal": part.refusal.text}
    elif kind == "image":
        written = {"type": "image_url", "image_url": _image(part.image)}
    elif kind == "audio":
        sound = {"data": base64.b64encode(part.audio.data).decode(), "format": part.audio.format}
        written = {"type": "input_audio", "input_audio": sound}
    else:
        written = {"type": "file", "file": _file(part.file)}
    if own and part.HasField("cache_breakpoint"):
        mark = {"mode": "explicit"}
        if part.cache_breakpoint.ttl:
            mark["ttl"] = part.cache_breakpoint.ttl
        written["prompt_cache_breakpoint"] = mark
    _add_extra(written, part.extra_json, path, own)
    return written


def _image(image: pb.Image) -> Json:
    url = image.url or _data_url(image.data, image.media_type or "image/png")
    return {"url": url, "detail": image.detail} if image.detail else {"url": url}


def _file(file: pb.File) -> Json:
    written: Json = {}
    if file.filename:
        written["filename"] = file.filename
    source = file.WhichOneof("source")
    if source == "file_id":
        written["file_id"] = file.file_id
    elif source == "text":
        written["file_data"] = _data_url(file.text.encode(), file.media_type or "text/plain")
    else:
        written["file_data"] = _data_url(file.data, file.media_type or "application/pdf")
    return written


def _data_url(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _add_extra(written: Json, extra_json: str, path: str, own: bool) -> None:
    if own and extra_json:
        json_text.add_missing(written, json_text.caller_extra(extra_json, path))
