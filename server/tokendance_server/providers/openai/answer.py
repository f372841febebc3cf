"""A whole answer of POST /chat/completions as the canonical form. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.openai.errors import error_of_document
from tokendance_server.providers.openai.usage import find_usage, read_usage

Json = dict[str, Any]

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where servers put reasoning: the first that holds something is taken, never two."""

MOST_SECONDS = 2**40
"""Times of upstreams end here, seconds since 1970."""

_FINISH: Mapping[str, pb.FinishReason.ValueType] = {
    "": pb.FINISH_REASON_STOP,
    "stop": pb.FINISH_REASON_STOP,
    "eos": pb.FINISH_REASON_STOP,
    "end_turn": pb.FINISH_REASON_STOP,
    "stop_sequence": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "max_tokens": pb.FINISH_REASON_LENGTH,
    "model_length": pb.FINISH_REASON_LENGTH,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
    "function_call": pb.FINISH_REASON_TOOL_CALLS,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
    "sensitive": pb.FINISH_REASON_CONTENT_FILTER,
}
_FAILURES = frozenset({"error", "abort", "network_error", "insufficient_system_resource"})
_STOP_LIKE = frozenset({pb.FINISH_REASON_STOP, pb.FINISH_REASON_OTHER})

MESSAGE_FIELDS = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio", *REASONING_FIELDS}
)
_CHOICE_FIELDS = frozenset(
    {"index", "message", "finish_reason", "logprobs", "usage", "stop_reason", "native_finish_reason"}
)
_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom"})

# Of the fields beside the choices only these are handed on: others name the upstream, its hosts and its prices.
ANSWER_EXTRAS = ("moderation", "metadata", "citations")


def read_answer(body: bytes, request: pb.CompletionRequest, mint: Callable[[], str]) -> pb.Completion:
    """Return the answer to `request`; `mint` makes ids for calls without one.

    Raises the provider family's errors: an error under status 200, no JSON, no choices, a failure as finish reason.
    """
    document = read_document(body)
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        raise unreadable()
    completion = pb.Completion(
        id=text_of(document.get("id")),
        model=text_of(document.get("model")),
        created=int_of(document.get("created"), below=MOST_SECONDS),
        service_tier=text_of(document.get("service_tier")),
        system_fingerprint=text_of(document.get("system_fingerprint")),
        dialect=pb.DIALECT_OPENAI_CHAT,
    )
    size = 0
    for position, choice in enumerate(choices):
        if not isinstance(choice, dict):
            raise unreadable()
        size += _read_choice(choice, position, completion.choices.add(), mint)
    completion.usage.CopyFrom(read_usage(find_usage(document), request, size))
    completion.extra_json = json_text.write_object(
        {name: document[name] for name in ANSWER_EXTRAS if document.get(name) is not None}
    )
    return completion


def read_document(body: bytes) -> Json:
    """Return the JSON object of a body; raises provider_error, or the error that it holds."""
    try:
        document = json_text.read_lenient(body)
    except json_text.UNREADABLE:
        raise unreadable() from None
    if not isinstance(document, dict):
        raise unreadable()
    error = error_of_document(document)
    if error is not None:
        raise error
    return document


def unreadable() -> GatewayError:
    """Return the error for an answer that is none of this dialect."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider sent an answer that cannot be read; send the request again.",
        origin="provider",
    )


def _read_choice(choice: Json, position: int, into: pb.Choice, mint: Callable[[], str]) -> int:
    """Fill in one choice; return the bytes of text in it."""
    message = choice.get("message")
    if not isinstance(message, dict):
        raise unreadable()
    into.index = int_of(choice.get("index"), position)
    size = _read_message(message, into.message, mint)
    called = any(part.HasField("tool_call") for part in into.message.parts)
    native = choice.get("finish_reason")
    into.finish_reason = finish_reason(native, called=called)
    into.native_finish_reason = native_word(choice)
    into.stop_sequence = text_of(choice.get("stop_reason"))
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict):
        into.logprobs.extend(read_logprobs(logprobs.get("content")))
        into.refusal_logprobs.extend(read_logprobs(logprobs.get("refusal")))
    into.extra_json = json_text.write_object(unknown_of(choice, _CHOICE_FIELDS))
    return size


def _read_message(message: Json, into: pb.Message, mint: Callable[[], str]) -> int:
    into.role = pb.ROLE_ASSISTANT
    text, thoughts = content_of(message.get("content"))
    reasoning = reasoning_of(message) or thoughts
    size = size_of(text) + size_of(reasoning)
    if reasoning:
        into.parts.add().reasoning.text = reasoning
    citations = message.get("annotations")
    if text or citations:
        said = into.parts.add().text
        said.text = text
        said.citations.extend(read_citations(citations))
    refusal = text_of(message.get("refusal"))
    if refusal:
        into.parts.add().refusal.text = refusal
        size += size_of(refusal)
    sound = message.get("audio")
    if isinstance(sound, dict):
        _read_audio(sound, into.parts.add())
    for call in calls_of(message):
        part = into.parts.add()
        tool_call = part.tool_call
        _read_call(call, tool_call, mint)
        part.extra_json = json_text.write_object(unknown_of(call, _CALL_FIELDS))
        size += size_of(tool_call.arguments_json) + size_of(tool_call.input) + size_of(tool_call.name)
    into.extra_json = json_text.write_object(unknown_of(message, MESSAGE_FIELDS))
    return size


def calls_of(message: Json) -> list[Json]:
    """Return the tool calls of a message or delta; the one of the older form has neither id nor index."""
    calls = message.get("tool_calls")
    found = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    older = message.get("function_call")
    if not found and isinstance(older, dict):
        found = [{"function": older}]
    return found


def _read_call(call: Json, into: pb.ToolCall, mint: Callable[[], str]) -> None:
    into.id = text_of(call.get("id")) or mint()
    custom = call.get("custom")
    if isinstance(custom, dict):
        into.kind = pb.TOOL_KIND_CUSTOM
        into.name = text_of(custom.get("name"))
        into.input = text_of(custom.get("input"))
        return
    function = call.get("function")
    if not isinstance(function, dict):
        raise unreadable()
    into.kind = pb.TOOL_KIND_FUNCTION
    into.name = text_of(function.get("name"))
    into.arguments_json = arguments_of(function.get("arguments")) or "{}"


def arguments_of(value: Any) -> str:
    """Return arguments as the text they should have been: some servers send the object itself, or null."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text.write(value)


