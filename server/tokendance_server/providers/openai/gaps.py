"""What of a request the OpenAI dialect, or one server of it, cannot express: named in a warning, or refused.

Refused, because the answer would be another one: content of another dialect or without a place in this one, tools in
namespaces, a choice, log probabilities or several answers where the server has none, and fields that would steer the
call past the gateway's own choice of model and credential.
Left out and named: hosted tools of other dialects, reasoning of earlier turns where the server takes none, caps and
summaries of reasoning, marks for caches, the failure mark of a tool's result, and unknown fields of other dialects.
"""

from __future__ import annotations

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.field_paths import message_path, part_path
from tokendance_server.providers.openai import capabilities as can
from tokendance_server.providers.warnings import Warnings

STEERING_FIELDS = frozenset(
    {
        "api_base",
        "api_key",
        "api_version",
        "authorization",
        "base_url",
        "custom_llm_provider",
        "extra_body",
        "extra_headers",
        "fallbacks",
        "headers",
        "models",
    }
)
"""Fields by which some servers let a caller choose another model, address or credential: never sent."""

CONTENT = frozenset({"text", "image", "audio", "file", "native"})
"""The kinds of part that are content in this dialect; the others are fields of the message."""

_NO_PLACE = "This model has no place for the field."
_NO_NAMESPACES = "This model takes no namespaces of tools; give each tool its own name."
_CORE_ONLY = ("user", "service_tier", "prompt_cache_key", "safety_identifier")


def find_gaps(request: pb.CompletionRequest, capabilities: frozenset[str]) -> list[pb.Warning]:
    """Return what would be left out; raises unsupported_parameter or invalid_request, naming the field."""
    gaps = Warnings()
    _request_gaps(request, capabilities, gaps)
    if request.tools or request.HasField("tool_choice"):
        _tool_gaps(request, capabilities, gaps)
    _message_gaps(request, capabilities, gaps)
    return gaps.told()


def _request_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    if request.extra_json:
        extra = json_text.caller_extra(request.extra_json, "extra_json")
        for name in sorted(STEERING_FIELDS & extra.keys()):
            message = f"The field {name} is not served: models and addresses are the gateway's to choose."
            raise _unsupported(name, message)
        if request.dialect != pb.DIALECT_OPENAI_CHAT:
            extra.pop("stream_options", None)
            gaps.add_all(extra, _NO_PLACE)
    for header in request.dialect_headers:
        gaps.add(header.name, "This model's provider knows no such header.")
    if request.HasField("reasoning"):
        if request.reasoning.effort and can.NO_EFFORT in capabilities:
            gaps.add("reasoning_effort", "This model is not asked for reasoning.")
        if request.reasoning.HasField("max_tokens"):
            gaps.add("reasoning.max_tokens", "This model takes an effort, not a cap, for its reasoning.")
        if request.reasoning.summary:
            gaps.add("reasoning.summary", "This model gives no summary of its reasoning.")
        if request.reasoning.include_encrypted:
            gaps.add("reasoning.include_encrypted", "This model gives no opaque reasoning.")
    if not capabilities:
        return
    if can.NO_N in capabilities and request.choice_count > 1:
        raise _unsupported("n", "This model gives one answer a call; leave out n.")
    if can.NO_LOGPROBS in capabilities and request.logprobs.enabled:
        raise _unsupported("logprobs", "This model gives no log probabilities; leave out logprobs.")
    if can.CORE_FIELDS in capabilities:
        for name in _CORE_ONLY:
            if getattr(request, name):
                gaps.add(name, "This model's provider takes no such field.")
        if request.verbosity:
            gaps.add("verbosity", "This model's provider takes no such field.")


def _tool_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        if tool.namespace:
            raise _unsupported(f"{path}.namespace", _NO_NAMESPACES)
        if tool.kind == pb.TOOL_KIND_HOSTED and request.dialect != pb.DIALECT_OPENAI_CHAT:
            gaps.add(path, "The provider of this model does not run this tool.")
        if tool.HasField("strict") and can.NO_STRICT in capabilities:
            gaps.add(f"{path}.strict", "This model has no strict tools.")
        if tool.HasField("cache_breakpoint"):
            gaps.add(f"{path}.cache_breakpoint", "This model's provider decides itself what it caches.")
        if tool.extra_json:
            _extra_gaps(tool.extra_json, path, request.dialect, gaps)
    forced = request.tool_choice.mode in (pb.TOOL_CHOICE_MODE_REQUIRED, pb.TOOL_CHOICE_MODE_TOOL)
    if forced and can.NO_REQUIRED in capabilities:
        raise _unsupported("tool_choice", "This model cannot be made to call a tool; use the choice auto.")
    if request.tool_choice.mode == pb.TOOL_CHOICE_MODE_TOOL and request.tool_choice.kind == pb.TOOL_KIND_HOSTED:
        raise _unsupported("tool_choice", "This model cannot be made to use a hosted tool; use the choice auto.")


