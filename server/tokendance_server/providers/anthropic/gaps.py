"""What of a request the Messages API cannot express: named in a warning, or refused. The module above lists which."""

from __future__ import annotations

import re

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.anthropic import capabilities as can
from tokendance_server.providers.anthropic.content import goes_back
from tokendance_server.providers.anthropic.request import is_own, is_tier_known
from tokendance_server.providers.anthropic.thinking import loses_thinking, takes_sampling, why_dropped
from tokendance_server.providers.anthropic.turns import INSTRUCTING
from tokendance_server.providers.field_paths import message_path, part_path
from tokendance_server.providers.openai.gaps import STEERING_FIELDS
from tokendance_server.providers.warnings import Warnings

_NO_PLACE = "This model has no place for the field."
_NO_NAMESPACES = "This model takes no namespaces of tools; give each tool its own name."
_FORCING = (pb.TOOL_CHOICE_MODE_REQUIRED, pb.TOOL_CHOICE_MODE_TOOL)
_HEADER_VALUE = re.compile(r"[ -~]*")
_PICTURES = frozenset({"", "image/jpeg", "image/png", "image/gif", "image/webp"})


def find_gaps(request: pb.CompletionRequest, capabilities: frozenset[str]) -> list[pb.Warning]:
    """Return what would be left out; raises unsupported_parameter or invalid_request, naming the field."""
    gaps = Warnings()
    extra = json_text.caller_extra(request.extra_json, "extra_json") if request.extra_json else {}
    for name in sorted(STEERING_FIELDS & extra.keys()):
        raise _unsupported(name, f"The field {name} is not served: models and addresses are the gateway's to choose.")
    for header in request.dialect_headers:
        if not _HEADER_VALUE.fullmatch(header.value):
            raise _invalid(header.name, "The value of a header must be printable ASCII.")
    if not request.HasField("max_output_tokens"):
        gaps.add("max_tokens", "This model's answers need a cap: the model's own is set, or 4,096 where it has none.")
    if is_own(request):
        _own_gaps(request, gaps)
        return gaps.told()
    extra.pop("stream_options", None)
    gaps.add_all(extra, _NO_PLACE)
    for header in request.dialect_headers:
        gaps.add(header.name, "This model's provider knows no such header.")
    _output_gaps(request, capabilities, gaps)
    _preference_gaps(request, gaps)
    _reasoning_gaps(request, capabilities, gaps)
    _sampling_gaps(request, capabilities, gaps)
    _tool_gaps(request, gaps)
    _message_gaps(request, capabilities, gaps)
    return gaps.told()


def _own_gaps(request: pb.CompletionRequest, gaps: Warnings) -> None:
    """A request of this dialect goes as it came; only reasoning that nobody has signed would be refused upstream."""
    if loses_thinking(request):
        gaps.add("thinking", "The reasoning of this turn so far is another model's; it goes on without.")
    for at, message in enumerate(request.messages):
        for part_at, part in enumerate(message.parts):
            path = part_path(request, at, part_at)
            if part.WhichOneof("content") == "tool_call":
                json_text.caller_object(part.tool_call.arguments_json or "{}", path)
            elif part.HasField("reasoning") and not goes_back(part.reasoning):
                gaps.add(path, "Reasoning without a signature is not sent back to this model.")


def _output_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    if request.choice_count > 1:
        raise _unsupported("n", "This model gives one answer a call; leave out n.")
    if request.logprobs.enabled:
        raise _unsupported("logprobs", "This model gives no log probabilities; leave out logprobs.")
    if any(modality != pb.MODALITY_TEXT for modality in request.modalities):
        raise _unsupported("modalities", "This model answers in text only; leave out modalities.")
    wanted = request.response_format
    if wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_OBJECT:
        gaps.add("response_format", "This model has no such form of answer; an instruction asks it for JSON.")
    elif wanted.kind == pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA:
        if can.NO_OUTPUT_FORMAT in capabilities:
            raise _unsupported("response_format", "This model gives no structured output; use a tool instead.")
        if wanted.description:
            gaps.add("response_format.json_schema.description", "This model takes the schema alone.")


def _preference_gaps(request: pb.CompletionRequest, gaps: Warnings) -> None:
    if request.verbosity:
        gaps.add("verbosity", _NO_PLACE)
    if request.prompt_cache_key:
        gaps.add("prompt_cache_key", "This model's provider finds cached prompts by itself.")
    if request.user and request.safety_identifier:
        gaps.add("user", "This model takes one name of an end user; safety_identifier is sent.")
    if not is_tier_known(request.service_tier):
        gaps.add("service_tier", "This model's provider has no such tier.")


def _reasoning_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    reasoning = request.reasoning
    dropped = why_dropped(request, capabilities)
    if dropped is not None:
        gaps.add("reasoning_effort" if reasoning.effort else "reasoning", dropped)
        return
    budgeted = can.THINKING_BUDGET in capabilities
    if reasoning.HasField("max_tokens") and not budgeted:
        gaps.add("reasoning.max_tokens", "This model chooses itself how long it reasons.")
    if reasoning.effort == "minimal" and not budgeted:
        gaps.add("reasoning_effort", "The least effort that this model has a word for is low.")


