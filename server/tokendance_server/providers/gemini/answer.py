"""A whole answer of generateContent as the canonical form, and the reading of its parts. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.continuing import CONTINUATION
from tokendance_server.providers.estimates import size_of
from tokendance_server.providers.gemini.errors import error_of_document
from tokendance_server.providers.gemini.signatures import marked, read_signature
from tokendance_server.providers.gemini.usage import read_usage

Json = dict[str, Any]

FINISH: Mapping[str, pb.FinishReason.ValueType] = {
    "STOP": pb.FINISH_REASON_STOP,
    "MAX_TOKENS": pb.FINISH_REASON_LENGTH,
    "CONTINUATION": pb.FINISH_REASON_PAUSE,
    **dict.fromkeys(
        (
            "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION",
        ),
        pb.FINISH_REASON_CONTENT_FILTER,
    ),
}  # fmt: skip
"""What the words mean that end an answer well."""

FAILURES = frozenset(
    {
        "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "OTHER", "IMAGE_OTHER", "NO_IMAGE",
        "MISSING_THOUGHT_SIGNATURE", "TOO_MANY_TOOL_CALLS", "PUP_LIMITED_DISABLED",
    }
)  # fmt: skip
"""Words that end an answer which is none: sent again, another may come."""

PAUSE = "CONTINUATION"
"""The word of a hop that is not the last: the rest is asked for with the candidate's token."""

_NOT_ENDED = frozenset({"", "FINISH_REASON_UNSPECIFIED"})
_LEAST_LOGPROB = -9999.0


def read_answer(body: bytes, request: pb.CompletionRequest, mint: Callable[[], str]) -> pb.Completion:
    """Return the answer to `request`; `mint` makes ids for calls without one.

    Raises the provider family's errors: an error under status 200, no JSON, no candidates, a failure as finish reason.
    A prompt that the upstream's policy blocked is an answer without words, ended by that policy.
    """
    document = read_document(body)
    completion = pb.Completion(
        id=text_of(document.get("responseId")), model=text_of(document.get("modelVersion")), dialect=pb.DIALECT_GEMINI
    )
    candidates = candidates_of(document)
    if not candidates:
        blocked = block_reason(document)
        if not blocked:
            raise unreadable()
        choice = completion.choices.add(finish_reason=pb.FINISH_REASON_CONTENT_FILTER, native_finish_reason=blocked)
        choice.message.role = pb.ROLE_ASSISTANT
    size = sum(
        _read_choice(candidate, position, completion.choices.add(), mint)
        for position, candidate in enumerate(candidates)
    )
    completion.usage.CopyFrom(read_usage(document.get("usageMetadata"), request, size))
    completion.extra_json = paused_json(candidates)
    return completion


def read_document(body: bytes) -> Json:
    """Return the JSON object of a body; raises provider_error, or the error that it holds."""
    try:
        document = json_text.read_lenient(body)
    except json_text.UNREADABLE:
        raise unreadable() from None
    error = error_of_document(document)
    if error is not None:
        raise error
    if not isinstance(document, dict):
        raise unreadable()
    return document


def unreadable() -> GatewayError:
    """Return the error for an answer that is none of this dialect."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
        "The model's provider sent an answer that cannot be read; send the request again.",
        origin="provider",
    )


def interrupted() -> GatewayError:
    """Return the error for an answer that its upstream did not bring to an end."""
    return GatewayError(
        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED,
        "The answer of the model's provider broke off; what came is incomplete. Send the request again.",
        origin="provider",
    )


def candidates_of(document: Json) -> list[Json]:
    """Return the candidates of a document that are any."""
    listed = document.get("candidates")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def block_reason(document: Json) -> str:
    """Return why the prompt was refused, in the upstream's word; empty where it was not."""
    feedback = document.get("promptFeedback")
    return text_of(feedback.get("blockReason")) if isinstance(feedback, dict) else ""


def parts_of(candidate: Json) -> list[Json]:
    """Return the parts of a candidate that are any."""
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def finish_word(candidate: Json) -> str:
    """Return the upstream's word for why a candidate ended; empty where it has not. Raises stream_interrupted."""
    word = text_of(candidate.get("finishReason"))
    if word in FAILURES or (word == PAUSE and not text_of(candidate.get(CONTINUATION))):
        raise interrupted()
    return "" if word in _NOT_ENDED else word


def paused_json(candidates: list[Json]) -> str:
    """Return the token of a hop that is not the last, as `extra_json` carries it; empty where there is none."""
    tokens = [text_of(one.get(CONTINUATION)) for one in candidates if one.get("finishReason") == PAUSE]
    return json_text.write({CONTINUATION: tokens[0]}) if tokens else ""


def finish_reason(word: str, *, called: bool) -> pb.FinishReason.ValueType:
    """Return what the word means; a candidate that calls tools ends with STOP, too."""
    reason = FINISH.get(word, pb.FINISH_REASON_OTHER)
    return pb.FINISH_REASON_TOOL_CALLS if called and reason == pb.FINISH_REASON_STOP else reason


def _read_choice(candidate: Json, position: int, into: pb.Choice, mint: Callable[[], str]) -> int:
    """Fill in one choice; return the bytes of text in it."""
    word = finish_word(candidate)
    into.index = int_of(candidate.get("index"), position)
    into.message.role = pb.ROLE_ASSISTANT
    size = 0
    signed = b""
    for part in parts_of(candidate):
        size += _read_part(part, into.message, mint)
        signature = read_signature(part.get("thoughtSignature"))
        if signature and not signed:
            signed = signature
            _sign(into.message, signature)
    _cite(into.message, candidate)
    into.logprobs.extend(read_logprobs(candidate.get("logprobsResult")))
    called = any(part.HasField("tool_call") for part in into.message.parts)
    into.finish_reason = finish_reason(word or "STOP", called=called)
    into.native_finish_reason = word
    return size