def _message_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    chat = request.dialect == pb.DIALECT_OPENAI_CHAT
    reasoning_goes = can.REASONING_CONTENT in capabilities or can.REASONING in capabilities
    reasoning_dropped = False
    for at, message in enumerate(request.messages):
        content_at = -1
        if message.role == pb.ROLE_TOOL and not any(part.HasField("tool_result") for part in message.parts):
            raise _invalid(message_path(request, at), "A message of a tool must hold the result of a call.")
        if message.extra_json:
            _extra_gaps(message.extra_json, message_path(request, at), request.dialect, gaps)
        for part_at, part in enumerate(message.parts):
            kind = part.WhichOneof("content")
            content_at += kind in CONTENT
            cited = kind == "text" and len(part.text.citations) > 0
            if kind == "text" and not cited and not part.extra_json and not part.HasField("cache_breakpoint"):
                continue
            path = f"messages[{at}].content[{content_at}]" if chat else part_path(request, at, part_at)
            if cited:
                gaps.add(f"{path}.citations", "The sources of earlier answers are not sent back to this model.")
            if kind == "reasoning":
                reasoning_dropped = reasoning_dropped or not reasoning_goes
            elif kind == "tool_result":
                where = path if request.dialect == pb.DIALECT_ANTHROPIC_MESSAGES else message_path(request, at)
                _result_gaps(part.tool_result, where, request.dialect, gaps)
            elif kind != "text":
                _check_part(part, kind, path)
            if part.extra_json:
                _extra_gaps(part.extra_json, path, request.dialect, gaps)
            if part.HasField("cache_breakpoint") and not chat:
                gaps.add(f"{path}.cache_breakpoint", "This model's provider decides itself what it caches.")
    if reasoning_dropped:
        gaps.add("messages", "The reasoning of earlier turns is not sent back to this model.")


def _check_part(part: pb.Part, kind: str | None, path: str) -> None:
    """Raise where the part has no place in this dialect."""
    if kind is None:
        raise _invalid(path, "A part of a message must hold some content.")
    if kind == "native" and part.native.dialect != pb.DIALECT_OPENAI_CHAT:
        raise _unsupported(path, f"This model does not take content of the type {part.native.type or 'given'}.")
    if kind == "image":
        source = part.image.WhichOneof("source")
        if source == "file_id":
            raise _unsupported(path, "This model takes pictures by address or by value, not by file id.")
        if source is None:
            raise _invalid(path, "A picture needs an address or its bytes.")
    elif kind == "audio" and part.audio.WhichOneof("source") is None:
        raise _invalid(path, "Sound needs its bytes or an id.")
    elif kind == "file":
        if part.file.HasField("url"):
            raise _unsupported(path, "This model takes documents by value or by file id, not by address.")
        if part.file.WhichOneof("source") is None:
            raise _invalid(path, "A document needs its bytes or a file id.")
    elif kind == "tool_call" and part.tool_call.namespace:
        raise _unsupported(path, _NO_NAMESPACES)


def _result_gaps(result: pb.ToolResult, path: str, dialect: pb.Dialect.ValueType, gaps: Warnings) -> None:
    for part in result.parts:
        kind = part.WhichOneof("content")
        if kind not in ("text", "image"):
            raise _unsupported(path, "This model takes only text and pictures as the result of a tool.")
        if kind == "image":
            _check_part(part, kind, path)
        if part.extra_json:
            _extra_gaps(part.extra_json, path, dialect, gaps)
    if result.is_error:
        gaps.add(path, "The mark that a tool failed has no place with this model; say it in the result's text.")


def _extra_gaps(text: str, path: str, dialect: pb.Dialect.ValueType, gaps: Warnings) -> None:
    extra = json_text.caller_extra(text, f"{path}.extra_json")
    if dialect != pb.DIALECT_OPENAI_CHAT:
        gaps.add_all(extra, _NO_PLACE, f"{path}.")


def _unsupported(param: str, message: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        message,
        param=param,
        metadata={"param": param},
        origin="caller",
    )


def _invalid(param: str, message: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param, metadata={"param": param}, origin="caller"
    )