def _sampling_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    sampling = request.sampling
    drawn = {field.name for field, _ in sampling.ListFields()}
    for name in ("frequency_penalty", "presence_penalty", "seed"):
        if name in drawn:
            gaps.add(name, _NO_PLACE)
    if sampling.logit_bias:
        gaps.add("logit_bias", _NO_PLACE)
    if not takes_sampling(request, capabilities):
        why = "This model takes no sampling" + (
            "." if can.NO_SAMPLING in capabilities else " beside reasoning; leave out one of them."
        )
        for name in ("temperature", "top_p", "top_k"):
            if name in drawn:
                gaps.add(name, why)
        return
    if sampling.HasField("temperature"):
        if sampling.temperature > 1:
            gaps.add("temperature", "The highest temperature of this model is 1.")
        if sampling.HasField("top_p"):
            gaps.add("top_p", "This model takes one of temperature and top_p; temperature is sent.")


def _tool_gaps(request: pb.CompletionRequest, gaps: Warnings) -> None:
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        if tool.namespace:
            raise _unsupported(f"{path}.namespace", _NO_NAMESPACES)
        if tool.kind == pb.TOOL_KIND_HOSTED:
            gaps.add(path, "The provider of this model does not run this tool.")
        elif tool.parameters_json:
            json_text.caller_object(tool.parameters_json, path)
        if tool.format_json:
            gaps.add(f"{path}.format", "This model follows no grammar; the tool's input is free text.")
        if tool.extra_json:
            gaps.add_all(json_text.caller_extra(tool.extra_json, path), _NO_PLACE, f"{path}.")
    choice = request.tool_choice
    if choice.mode == pb.TOOL_CHOICE_MODE_TOOL and choice.kind == pb.TOOL_KIND_HOSTED:
        raise _unsupported("tool_choice", "This model cannot be made to use a hosted tool; use the choice auto.")
    if choice.mode in _FORCING and not any(tool.kind != pb.TOOL_KIND_HOSTED for tool in request.tools):
        raise _unsupported("tool_choice", "This model has none of the tools of which one must be called.")


def _message_gaps(request: pb.CompletionRequest, capabilities: frozenset[str], gaps: Warnings) -> None:
    moved = dropped = spoken = False
    for at, message in enumerate(request.messages):
        path = message_path(request, at)
        if message.role not in INSTRUCTING:
            spoken = True
        elif spoken:
            moved = True
        if message.role == pb.ROLE_TOOL and not any(part.HasField("tool_result") for part in message.parts):
            raise _invalid(path, "A message of a tool must hold the result of a call.")
        if message.name:
            gaps.add(f"{path}.name", "This model takes no names of participants.")
        if message.extra_json:
            gaps.add_all(json_text.caller_extra(message.extra_json, path), _NO_PLACE, f"{path}.")
        for part_at, part in enumerate(message.parts):
            if part.HasField("reasoning"):
                dropped = dropped or not goes_back(part.reasoning)
            else:
                _check_part(part, part_path(request, at, part_at), gaps)
    if not spoken:
        raise _invalid("messages", "This model needs at least one message of the user beside the instructions.")
    if moved and can.SYSTEM_TURNS not in capabilities:
        gaps.add("messages", "Instructions amid the conversation are sent with the next turn of the user.")
    if dropped:
        gaps.add("messages", "Reasoning of earlier turns without a signature is not sent back to this model.")


def _check_part(part: pb.Part, path: str, gaps: Warnings) -> None:
    """Raise where the part has no place here."""
    kind = part.WhichOneof("content")
    if kind is None:
        raise _invalid(path, "A part of a message must hold some content.")
    if kind == "native":
        raise _unsupported(path, f"This model does not take content of the type {part.native.type or 'given'}.")
    if kind == "text" and part.text.citations:
        gaps.add(f"{path}.citations", "The sources of earlier answers are not sent back to this model.")
    if kind == "audio":
        raise _unsupported(path, "This model does not take sound.")
    if kind == "image":
        _check_image(part.image, path, gaps)
    elif kind == "file":
        _check_file(part.file, path)
    elif kind == "tool_call":
        if part.tool_call.namespace:
            raise _unsupported(path, _NO_NAMESPACES)
        if part.tool_call.kind != pb.TOOL_KIND_CUSTOM:
            json_text.caller_object(part.tool_call.arguments_json or "{}", path)
    elif kind == "tool_result":
        for inner in part.tool_result.parts:
            if inner.WhichOneof("content") not in ("text", "image", "file"):
                raise _unsupported(path, "This model takes text, pictures and documents as the result of a tool.")
            _check_part(inner, path, gaps)
    if part.extra_json:
        gaps.add_all(json_text.caller_extra(part.extra_json, path), _NO_PLACE, f"{path}.")


def _check_image(image: pb.Image, path: str, gaps: Warnings) -> None:
    source = image.WhichOneof("source")
    if source is None:
        raise _invalid(path, "A picture needs an address or its bytes.")
    if source == "file_id":
        raise _unsupported(path, "This model takes pictures by address or by value, not by file id.")
    if source == "data" and image.media_type not in _PICTURES:
        raise _unsupported(path, "This model takes pictures as JPEG, PNG, GIF or WebP.")
    if image.detail and image.detail != "auto":
        gaps.add(f"{path}.detail", "This model looks at every picture alike.")


def _check_file(file: pb.File, path: str) -> None:
    source = file.WhichOneof("source")
    if source is None:
        raise _invalid(path, "A document needs its bytes.")
    if source == "file_id":
        raise _unsupported(path, "This model takes documents by value, not by file id.")
    if source == "data" and file.media_type not in ("", "application/pdf") and not file.media_type.startswith("text/"):
        raise _unsupported(path, "This model takes documents as PDF or plain text.")


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