def _read_part(part: Json, message: pb.Message, mint: Callable[[], str]) -> int:
    last = message.parts[-1] if message.parts else None
    text = part.get("text")
    call = part.get("functionCall")
    if isinstance(text, str):
        if part.get("thought") is True:
            into = last if last is not None and last.HasField("reasoning") else message.parts.add()
            into.reasoning.text += text
        elif text:
            into = last if last is not None and last.HasField("text") else message.parts.add()
            into.text.text += text
        return size_of(text)
    if isinstance(call, dict):
        tool_call = message.parts.add().tool_call
        tool_call.id, tool_call.name, tool_call.arguments_json = call_of(call, mint)
        tool_call.kind = pb.TOOL_KIND_FUNCTION
        tool_call.signature = read_signature(part.get("thoughtSignature"))
        return size_of(tool_call.name) + size_of(tool_call.arguments_json)
    media = media_of(part)
    if media is not None:
        kind, data = media
        if kind.startswith("audio/"):
            message.parts.add().audio.CopyFrom(pb.Audio(data=data, format=kind.removeprefix("audio/")))
        else:
            message.parts.add().image.CopyFrom(pb.Image(data=data, media_type=kind))
        return 0
    native = native_of(part)
    if native is not None:
        message.parts.add().native.CopyFrom(pb.NativePart(dialect=pb.DIALECT_GEMINI, type=native[0], json=native[1]))
    return 0


def _sign(message: pb.Message, signature: bytes) -> None:
    """Keep the turn's signature with its reasoning, in which more callers bring it back than on a call."""
    reasoning = next((part.reasoning for part in message.parts if part.HasField("reasoning")), None)
    if reasoning is None:
        parts = list(message.parts)
        del message.parts[:]
        reasoning = message.parts.add().reasoning
        message.parts.extend(parts)
    reasoning.signature = marked(signature)


def call_of(call: Json, mint: Callable[[], str]) -> tuple[str, str, str]:
    """Return (id, name, arguments as JSON text) of a call; raises provider_error for one without a name."""
    name = text_of(call.get("name"))
    if not name:
        raise unreadable()
    arguments = call.get("args")
    return text_of(call.get("id")) or mint(), name, json_text.write(arguments if isinstance(arguments, dict) else {})


def media_of(part: Json) -> tuple[str, bytes] | None:
    """Return (media type, bytes) of what is shown or heard in a part, or None. Raises provider_error for bad base64."""
    inline = part.get("inlineData")
    data = inline.get("data") if isinstance(inline, dict) else None
    if not isinstance(inline, dict) or not isinstance(data, str):
        return None
    try:
        return text_of(inline.get("mimeType")), base64.b64decode(data.replace("-", "+").replace("_", "/"))
    except (binascii.Error, ValueError):
        raise unreadable() from None


def native_of(part: Json) -> tuple[str, str] | None:
    """Return (type, JSON) of a part that only this dialect knows, or None where nothing but a signature is in it."""
    kind = next((name for name in part if name not in ("thought", "thoughtSignature", "text", "partMetadata")), None)
    return None if kind is None else (kind, json_text.write(part))


def _cite(message: pb.Message, candidate: Json) -> None:
    text = next((part.text for part in reversed(message.parts) if part.HasField("text")), None)
    if text is not None:
        text.citations.extend(citations_of(candidate))


def citations_of(candidate: Json) -> Iterator[pb.Citation]:
    """Yield the sources that a candidate cites."""
    about = candidate.get("citationMetadata")
    listed = (about.get("citationSources") or about.get("citations")) if isinstance(about, dict) else None
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict):
            citation = pb.Citation(url=text_of(one.get("uri")), title=text_of(one.get("title")))
            for theirs, ours in (("startIndex", "start_index"), ("endIndex", "end_index")):
                if type(one.get(theirs)) is int:
                    setattr(citation, ours, int_of(one[theirs]))
            yield citation


def read_logprobs(result: Any) -> list[pb.TokenLogprob]:
    """Return the log probabilities of the tokens that were chosen, each with its alternatives."""
    if not isinstance(result, dict):
        return []
    chosen, top = result.get("chosenCandidates"), result.get("topCandidates")
    alternatives = top if isinstance(top, list) else []
    told = []
    for place, one in enumerate(chosen if isinstance(chosen, list) else ()):
        token = _logprob(one)
        others = (
            alternatives[place].get("candidates")
            if place < len(alternatives) and _is_map(alternatives[place])
            else None
        )
        token.top.extend(_logprob(other) for other in (others if isinstance(others, list) else ()))
        told.append(token)
    return told


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _logprob(one: Any) -> pb.TokenLogprob:
    one = one if isinstance(one, dict) else {}
    value = one.get("logProbability")
    known = isinstance(value, int | float) and not isinstance(value, bool)
    token = text_of(one.get("token"))
    return pb.TokenLogprob(token=token, logprob=float(value) if known else _LEAST_LOGPROB, utf8=token.encode())


def text_of(value: Any) -> str:
    """Return a text as it is, and anything else as none."""
    return value if isinstance(value, str) else ""


def int_of(value: Any, default: int = 0, *, below: int = 2**31) -> int:
    """Return a whole number of at least 0 and less than `below` as it is, and anything else as `default`."""
    return value if type(value) is int and 0 <= value < below else default
