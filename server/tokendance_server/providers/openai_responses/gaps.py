"""What of a request the Responses API cannot express: named in a warning, or refused.

Refused, because the answer would be another one: several answers, stop texts, biases of tokens, answers in sound or
pictures, content of another dialect, and fields that would steer the call past the gateway's own choice of model and
credential.
Left out and named: a seed, top_k, a cap on reasoning tokens, names of participants, the failure mark of a tool's
result, reasoning that another provider's model made, marks for caches, sources that earlier turns cite, and unknown
fields and hosted tools of other dialects.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.openai.gaps import STEERING_FIELDS
from tokendance_server.providers.openai_responses.places import place
from tokendance_server.providers.warnings import Warnings

DIALECT = pb.DIALECT_OPENAI_RESPONSES

# An id that the gateway gave to reasoning of an upstream without ids: no upstream of this dialect knows it.
_MINTED = re.compile(r"rs_[0-9a-z]{26}_\d{1,4}")
_NO_PLACE = "This model has no place for the field."


def find_gaps(request: pb.CompletionRequest) -> list[pb.Warning]:
    """Return what would be left out; raises unsupported_parameter or invalid_request, naming the field."""
    gaps = Warnings()
    own = request.dialect == DIALECT
    if request.extra_json:
        _extra_gaps(request, own, gaps)
    _sampling_gaps(request, gaps)
    for header in request.dialect_headers:
        gaps.add(header.name, "This model's provider takes no such header.")
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        if tool.kind == pb.TOOL_KIND_HOSTED and not own:
            gaps.add(path, "The provider of this model does not run this tool.")
        if tool.HasField("cache_breakpoint"):
            gaps.add(f"{path}.cache_breakpoint", "This model's provider decides itself what it caches.")
        if tool.extra_json:
            _foreign(tool.extra_json, partial(str, path), own, gaps)
    choice = request.tool_choice
    if choice.mode == pb.TOOL_CHOICE_MODE_TOOL and choice.kind == pb.TOOL_KIND_HOSTED and not own:
        raise _unsupported("tool_choice", "This model cannot be made to use a hosted tool; use the choice auto.")
    _message_gaps(request, own, gaps)
    return gaps.told()


def goes_back(thought: pb.ReasoningContent, *, own: bool) -> bool:
    """Tell whether reasoning of an earlier turn is sent back: what came in this dialect, and not from elsewhere."""
    if not own or thought.signature or thought.redacted:
        return False
    return bool(thought.encrypted_content) or _MINTED.fullmatch(thought.item_id) is None


def _extra_gaps(request: pb.CompletionRequest, own: bool, gaps: Warnings) -> None:
    extra = json_text.caller_extra(request.extra_json, "extra_json")
    for name in sorted(STEERING_FIELDS & extra.keys()):
        message = f"The field {name} is not served: models and addresses are the gateway's to choose."
        raise _unsupported(name, message)
    if not own:
        extra.pop("stream_options", None)
        gaps.add_all(extra, _NO_PLACE)


def _sampling_gaps(request: pb.CompletionRequest, gaps: Warnings) -> None:
    sampling = request.sampling
    if request.choice_count > 1:
        raise _unsupported("n", "This model gives one answer a call; leave out n.")
    if sampling.stop:
        raise _unsupported("stop", "This model ends at no stop texts; leave out stop.")
    if sampling.logit_bias:
        raise _unsupported("logit_bias", "This model takes no bias of tokens; leave out logit_bias.")
    if any(kind != pb.MODALITY_TEXT for kind in request.modalities):
        raise _unsupported("modalities", "This model answers in text; leave out modalities.")
    if sampling.HasField("seed"):
        gaps.add("seed", "This model takes no seed.")
    if sampling.HasField("top_k"):
        gaps.add("top_k", "This model takes top_p, not top_k.")
    if request.reasoning.HasField("max_tokens"):
        gaps.add("reasoning.max_tokens", "This model takes an effort, not a cap, for its reasoning.")


def _message_gaps(request: pb.CompletionRequest, own: bool, gaps: Warnings) -> None:
    dropped = False
    for at, message in enumerate(request.messages):
        if message.name and not any(part.HasField("tool_result") for part in message.parts):
            gaps.add(f"{place(request, at)}.name", "This model takes no names of participants.")
        if message.extra_json:
            _foreign(message.extra_json, partial(place, request, at), own, gaps)
        for part_at, part in enumerate(message.parts):
            kind = part.WhichOneof("content")
            if part.HasField("cache_breakpoint") and not own:
                path = f"{place(request, at, part_at)}.cache_breakpoint"
                gaps.add(path, "This model's provider decides itself what it caches.")
            if kind == "text" and part.text.citations:
                path = f"{place(request, at, part_at)}.citations"
                gaps.add(path, "Sources that an earlier turn cites are not sent back to this model.")
            if kind == "text" and not part.extra_json:
                continue
            if kind == "reasoning":
                dropped = dropped or not goes_back(part.reasoning, own=own)
                continue
            where = partial(place, request, at, part_at)
            _check_part(part, kind, where, gaps)
            if part.extra_json:
                _foreign(part.extra_json, where, own, gaps)
    if dropped:
        gaps.add("input" if own else "messages", "Reasoning that another model made is not sent back to this model.")


def _check_part(part: pb.Part, kind: str | None, where: Callable[[], str], gaps: Warnings) -> None:
    """Raise where the part has no place in this dialect."""
    if kind is None:
        raise _invalid(where(), "A part of a message must hold some content.")
    if kind == "native" and part.native.dialect != DIALECT:
        raise _unsupported(where(), f"This model does not take content of the type {part.native.type or 'given'}.")
    if kind == "image" and part.image.WhichOneof("source") is None:
        raise _invalid(where(), "A picture needs an address, its bytes or a file id.")
    if kind == "file" and part.file.WhichOneof("source") is None:
        raise _invalid(where(), "A document needs an address, its bytes or a file id.")
    if kind == "audio" and not part.audio.data:
        raise _unsupported(where(), "This model takes sound by value only.")
    if kind == "tool_result":
        for inner in part.tool_result.parts:
            within = inner.WhichOneof("content")
            if within not in ("text", "image", "file", "native"):
                raise _unsupported(where(), "This model takes text, pictures and documents as the result of a tool.")
            _check_part(inner, within, where, gaps)
        if part.tool_result.is_error:
            gaps.add(where(), "The mark that a tool failed has no place with this model; say it in the result's text.")


def _foreign(text: str, where: Callable[[], str], own: bool, gaps: Warnings) -> None:
    extra = json_text.caller_extra(text, "extra_json")
    if not own:
        gaps.add_all(extra, _NO_PLACE, f"{where()}.")


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
