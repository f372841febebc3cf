"""A Chat Completions request body into the canonical form.

Fields without a typed place there are checked and travel in `extra_json`; a null is an absent field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.chat.messages import decode_messages
from tokendance_facade.dialects.chat.tools import TOOL_FIELDS, decode_tool_fields
from tokendance_facade.dialects.documents import (
    Document,
    check_length,
    dump_request_extra,
    dump_text,
    keep_unknown,
    read_object,
    unknown_fields,
)
from tokendance_facade.dialects.sampling import SHARED_FIELDS, SetField, decode_stream

MAX_SCHEMA_BYTES = 4 * 1024 * 1024
"""All tools together, and the form of the answer: far above what any upstream takes."""

_EFFORTS = frozenset({"none", "minimal", "low", "medium", "high", "xhigh", "max"})
_FORMATS = frozenset({"text", "json_object", "json_schema"})
_MODALITIES = {"text": pb.MODALITY_TEXT, "audio": pb.MODALITY_AUDIO, "image": pb.MODALITY_IMAGE}
_VERBOSITIES = {"low": pb.VERBOSITY_LOW, "medium": pb.VERBOSITY_MEDIUM, "high": pb.VERBOSITY_HIGH}
_SEARCH_SIZES = frozenset({"low", "medium", "high"})
_INSIDE = {"response_format": frozenset({"type", "json_schema"}), "audio": frozenset({"voice", "format"})}
_SCHEMA = frozenset({"name", "description", "schema", "strict"})
_RETENTIONS = frozenset({"in_memory", "in-memory", "24h"})


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A decoded request, and what of it decides the form of the answer."""

    completion: pb.CompletionRequest
    stream: bool
    """Whether the answer is a stream."""
    function_call: bool
    """Whether calls are answered in the deprecated `function_call` form, because the request used `functions`."""


def decode(body: bytes) -> ChatCall:
    """Decode a request body. Raises invalid_json, invalid_request and unsupported_parameter, naming the field."""
    return decode_document(read_object(body), len(body))


def decode_document(document: Document, size: int) -> ChatCall:
    """Decode what was read of a body of `size` bytes. Raises invalid_request and unsupported_parameter."""
    if size > MAX_SCHEMA_BYTES:
        for name in ("tools", "functions", "response_format"):
            check_length(document.get(name), name, MAX_SCHEMA_BYTES)
    request = pb.CompletionRequest(dialect=pb.DIALECT_OPENAI_CHAT)
    extra: Document = {}
    for name, value in document.items():
        field = _FIELDS.get(name)
        if field is not None:
            if value is not None:
                field(request, value)
                rest = _rest_of(name, value)
                if rest:
                    extra[name] = rest
        elif name in _CHECKED:
            if value is not None:
                _CHECKED[name](value, name)
                extra[name] = value
        elif name not in _TOGETHER:
            keep_unknown(extra, name, value)
    if not request.model:
        raise checks.missing("model")
    if not request.messages:
        raise checks.missing("messages")
    _decode_cap(document, request)
    _decode_logprobs(document, request)
    stream, stream_options = decode_stream(document, request)
    if stream_options is not None:
        extra.update(stream_options)
    function_call = decode_tool_fields(document, request)
    if extra:
        request.extra_json = dump_request_extra(extra)
    return ChatCall(request, stream, function_call)


def _rest_of(name: str, value: Any) -> Document | None:
    """Return the unknown fields inside a typed field that is an object, those of the object inside it included."""
    known = _INSIDE.get(name)
    if known is None:
        return None
    rest = unknown_fields(value, known, name) or {}
    if name == "response_format" and value.get("json_schema") is not None:
        schema = unknown_fields(value["json_schema"], _SCHEMA, "response_format.json_schema")
        if schema:
            rest["json_schema"] = schema
    return rest


def _decode_cap(document: Document, request: pb.CompletionRequest) -> None:
    """`max_completion_tokens` counts where both are given; `max_tokens` is its deprecated name."""
    for name in ("max_tokens", "max_completion_tokens"):
        value = document.get(name)
        if value is not None:
            request.max_output_tokens = checks.integer(value, name, 1, checks.INT64_MAX)


def _decode_logprobs(document: Document, request: pb.CompletionRequest) -> None:
    enabled, top = document.get("logprobs"), document.get("top_logprobs")
    if enabled is not None and checks.boolean(enabled, "logprobs"):
        request.logprobs.enabled = True
    if top is not None:
        count = checks.integer(top, "top_logprobs", 0, 20)
        if enabled is True:
            request.logprobs.top = count
        elif count:
            raise checks.invalid("top_logprobs", "`top_logprobs` is allowed only with `logprobs: true`.")


def _messages(request: pb.CompletionRequest, value: Any) -> None:
    decode_messages(request, value)


def _metadata(request: pb.CompletionRequest, value: Any) -> None:
    pairs = checks.obj(value, "metadata")
    if len(pairs) > 16:
        raise checks.invalid("metadata", "`metadata` must have at most 16 pairs.")
    for key, entry in pairs.items():
        if not 1 <= len(key) <= 64:
            raise checks.invalid("metadata", "Each key of `metadata` must have 1 to 64 characters.")
        request.metadata[key] = checks.text(entry, f"metadata.{key}", high=512)


