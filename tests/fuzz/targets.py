"""What strangers' bytes reach first, as functions of bytes: each takes anything, or refuses it as it is meant to.

No other exception than the meant one may leave a target; and what was let through must hold what others rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import protovalidate
from google.protobuf.message import DecodeError, Message

from tokendance.credentials import check_form, provider_of, recognise
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import caller_pb2, completion_pb2, completions_service_pb2, keys_service_pb2
from tokendance_facade.credentials import read_credential
from tokendance_facade.dialects import completions, embeddings
from tokendance_facade.dialects.chat import request
from tokendance_server.providers.openai import OpenAICodec
from tokendance_server.providers.sse import SseEvent, SseParser

_VALIDATOR = protovalidate.Validator()
_EVENT_BYTES = 4096
_MESSAGES: Sequence[type[Message]] = (
    completions_service_pb2.CreateCompletionRequest,
    completions_service_pb2.StreamCompletionRequest,
    completions_service_pb2.CreateEmbeddingsRequest,
    keys_service_pb2.CreateKeyRequest,
    keys_service_pb2.ListKeysRequest,
    caller_pb2.CallerAssertion,
)


def _meant(meant: bool, error: GatewayError) -> None:
    if not meant:
        raise AssertionError("an error that is meant for somebody else") from error


def read_events(data: bytes) -> None:
    """The event stream is read alike, whole and byte by byte, or refused alike."""
    assert _events(data, len(data) or 1) == _events(data, 1)


def _events(data: bytes, size: int) -> list[SseEvent] | None:
    parser = SseParser(_EVENT_BYTES)
    events: list[SseEvent] = []
    try:
        for start in range(0, len(data), size):
            events += parser.feed(data[start : start + size])
    except GatewayError:
        return None
    return events


def read_stream(data: bytes) -> None:
    """What an upstream streams becomes events with one end, or an error that names the provider."""
    asked = completion_pb2.CompletionRequest(model="m")
    decoder = OpenAICodec(event_bytes=_EVENT_BYTES).stream_decoder(asked)
    events: list[completion_pb2.CompletionEvent] = []
    try:
        for start in range(0, len(data), 100):
            if decoder.done:
                break
            events += decoder.feed(data[start : start + 100])
        events += decoder.close()
    except GatewayError as error:
        _meant(error.origin == "provider", error)
    else:
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds.count("finished") == 1
        assert kinds[-1] == "finished"
    for event in events:
        event.SerializeToString()


def read_answer(data: bytes) -> None:
    """The same for an answer in one message."""
    codec = OpenAICodec(event_bytes=_EVENT_BYTES)
    try:
        codec.decode_completion(data, completion_pb2.CompletionRequest(model="m")).SerializeToString()
    except GatewayError as error:
        _meant(error.origin == "provider", error)
    codec.decode_error(500, {}, data)


def read_chat(data: bytes) -> None:
    """A chat request that is taken keeps the rules of the schema, which nobody checks again behind the facade."""
    try:
        completion = request.decode(data).completion
    except GatewayError as error:
        _meant(error.code in _REFUSALS, error)
    else:
        _check(completions_service_pb2.CreateCompletionRequest(completion=completion))


def read_completion(data: bytes) -> None:
    """The same for the older completions."""
    try:
        completion = completions.decode(data).completion
    except GatewayError as error:
        _meant(error.code in _REFUSALS, error)
    else:
        _check(completions_service_pb2.CreateCompletionRequest(completion=completion))


def read_embeddings(data: bytes) -> None:
    """The same for embeddings."""
    try:
        asked = embeddings.decode(data).embeddings
    except GatewayError as error:
        _meant(error.code in _REFUSALS, error)
    else:
        _check(completions_service_pb2.CreateEmbeddingsRequest(embeddings=asked))


_REFUSALS = frozenset(
    {"invalid_json", "invalid_request", "unsupported_parameter", "request_too_large", "unsupported_media_type"}
)


def _check(message: Message) -> None:
    assert type(message).FromString(message.SerializeToString()) == message
    assert [violation.proto for violation in _VALIDATOR.collect_violations(message)] == []


def read_key(data: bytes) -> None:
    """A credential is of some kind, and has the form of a key or not; nothing else happens."""
    text = data.decode("latin-1")
    recognise(text)
    provider_of(text)
    try:
        check_form(text)
    except GatewayError as error:
        _meant(error.origin == "caller", error)
    try:
        read_credential(_Headers(text), "")
    except GatewayError as error:
        _meant(error.origin == "caller", error)


class _Headers:
    """One Authorization header, as the listener hands it on."""

    def __init__(self, value: str) -> None:
        self._value = value

    def get(self, key: str) -> str | None:
        return self._value if key == "Authorization" else None

    def getall(self, key: str, default: list[str]) -> list[str]:
        return [self._value] if key == "Authorization" else default

    def __contains__(self, key: object) -> bool:
        return key == "Authorization"


def read_message(data: bytes) -> None:
    """A message is read or not; what is read can be judged by the rules and written again."""
    for kind in _MESSAGES:
        try:
            message = kind.FromString(data)
        except DecodeError:
            continue
        _VALIDATOR.collect_violations(message)
        message.SerializeToString()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        read_events,
        read_stream,
        read_answer,
        read_chat,
        read_completion,
        read_embeddings,
        read_key,
        read_message,
    )
}
