"""A Responses request body into the canonical form, and what of it an answer repeats.

Fields without a typed place there travel in `extra_json`; a null is an absent field. Nothing is stored here: what needs
an earlier answer, a conversation or a stored prompt is refused by name, and `store: true` is answered with a warning.
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
    dump_request_extra,
    dump_text,
    keep_unknown,
    read_object,
    unknown_fields,
)
from tokendance_facade.dialects.responses.items import decode_input
from tokendance_facade.dialects.responses.settings import settings_of
from tokendance_facade.dialects.responses.tools import decode_tool_fields
from tokendance_facade.dialects.sampling import SHARED_FIELDS, SetField

MAX_SCHEMA_BYTES = 4 * 1024 * 1024
"""All tools together, and the form of the answer: far above what any upstream takes."""

ENCRYPTED = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"

_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
_SUMMARIES = frozenset({"auto", "concise", "detailed"})
_FORMATS = {
    "text": pb.RESPONSE_FORMAT_KIND_TEXT,
    "json_object": pb.RESPONSE_FORMAT_KIND_JSON_OBJECT,
    "json_schema": pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA,
}
_VERBOSITIES = {"low": pb.VERBOSITY_LOW, "medium": pb.VERBOSITY_MEDIUM, "high": pb.VERBOSITY_HIGH}
_SHARED = ("model", "temperature", "top_p", "frequency_penalty", "presence_penalty", "user")
_FORMAT = frozenset({"type"})
_SCHEMA = _FORMAT | {"name", "schema", "strict", "description"}

_STORED = "This gateway stores no answers"
_REFUSED = {
    "previous_response_id": f"{_STORED}, so there is none to go on from; send the whole conversation as `input`.",
    "conversation": f"{_STORED} and keeps no conversations; send the whole conversation as `input`.",
    "prompt": "This gateway keeps no prompt templates; send the prompt itself as `instructions` or `input`.",
}


@dataclass(frozen=True, slots=True)
class ResponsesCall:
    """A decoded request, and what of it decides the form of the answer."""

    completion: pb.CompletionRequest
    stream: bool
    """Whether the answer is a stream."""
    settings: Document
    """What the answer says of its request: every field that has a default has a value here."""
    warnings: tuple[pb.Warning, ...]
    """What is served otherwise than asked."""


def decode(body: bytes) -> ResponsesCall:
    """Decode a request body. Raises invalid_json, invalid_request and unsupported_parameter, naming the field."""
    return decode_document(read_object(body), len(body))


def decode_document(document: Document, size: int) -> ResponsesCall:
    """Decode what was read of a body of `size` bytes. Raises invalid_request and unsupported_parameter."""
    _refuse_stored(document)
    if size > MAX_SCHEMA_BYTES:
        for name in ("tools", "text"):
            check_length(document.get(name), name, MAX_SCHEMA_BYTES)
    request = pb.CompletionRequest(dialect=pb.DIALECT_OPENAI_RESPONSES)
    extra: Document = {}
    for name, value in document.items():
        field = _FIELDS.get(name)
        if field is not None:
            if value is not None:
                field(request, value)
        elif name in _PARTLY:
            rest = _PARTLY[name](request, value) if value is not None else None
            if rest:
                extra[name] = rest
        elif name not in _TOGETHER:
            keep_unknown(extra, name, value)
    if not request.model:
        raise checks.missing("model")
    if document.get("instructions") is not None:
        text = checks.text(document["instructions"], "instructions")
        message = request.messages.add(role=pb.ROLE_SYSTEM, instructions=True)
        message.parts.add().text.text = text
    if document.get("input") is not None:
        decode_input(request, document["input"])
    if not request.messages:
        raise checks.missing("input")
    extra.update(decode_tool_fields(request, document))
    stream, options = _decode_stream(document)
    if options:
        extra["stream_options"] = options
    if extra:
        request.extra_json = dump_request_extra(extra)
    return ResponsesCall(request, stream, settings_of(document), _warnings(document))


def _refuse_stored(document: Document) -> None:
    for name, why in _REFUSED.items():
        if document.get(name) is not None:
            raise checks.unsupported(name, why)
    if document.get("background") is not None and checks.boolean(document["background"], "background"):
        raise checks.unsupported("background", f"{_STORED}, so none is made in the background; use `stream` instead.")


def _warnings(document: Document) -> tuple[pb.Warning, ...]:
    store = document.get("store")
    if store is None or not checks.boolean(store, "store"):
        return ()
    return (pb.Warning(field="store", why=f"{_STORED}: keep what you need of it."),)


def _decode_stream(document: Document) -> tuple[bool, Document]:
    """Read `stream`; `include_obfuscation` asks for padding towards the caller, and the gateway adds none."""
    wanted = document.get("stream")
    stream = checks.boolean(wanted, "stream") if wanted is not None else False
    options = document.get("stream_options")
    if options is None:
        return stream, {}
    checks.obj(options, "stream_options")
    if not stream:
        raise checks.invalid("stream_options", "`stream_options` is allowed only with `stream: true`.")
    return stream, {name: value for name, value in options.items() if name != "include_obfuscation"}


def _max_output_tokens(request: pb.CompletionRequest, value: Any) -> None:
    request.max_output_tokens = checks.integer(value, "max_output_tokens", 1, checks.INT64_MAX)


def _top_logprobs(request: pb.CompletionRequest, value: Any) -> None:
    request.logprobs.top = checks.integer(value, "top_logprobs", 0, 20)


def _metadata(request: pb.CompletionRequest, value: Any) -> None:
    pairs = checks.obj(value, "metadata")
    if len(pairs) > 16:
        raise checks.invalid("metadata", "`metadata` must have at most 16 pairs.")
    for key, entry in pairs.items():
        if not 1 <= len(key) <= 64:
            raise checks.invalid("metadata", "Each key of `metadata` must have 1 to 64 characters.")
        request.metadata[key] = checks.text(entry, f"metadata.{key}", high=512)


def _service_tier(request: pb.CompletionRequest, value: Any) -> None:
    request.service_tier = checks.text(value, "service_tier", low=1, high=64)


def _prompt_cache_key(request: pb.CompletionRequest, value: Any) -> None:
    request.prompt_cache_key = checks.text(value, "prompt_cache_key", high=512)


def _safety_identifier(request: pb.CompletionRequest, value: Any) -> None:
    request.safety_identifier = checks.text(value, "safety_identifier", high=128)


def _include(request: pb.CompletionRequest, value: Any) -> list[str]:
    rest: list[str] = []
    for index, word in enumerate(checks.array(value, "include", high=64)):
        if checks.text(word, f"include[{index}]", high=128) == ENCRYPTED:
            request.reasoning.include_encrypted = True
        elif word == LOGPROBS:
            request.logprobs.enabled = True
        else:
            rest.append(word)
    return rest


def _reasoning(request: pb.CompletionRequest, value: Any) -> Document | None:
    item = checks.obj(value, "reasoning")
    if item.get("effort") is not None:
        request.reasoning.effort = checks.one_of(item["effort"], "reasoning.effort", _EFFORTS)
    if item.get("summary") is not None:
        request.reasoning.summary = checks.one_of(item["summary"], "reasoning.summary", _SUMMARIES)
    return unknown_fields(item, frozenset({"effort", "summary"}), "reasoning")


def _text(request: pb.CompletionRequest, value: Any) -> Document:
    item = checks.obj(value, "text")
    if item.get("verbosity") is not None:
        word = checks.one_of(item["verbosity"], "text.verbosity", frozenset(_VERBOSITIES))
        request.verbosity = _VERBOSITIES[word]
    rest = unknown_fields(item, frozenset({"format", "verbosity"}), "text") or {}
    if item.get("format") is not None:
        inner = _format(request.response_format, checks.obj(item["format"], "text.format"), "text.format")
        if inner:
            rest["format"] = inner
    return rest


def _format(target: pb.ResponseFormat, item: Document, path: str) -> Document | None:
    kind = item.get("type")
    if kind is None:
        raise checks.missing(f"{path}.type")
    target.kind = _FORMATS[checks.one_of(kind, f"{path}.type", frozenset(_FORMATS))]
    if kind != "json_schema":
        return unknown_fields(item, _FORMAT, path)
    if item.get("name") is None:
        raise checks.missing(f"{path}.name")
    target.name = checks.tool_name(item["name"], f"{path}.name")
    if item.get("schema") is None:
        raise checks.missing(f"{path}.schema")
    target.schema_json = dump_text(checks.obj(item["schema"], f"{path}.schema"), f"{path}.schema")
    if item.get("description") is not None:
        target.description = checks.text(item["description"], f"{path}.description")
    if item.get("strict") is not None:
        target.strict = checks.boolean(item["strict"], f"{path}.strict")
    return unknown_fields(item, _SCHEMA, path)


_FIELDS: dict[str, SetField] = {
    **{name: SHARED_FIELDS[name] for name in _SHARED},
    "max_output_tokens": _max_output_tokens,
    "top_logprobs": _top_logprobs,
    "metadata": _metadata,
    "service_tier": _service_tier,
    "prompt_cache_key": _prompt_cache_key,
    "safety_identifier": _safety_identifier,
}

# Fields that have a typed place for some of what they may hold; the function returns the rest.
_PARTLY: dict[str, Callable[[pb.CompletionRequest, Any], Any]] = {
    "include": _include,
    "reasoning": _reasoning,
    "text": _text,
}

# Fields that are read once all others are, or that never reach an upstream.
_TOGETHER = frozenset(
    {"input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options", "store",
     "background", *_REFUSED}
)  # fmt: skip