def _modalities(request: pb.CompletionRequest, value: Any) -> None:
    for index, word in enumerate(checks.array(value, "modalities", high=8)):
        checks.one_of(word, f"modalities[{index}]", frozenset(_MODALITIES))
        request.modalities.append(_MODALITIES[word])


def _audio(request: pb.CompletionRequest, value: Any) -> None:
    options = checks.obj(value, "audio")
    request.audio.format = checks.required_text(options, "format", "audio", high=32)
    voice = options.get("voice")
    if voice is None:
        raise checks.missing("audio.voice")
    if type(voice) is dict:
        checks.required_text(voice, "id", "audio.voice", high=256)
        request.audio.voice_json = dump_text(voice, "audio.voice")
    else:
        request.audio.voice_json = checks.text(voice, "audio.voice", low=1, high=256)


def _response_format(request: pb.CompletionRequest, value: Any) -> None:
    document = checks.obj(value, "response_format")
    kind = document.get("type")
    if kind is None:
        raise checks.missing("response_format.type")
    checks.one_of(kind, "response_format.type", _FORMATS)
    target = request.response_format
    if kind == "text":
        target.kind = pb.RESPONSE_FORMAT_KIND_TEXT
    elif kind == "json_object":
        target.kind = pb.RESPONSE_FORMAT_KIND_JSON_OBJECT
    else:
        target.kind = pb.RESPONSE_FORMAT_KIND_JSON_SCHEMA
        path = "response_format.json_schema"
        if document.get("json_schema") is None:
            raise checks.missing(path)
        schema = checks.obj(document["json_schema"], path)
        if schema.get("name") is None:
            raise checks.missing(f"{path}.name")
        target.name = checks.tool_name(schema["name"], f"{path}.name")
        if schema.get("description") is not None:
            target.description = checks.text(schema["description"], f"{path}.description")
        if schema.get("schema") is not None:
            target.schema_json = dump_text(checks.obj(schema["schema"], f"{path}.schema"), f"{path}.schema")
        if schema.get("strict") is not None:
            target.strict = checks.boolean(schema["strict"], f"{path}.strict")


def _reasoning_effort(request: pb.CompletionRequest, value: Any) -> None:
    request.reasoning.effort = checks.one_of(value, "reasoning_effort", _EFFORTS)


def _verbosity(request: pb.CompletionRequest, value: Any) -> None:
    request.verbosity = _VERBOSITIES[checks.one_of(value, "verbosity", frozenset(_VERBOSITIES))]


def _service_tier(request: pb.CompletionRequest, value: Any) -> None:
    request.service_tier = checks.text(value, "service_tier", low=1, high=64)


def _prompt_cache_key(request: pb.CompletionRequest, value: Any) -> None:
    request.prompt_cache_key = checks.text(value, "prompt_cache_key", high=512)


def _safety_identifier(request: pb.CompletionRequest, value: Any) -> None:
    request.safety_identifier = checks.text(value, "safety_identifier", high=128)


def _check_prediction(value: Any, path: str) -> None:
    prediction = checks.obj(value, path)
    checks.one_of(prediction.get("type"), f"{path}.type", frozenset({"content"}))
    content = prediction.get("content")
    if type(content) is not str:
        checks.array(content, f"{path}.content")


def _check_web_search(value: Any, path: str) -> None:
    options = checks.obj(value, path)
    if options.get("search_context_size") is not None:
        checks.one_of(options["search_context_size"], f"{path}.search_context_size", _SEARCH_SIZES)
    if options.get("user_location") is not None:
        checks.obj(options["user_location"], f"{path}.user_location")


def _check_moderation(value: Any, path: str) -> None:
    checks.required_text(checks.obj(value, path), "model", path)


def _check_cache_options(value: Any, path: str) -> None:
    options = checks.obj(value, path)
    if options.get("mode") is not None:
        checks.one_of(options["mode"], f"{path}.mode", frozenset({"implicit", "explicit"}))
    if options.get("ttl") is not None:
        checks.text(options["ttl"], f"{path}.ttl", high=16)


def _check_retention(value: Any, path: str) -> None:
    checks.one_of(value, path, _RETENTIONS)


_FIELDS: dict[str, SetField] = {
    **SHARED_FIELDS,
    "messages": _messages,
    "metadata": _metadata,
    "modalities": _modalities,
    "audio": _audio,
    "response_format": _response_format,
    "reasoning_effort": _reasoning_effort,
    "verbosity": _verbosity,
    "service_tier": _service_tier,
    "prompt_cache_key": _prompt_cache_key,
    "safety_identifier": _safety_identifier,
}

# Checked, then carried as they are: the canonical form has no place for them yet.
_CHECKED = {
    "store": checks.boolean,
    "prediction": _check_prediction,
    "web_search_options": _check_web_search,
    "moderation": _check_moderation,
    "prompt_cache_options": _check_cache_options,
    "prompt_cache_retention": _check_retention,
}

# Fields whose meaning depends on each other: read once all others are.
_TOGETHER = TOOL_FIELDS | {
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "stream",
    "stream_options",
}