def content_of(content: Any) -> tuple[str, str]:
    """Return (text, reasoning) of a content: a text, nothing, or a list in which thinking has its own parts."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        return "", ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "thinking":
            thoughts.append(content_of(part.get("thinking"))[0])
        elif part.get("type") in ("text", "output_text"):
            texts.append(text_of(part.get("text")))
    return "".join(texts), "".join(thoughts)


def reasoning_of(message: Json) -> str:
    """Return the reasoning text of a message or delta, from the first known field that holds some."""
    return next((value for name in REASONING_FIELDS if isinstance(value := message.get(name), str) and value), "")


def _read_audio(sound: Json, into: pb.Part) -> None:
    """Sound has either bytes or an id in the canonical form; the id of bytes is kept beside them."""
    data = base64_of(sound.get("data"))
    name = text_of(sound.get("id"))
    if data:
        into.audio.data = data
        into.extra_json = json_text.write_object({"id": name} if name else {})
    else:
        into.audio.id = name
    into.audio.transcript = text_of(sound.get("transcript"))
    into.audio.expires_at = int_of(sound.get("expires_at"), below=MOST_SECONDS)


def base64_of(value: Any) -> bytes:
    """Return the bytes of a base64 text, or none where there is no text; raises provider_error for a bad one."""
    if not isinstance(value, str):
        return b""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise unreadable() from None


def read_citations(annotations: Any) -> list[pb.Citation]:
    """Return the sources that annotations cite."""
    found = []
    for annotation in annotations if isinstance(annotations, list) else ():
        if not isinstance(annotation, dict):
            continue
        about = annotation.get("url_citation")
        if not isinstance(about, dict):
            found.append(pb.Citation(native_json=json_text.write(annotation)))
            continue
        citation = pb.Citation(url=text_of(about.get("url")), title=text_of(about.get("title")))
        for name in ("start_index", "end_index"):
            if type(about.get(name)) is int:
                setattr(citation, name, int_of(about[name]))
        found.append(citation)
    return found


def read_logprobs(entries: Any) -> list[pb.TokenLogprob]:
    """Return the log probabilities of some tokens."""
    return [_read_logprob(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _read_logprob(entry: Json) -> pb.TokenLogprob:
    logprob = entry.get("logprob")
    utf8 = entry.get("bytes")
    plain = isinstance(utf8, list) and all(isinstance(byte, int) and 0 <= byte <= 255 for byte in utf8)
    return pb.TokenLogprob(
        token=text_of(entry.get("token")),
        logprob=float(logprob) if isinstance(logprob, int | float) else -9999.0,
        utf8=bytes(utf8) if plain and utf8 else b"",
        top=read_logprobs(entry.get("top_logprobs")),
    )


def finish_reason(native: Any, *, called: bool) -> pb.FinishReason.ValueType:
    """Return why a choice ended; raises stream_interrupted where its word is a failure's.

    `called`: the choice holds a tool call; several servers say `stop` then, or nothing.
    """
    word = native.lower() if isinstance(native, str) else ""
    if word in _FAILURES:
        raise interrupted()
    reason = _FINISH.get(word, pb.FINISH_REASON_OTHER)
    return pb.FINISH_REASON_TOOL_CALLS if called and reason in _STOP_LIKE else reason


def interrupted() -> GatewayError:
    """Return the error for an answer that its upstream did not bring to an end."""
    return GatewayError(
        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED,
        "The answer of the model's provider broke off; what came is incomplete. Send the request again.",
        origin="provider",
    )


def native_word(choice: Json) -> str:
    """Return the upstream's own word for why a choice ended."""
    return text_of(choice.get("native_finish_reason")) or text_of(choice.get("finish_reason"))


def unknown_of(document: Json, known: frozenset[str]) -> Json:
    """Return the fields that are not known, without the empty ones."""
    return {name: value for name, value in document.items() if name not in known and value not in (None, [], {})}


def text_of(value: Any) -> str:
    """Return a text as it is, and anything else as none."""
    return value if isinstance(value, str) else ""


def int_of(value: Any, default: int = 0, *, below: int = 2**31) -> int:
    """Return a whole number of at least 0 and less than `below` as it is, and anything else as `default`."""
    return value if type(value) is int and 0 <= value < below else default
