"""A Messages request body into the canonical form.

Fields without a typed place there travel in `extra_json`, those inside a field with one too, under its name; a null is
an absent field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import (
    Document,
    check_length,
    dump_extra,
    dump_request_extra,
    dump_text,
    keep_unknown,
    read_object,
    unknown_fields,
)
from tokendance_facade.dialects.messages.blocks import add_content
from tokendance_facade.dialects.messages.tools import decode_tool_choice, decode_tools

MAX_MESSAGES = 9_999
MAX_STOPS = 1024
MAX_SCHEMA_BYTES = 4 * 1024 * 1024
"""All tools together, and the form of the answer: far above what any upstream takes."""

_ROLES = {"user": pb.ROLE_USER, "assistant": pb.ROLE_ASSISTANT, "system": pb.ROLE_SYSTEM}
_MESSAGE = frozenset({"role", "content"})
_EFFORTS = frozenset({"minimal", "low", "medium", "high", "xhigh", "max"})
_SetField = Callable[[pb.CompletionRequest, Any], None]


@dataclass(frozen=True, slots=True)
class MessagesCall:
    """A decoded request, and whether its answer is a stream."""

    completion: pb.CompletionRequest
    stream: bool


def decode(body: bytes) -> MessagesCall:
    """Decode a request body. Raises invalid_json, and invalid_request naming the field."""
    return decode_document(read_object(body), len(body))


def decode_document(document: Document, size: int) -> MessagesCall:
    """Decode what was read of a body of `size` bytes. Raises invalid_request naming the field."""
    if document.get("max_tokens") is None:
        raise checks.missing("max_tokens")
    request = decode_prompt(document, size)
    stream = document.get("stream")
    return MessagesCall(request, stream is not None and checks.boolean(stream, "stream"))


def decode_prompt(document: Document, size: int) -> pb.CompletionRequest:
    """Decode a request whose tokens are only counted. Raises invalid_request naming the field."""
    if size > MAX_SCHEMA_BYTES:
        for name in ("tools", "output_config"):
            check_length(document.get(name), name, MAX_SCHEMA_BYTES)
    request = pb.CompletionRequest(dialect=pb.DIALECT_ANTHROPIC_MESSAGES, include_usage=True)
    extra: Document = {}
    for name, value in document.items():
        field = _FIELDS.get(name)
        if field is not None:
            if value is not None:
                field(request, value)
        elif name not in _TOGETHER:
            keep_unknown(extra, name, value)
    if not request.model:
        raise checks.missing("model")
    _conversation(request, document)
    hosted = decode_tools(request, document["tools"]) if document.get("tools") is not None else frozenset()
    rest: dict[str, Document] = {}
    if document.get("tool_choice") is not None:
        rest["tool_choice"] = decode_tool_choice(request, document["tool_choice"], hosted)
    if document.get("metadata") is not None:
        rest["metadata"] = _metadata(request, document["metadata"])
    if document.get("thinking") is not None:
        rest["thinking"] = _thinking(request, document["thinking"])
    if document.get("output_config") is not None:
        rest["output_config"] = _output_config(request, document["output_config"])
    extra.update((name, fields) for name, fields in rest.items() if fields)
    if extra:
        request.extra_json = dump_request_extra(extra)
    return request


def _conversation(request: pb.CompletionRequest, document: Document) -> None:
    system = document.get("system")
    if system:
        first = request.messages.add(role=pb.ROLE_SYSTEM)
        add_content(first.parts, system, "system")
    messages = document.get("messages")
    if messages is None:
        raise checks.missing("messages")
    for index, item in enumerate(checks.array(messages, "messages", low=1, high=MAX_MESSAGES)):
        path = f"messages[{index}]"
        role = checks.obj(item, path).get("role")
        if role is None:
            raise checks.missing(f"{path}.role")
        message = request.messages.add(role=_ROLES[checks.one_of(role, f"{path}.role", frozenset(_ROLES))])
        if item.get("content") is None:
            raise checks.missing(f"{path}.content")
        add_content(message.parts, item["content"], f"{path}.content")
        extra = unknown_fields(item, _MESSAGE, path)
        if extra:
            message.extra_json = dump_extra(extra, path)


def _thinking(request: pb.CompletionRequest, value: Any) -> Document:
    """Read how the model should reason; a way that the canonical form has no words for is kept whole."""
    thinking = checks.obj(value, "thinking")
    kind = checks.required_text(thinking, "type", "thinking", high=64)
    known = frozenset({"type"})
    if kind == "enabled":
        if thinking.get("budget_tokens") is None:
            raise checks.missing("thinking.budget_tokens")
        budget = checks.integer(thinking["budget_tokens"], "thinking.budget_tokens", 1, checks.INT64_MAX)
        request.reasoning.max_tokens = budget
        known |= {"budget_tokens"}
    elif kind == "adaptive":
        request.reasoning.adaptive = True
    elif kind == "disabled":
        request.reasoning.effort = "none"
    else:
        return thinking
    return unknown_fields(thinking, known, "thinking") or {}


def _output_config(request: pb.CompletionRequest, value: Any) -> Document:
    config = checks.obj(value, "output_config")
    known = set()
    effort = config.get("effort")
    # Beside reasoning that is switched off an effort says how thorough the answer is; that has no typed place.
    if type(effort) is str and effort in _EFFORTS and not request.reasoning.effort:
        request.reasoning.effort = effort
        known.add("effort")
    wanted = config.get("format")
    kept: Document = {}
    if wanted is not None:
        form = checks.obj(wanted, "output_config.format")
        if form.get("type") == "json_schema":
            kept = _format(request.response_format, form)
            known.add("format")
    extra = unknown_fields(config, frozenset(known), "output_config") or {}
    return {**extra, "format": kept} if kept else extra


def _format(target: pb.ResponseFormat, form: Document) -> Document:
    path = "output_config.format"
    if form.get("schema") is None:
        raise checks.missing(f"{path}.schema")
    target.kind = pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA
    target.schema_json = dump_text(checks.obj(form["schema"], f"{path}.schema"), f"{path}.schema")
    return unknown_fields(form, frozenset({"type", "schema"}), path) or {}


def _metadata(request: pb.CompletionRequest, value: Any) -> Document:
    metadata = checks.obj(value, "metadata")
    if metadata.get("user_id") is not None:
        request.user = checks.text(metadata["user_id"], "metadata.user_id", high=512)
    return unknown_fields(metadata, frozenset({"user_id"}), "metadata") or {}


def _model(request: pb.CompletionRequest, value: Any) -> None:
    request.model = checks.text(value, "model", low=1, high=256)


def _max_tokens(request: pb.CompletionRequest, value: Any) -> None:
    request.max_output_tokens = checks.integer(value, "max_tokens", 1, checks.INT64_MAX)


def _temperature(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.temperature = checks.number(value, "temperature", 0, 1)


def _top_p(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.top_p = checks.number(value, "top_p", 0, 1)


def _top_k(request: pb.CompletionRequest, value: Any) -> None:
    request.sampling.top_k = checks.integer(value, "top_k", 0, checks.INT64_MAX)


def _stop_sequences(request: pb.CompletionRequest, value: Any) -> None:
    for index, stop in enumerate(checks.array(value, "stop_sequences", high=MAX_STOPS)):
        request.sampling.stop.append(checks.text(stop, f"stop_sequences[{index}]"))


def _service_tier(request: pb.CompletionRequest, value: Any) -> None:
    request.service_tier = checks.text(value, "service_tier", low=1, high=64)


_FIELDS: dict[str, _SetField] = {
    "model": _model,
    "max_tokens": _max_tokens,
    "temperature": _temperature,
    "top_p": _top_p,
    "top_k": _top_k,
    "stop_sequences": _stop_sequences,
    "service_tier": _service_tier,
}

# Fields whose meaning depends on each other, or on where the answer goes: read once all others are.
_TOGETHER = frozenset({"messages", "system", "stream", "tools", "tool_choice", "metadata", "thinking", "output_config"})
