"""The canonical request as the JSON body of generateContent. Pure; what it cannot say is told by gaps.py."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers import json_text
from tokendance_server.providers.gemini import capabilities as can
from tokendance_server.providers.gemini.contents import write_conversation
from tokendance_server.providers.gemini.schema import adapt_schema

Json = dict[str, Any]

SCHEMA_PATH = "response_format.json_schema.schema"

BUDGETS = {
    "none": 0, "minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768,
}  # fmt: skip
"""Tokens of thinking for each effort, where the model takes no levels. Each is within what every model takes."""
_LEVELS = {
    "none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH",
    "max": "XHIGH",
}  # fmt: skip
_MODES = {
    pb.TOOL_CHOICE_MODE_AUTO: "AUTO",
    pb.TOOL_CHOICE_MODE_NONE: "NONE",
    pb.TOOL_CHOICE_MODE_REQUIRED: "ANY",
    pb.TOOL_CHOICE_MODE_TOOL: "ANY",
}
_BARE = frozenset({"additionalProperties", "properties", "required", "type"})
_COLLECTIONS = ("models/", "tunedModels/")


def model_path(model: str, method: str) -> str:
    """Return the path of a method of a model: its name is one segment, whatever it holds."""
    collection = next((one for one in _COLLECTIONS if model.startswith(one)), "models/")
    return f"/{collection}{quote(model.removeprefix(collection), safe='')}:{method}"


def parameters_path(index: int) -> str:
    """Return where the schema of a tool's parameters stands in the caller's request."""
    return f"tools[{index}].function.parameters"


def sent_tools(request: pb.CompletionRequest) -> list[tuple[int, pb.Tool]]:
    """Return the tools that are sent, each with its place: those that the upstream would run itself are not."""
    allowed = frozenset(request.tool_choice.allowed_names)
    return [
        (index, tool)
        for index, tool in enumerate(request.tools)
        if tool.kind != pb.TOOL_KIND_HOSTED and (not allowed or tool.name in allowed)
    ]


def write_request(request: pb.CompletionRequest, capabilities: frozenset[str]) -> Json:
    """Return the body. Raises invalid_request for a `…_json` field that is no JSON."""
    body: Json = {}
    write_conversation(request, body, capabilities)
    tools = sent_tools(request)
    if tools:
        body["tools"] = [{"functionDeclarations": [_declaration(tool, index) for index, tool in tools]}]
        _write_choice(request.tool_choice, body)
    config: Json = {}
    if request.HasField("sampling"):
        _write_sampling(request.sampling, config)
    if request.HasField("max_output_tokens"):
        config["maxOutputTokens"] = request.max_output_tokens
    if request.choice_count > 1:
        config["candidateCount"] = request.choice_count
    if request.logprobs.enabled:
        config["responseLogprobs"] = True
        if request.logprobs.top:
            config["logprobs"] = request.logprobs.top
    if request.HasField("response_format"):
        _write_format(request.response_format, config)
    if pb.MODALITY_IMAGE in request.modalities:
        config["responseModalities"] = ["TEXT", "IMAGE"]
    if request.HasField("reasoning") and can.NO_THINKING not in capabilities:
        thinking = _thinking(request.reasoning, capabilities)
        if thinking:
            config["thinkingConfig"] = thinking
    if config:
        body["generationConfig"] = config
    return body


def _write_sampling(sampling: pb.Sampling, config: Json) -> None:
    for name in ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"):
        if sampling.HasField(name):
            first, *more = name.split("_")
            config[first + "".join(map(str.capitalize, more))] = getattr(sampling, name)
    if sampling.HasField("seed") and -(2**31) <= sampling.seed < 2**31:
        config["seed"] = sampling.seed
    if sampling.stop:
        config["stopSequences"] = list(sampling.stop)


def _write_format(wanted: pb.ResponseFormat, config: Json) -> None:
    if wanted.kind not in (pb.RESPONSE_FORMAT_KIND_JSON_OBJECT, pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA):
        return
    config["responseMimeType"] = "application/json"
    if wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA and wanted.schema_json:
        schema = json_text.caller_object(wanted.schema_json, SCHEMA_PATH)
        config["responseJsonSchema"] = adapt_schema(schema, SCHEMA_PATH)


def _thinking(reasoning: pb.Reasoning, capabilities: frozenset[str]) -> Json:
    thinking: Json = {}
    effort = reasoning.effort
    if can.THINKING_LEVELS in capabilities:
        if effort in _LEVELS:
            thinking["thinkingLevel"] = _level(_LEVELS[effort], capabilities)
    elif reasoning.HasField("max_tokens"):
        thinking["thinkingBudget"] = reasoning.max_tokens
    elif effort in BUDGETS:
        thinking["thinkingBudget"] = BUDGETS[effort]
    elif reasoning.adaptive:
        thinking["thinkingBudget"] = -1
    if effort != "none":
        thinking["includeThoughts"] = True
    return thinking


def _level(level: str, capabilities: frozenset[str]) -> str:
    if level == "MINIMAL" and can.NO_MINIMAL_LEVEL in capabilities:
        return "LOW"
    return "HIGH" if level == "XHIGH" and can.XHIGH_LEVEL not in capabilities else level


def _declaration(tool: pb.Tool, index: int) -> Json:
    written: Json = {"name": tool.name}
    if tool.description:
        written["description"] = tool.description
    if tool.parameters_json:
        path = parameters_path(index)
        parameters = adapt_schema(json_text.caller_object(tool.parameters_json, path), path)
        # A schema without any property says the same as none, and some models refuse it.
        if parameters.get("properties") or parameters.get("additionalProperties") or parameters.keys() - _BARE:
            written["parametersJsonSchema"] = parameters
    return written


def _write_choice(choice: pb.ToolChoice, body: Json) -> None:
    if choice.mode not in _MODES:
        return
    config: Json = {"mode": _MODES[choice.mode]}
    if choice.mode == pb.TOOL_CHOICE_MODE_TOOL:
        config["allowedFunctionNames"] = [choice.name]
    body["toolConfig"] = {"functionCallingConfig": config}
