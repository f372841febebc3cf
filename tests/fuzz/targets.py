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
from tokendance_facade.dialects.messages import answer as messages_answer
from tokendance_facade.dialects.messages import request as messages
from tokendance_facade.dialects.messages.stream import MessagesStreamEncoder
from tokendance_facade.dialects.responses import answer as responses_answer
from tokendance_facade.dialects.responses import request as responses
from tokendance_facade.dialects.responses.stream import ResponsesStreamEncoder
from tokendance_server.providers.openai import OpenAICodec
from tokendance_server.providers.sse import SseEvent, SseParser
from tokendance_server.providers.wire_formats import WIRE_FORMATS

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


def read_responses(data: bytes) -> None:
    """The same for Responses; and upstreams of each dialect can be asked it, or refuse it by its caller's field."""
    try:
        completion = responses.decode(data).completion
    except GatewayError as error:
        _meant(error.code in _REFUSALS, error)
        return
    _check(completions_service_pb2.CreateCompletionRequest(completion=completion))
    for kind, capabilities in (("openai", ["responses"]), ("openai", []), ("anthropic", []), ("gemini", [])):
        codec = WIRE_FORMATS[kind](capabilities)
        try:
            codec.warnings(completion)
            codec.encode_completion(completion, "m", stream=True)
        except GatewayError as error:
            _meant(error.origin == "caller", error)


def read_responses_stream(data: bytes) -> None:
    """What an upstream of the same dialect streams comes to its caller with one end, or with an error instead."""
    call = responses.decode(b'{"model": "m", "input": "i", "stream": true}')
    decoder = WIRE_FORMATS["openai"](["responses"], event_bytes=_EVENT_BYTES).stream_decoder(call.completion)
    encoder = ResponsesStreamEncoder(call, spare_id="resp_1", now=lambda: 1)
    out: list[bytes] = []
    try:
        for start in range(0, len(data), 100):
            if decoder.done:
                break
            out.append(encoder.feed(decoder.feed(data[start : start + 100])))
        out.append(encoder.feed(decoder.close()))
    except GatewayError as error:
        _meant(error.origin == "provider", error)
        failed = {"message": error.message, "type": "server_error", "param": None, "code": error.code}
        out.append(encoder.fail(failed, None))
    events = b"".join(out).split(b"\n\n")
    assert encoder.finished
    assert events[-2:] == [b"data: [DONE]", b""]
    assert [event.split(b"\n", 1)[0] for event in events].count(b"event: response.created") == 1


def read_responses_answer(data: bytes) -> None:
    """The same for an answer in one message."""
    call = responses.decode(b'{"model": "m", "input": "i"}')
    try:
        completion = WIRE_FORMATS["openai"](["responses"]).decode_completion(data, call.completion)
    except GatewayError as error:
        _meant(error.origin == "provider", error)
    else:
        responses_answer.encode(completion, call.settings, now=1)


def read_messages(data: bytes) -> None:
    """The same for Messages; and upstreams of each dialect can be asked it, or refuse it by its caller's field."""
    try:
        completion = messages.decode(data).completion
    except GatewayError as error:
        _meant(error.code in _REFUSALS, error)
        return
    _check(completions_service_pb2.CreateCompletionRequest(completion=completion))
    for kind, capabilities in (("anthropic", []), ("openai", []), ("openai", ["responses"]), ("gemini", [])):
        codec = WIRE_FORMATS[kind](capabilities)
        try:
            codec.warnings(completion)
            codec.encode_completion(completion, "m", stream=True)
        except GatewayError as error:
            _meant(error.origin == "caller", error)


def read_messages_stream(data: bytes) -> None:
    """What an upstream of Messages streams comes to its caller in whole events, with one end unless it fails."""
    decoder = WIRE_FORMATS["anthropic"](event_bytes=_EVENT_BYTES).stream_decoder(_ASKED_TOOLS)
    encoder = MessagesStreamEncoder()
    out: list[bytes] = []
    try:
        for start in range(0, len(data), 100):
            if decoder.done:
                break
            out.append(encoder.feed(decoder.feed(data[start : start + 100])))
        out.append(encoder.feed(decoder.close()))
    except GatewayError as error:
        _meant(error.origin == "provider", error)
    else:
        assert encoder.finished
    names = [event.split(b"\n", 1)[0] for event in b"".join(out).split(b"\n\n")]
    assert names.pop() == b""
    assert all(name.startswith(b"event: ") for name in names)
    assert names[:1] in ([], [b"event: message_start"])
    assert names.count(b"event: content_block_start") >= names.count(b"event: content_block_stop")
    assert names.count(b"event: message_stop") == encoder.finished


def read_messages_answer(data: bytes) -> None:
    """The same for an answer in one message."""
    try:
        completion = WIRE_FORMATS["anthropic"]().decode_completion(data, _ASKED_TOOLS)
    except GatewayError as error:
        _meant(error.origin == "provider", error)
    else:
        completion.SerializeToString()
        messages_answer.encode(completion)


_ASKED_TOOLS = completion_pb2.CompletionRequest(
    model="m", tools=[completion_pb2.Tool(kind=completion_pb2.TOOL_KIND_CUSTOM, name="patch")]
)


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
        read_responses,
        read_responses_stream,
        read_responses_answer,
        read_messages,
        read_messages_stream,
        read_messages_answer,
        read_completion,
        read_embeddings,
        read_key,
        read_message,
    )
}
