"""What of a request this dialect cannot express: named in a warning, or refused. The package says which is which."""

from __future__ import annotations

import re

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.field_paths import message_path, part_path
from tokendance_server.providers.gemini import capabilities as can
from tokendance_server.providers.gemini.contents import INSTRUCTING, head_of
from tokendance_server.providers.gemini.request import BUDGETS, SCHEMA_PATH, parameters_path, sent_tools
from tokendance_server.providers.gemini.schema import adapt_schema
from tokendance_server.providers.gemini.signatures import CHAT_FIELD, signature_of_reasoning
from tokendance_server.providers.warnings import Warnings

MOST_STOPS = 5

_TOOL_NAME = re.compile(r"[A-Za-z_][\w.:-]{0,127}", re.ASCII)
_NO_PLACE = "This model has no place for the field."
_NO_CACHE_MARKS = "This model's provider decides itself what it caches."
_PREFERENCES = ("user", "service_tier", "prompt_cache_key", "safety_identifier", "verbosity")


def find_gaps(request: pb.CompletionRequest, capabilities: frozenset[str]) -> list[pb.Warning]:
    """Return what would be left out; raises unsupported_parameter or invalid_request, naming the field."""
    gaps = Warnings()
    _request_gaps(request, gaps)
    if request.HasField("reasoning"):
        _reasoning_gaps(request.reasoning, capabilities, gaps)
    if request.tools or request.HasField("tool_choice"):
        _tool_gaps(request, gaps)
    _message_gaps(request, capabilities, gaps)
    return gaps.told()


def _request_gaps(request: pb.CompletionRequest, gaps: Warnings) -> None:
    if request.extra_json:
        extra = json_text.caller_extra(request.extra_json, "extra_json")
        extra.pop("stream_options", None)
        gaps.add_all(extra, _NO_PLACE)
    for header in request.dialect_headers:
        gaps.add(header.name, "This model's provider knows no such header.")
    for name in _PREFERENCES:
        if getattr(request, name):
            gaps.add(name, "This model's provider takes no such field.")
    sampling = request.sampling
    if len(sampling.stop) > MOST_STOPS:
        raise _unsupported("stop", f"This model takes {MOST_STOPS} texts to stop at, at most; give fewer.")
    if sampling.logit_bias:
        gaps.add("logit_bias", "This model's tokens are others: a bias has no place.")
    if sampling.HasField("seed") and not -(2**31) <= sampling.seed < 2**31:
        gaps.add("seed", "This model takes seeds of 32 bits.")
    if pb.MODALITY_AUDIO in request.modalities or request.HasField("audio"):
        param = "modalities" if pb.MODALITY_AUDIO in request.modalities else "audio"
        raise _unsupported(param, "This model does not answer in sound; leave out audio.")
    if request.response_format.schema_json:
        adapt_schema(json_text.caller_object(request.response_format.schema_json, SCHEMA_PATH), SCHEMA_PATH, gaps)


def _reasoning_gaps(reasoning: pb.Reasoning, capabilities: frozenset[str], gaps: Warnings) -> None:
    if can.NO_THINKING in capabilities:
        if reasoning.effort not in ("", "none") or reasoning.HasField("max_tokens"):
            gaps.add("reasoning", "This model does not reason before it answers.")
        return
    if reasoning.effort and reasoning.effort not in BUDGETS:
        gaps.add("reasoning.effort", "This model knows no such effort.")
    if can.THINKING_LEVELS in capabilities:
        if reasoning.effort == "none":
            gaps.add("reasoning.effort", "This model always reasons; it is asked for the least.")
        if reasoning.HasField("max_tokens"):
            gaps.add("reasoning.max_tokens", "This model takes an effort, not a cap, for its reasoning.")


def _tool_gaps(request: pb.CompletionRequest, gaps: Warnings) -> None:
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        if tool.namespace:
            raise _unsupported(f"{path}.namespace", "This model takes no namespaces of tools; give each its own name.")
        if tool.kind == pb.TOOL_KIND_CUSTOM:
            raise _unsupported(path, "This model takes functions only, with arguments in JSON.")
        if tool.kind == pb.TOOL_KIND_HOSTED:
            gaps.add(path, "The provider of this model does not run this tool.")
            continue
        if not _TOOL_NAME.fullmatch(tool.name):
            raise _unsupported(
                f"{path}.function.name", "This model takes names of tools that begin with a letter or an underscore."
            )
        if tool.parameters_json:
            where = parameters_path(index)
            adapt_schema(json_text.caller_object(tool.parameters_json, where), where, gaps)
        if tool.strict:
            gaps.add(f"{path}.strict", "This model has no strict tools.")
        if tool.HasField("cache_breakpoint"):
            gaps.add(f"{path}.cache_breakpoint", _NO_CACHE_MARKS)
        if tool.extra_json:
            gaps.add_all(json_text.caller_extra(tool.extra_json, f"{path}.extra_json"), _NO_PLACE, f"{path}.")
    _choice_gaps(request, gaps)


def _choice_gaps(request: pb.CompletionRequest, gaps: Warnings) -> None:
    choice = request.tool_choice
    forced = choice.mode in (pb.TOOL_CHOICE_MODE_REQUIRED, pb.TOOL_CHOICE_MODE_TOOL)
    sent = {tool.name for _, tool in sent_tools(request)}
    if forced and (not sent or (choice.mode == pb.TOOL_CHOICE_MODE_TOOL and choice.name not in sent)):
        raise _unsupported("tool_choice", "This model cannot be made to use a tool that it is not given.")
    if request.HasField("parallel_tool_calls") and not request.parallel_tool_calls and sent:
        gaps.add("parallel_tool_calls", "This model decides itself how many tools it calls at once.")


def _message_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    head = head_of(request.messages)
    dropped = False
    for at, message in enumerate(request.messages):
        path = message_path(request, at)
        if message.role == pb.ROLE_TOOL and not any(part.HasField("tool_result") for part in message.parts):
            raise _invalid(path, "A message of a tool must hold the result of a call.")
        if at >= head and message.role in INSTRUCTING:
            gaps.add(path, "This model takes instructions at the beginning only: these are sent as the user's words.")
        if message.name:
            gaps.add(f"{path}.name", "This model takes no names of speakers.")
        if message.extra_json:
            gaps.add_all(json_text.caller_extra(message.extra_json, f"{path}.extra_json"), _NO_PLACE, f"{path}.")
        for part_at, part in enumerate(message.parts):
            where = part_path(request, at, part_at)
            if part.HasField("reasoning"):
                dropped = dropped or not signature_of_reasoning(part.reasoning)
            _part_gaps(part, where, message.role, capabilities, gaps)
    if dropped:
        gaps.add("messages", "The reasoning of earlier turns is not sent back to this model.")


def _part_gaps(part: pb.Part, path: str, role: pb.Role.ValueType, capabilities: frozenset[str], gaps: Warnings) -> None:
    kind = part.WhichOneof("content")
    if role in INSTRUCTING and kind != "text":
        raise _unsupported(path, "This model takes instructions as text only.")
    if kind == "tool_result":
        for inner in part.tool_result.parts:
            _check_content(inner, path, capabilities, gaps)
    else:
        _check_content(part, path, capabilities, gaps)
    if kind == "text" and part.text.citations:
        gaps.add(f"{path}.citations", "The sources of earlier answers are not sent back to this model.")
    if part.extra_json:
        extra = json_text.caller_extra(part.extra_json, f"{path}.extra_json")
        if kind == "tool_call":
            # It may carry the call's signature, which is read there.
            extra.pop(CHAT_FIELD, None)
        gaps.add_all(extra, _NO_PLACE, f"{path}.")
    if part.HasField("cache_breakpoint"):
        gaps.add(f"{path}.cache_breakpoint", _NO_CACHE_MARKS)


def _check_content(part: pb.Part, path: str, capabilities: frozenset[str], gaps: Warnings) -> None:
    kind = part.WhichOneof("content")
    if kind is None:
        raise _invalid(path, "A part of a message must hold some content.")
    if kind == "native" and part.native.dialect != pb.DIALECT_GEMINI:
        raise _unsupported(path, f"This model does not take content of the type {part.native.type or 'given'}.")
    if kind == "image":
        _check_source(part.image.WhichOneof("source"), path, "pictures", capabilities)
        if part.image.detail not in ("", "auto"):
            gaps.add(f"{path}.detail", "This model decides itself how closely it looks.")
    elif kind == "file":
        _check_source(part.file.WhichOneof("source"), path, "documents", capabilities)
    elif kind == "audio":
        _check_source(part.audio.WhichOneof("source"), path, "sound", capabilities)
    elif kind == "tool_call" and part.tool_call.namespace:
        raise _unsupported(path, "This model takes no namespaces of tools; give each its own name.")


def _check_source(source: str | None, path: str, what: str, capabilities: frozenset[str]) -> None:
    if source is None:
        raise _invalid(path, f"There must be {what} in this part.")
    if source == "url" and can.URL_MEDIA not in capabilities:
        raise _unsupported(path, f"This model takes {what} by value, not by address.")
    if source in ("file_id", "id"):
        raise _unsupported(path, f"This model takes {what} by value, not by id.")


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
