"""One RPC for one HTTP request: metadata, deadline, cancellation, and what becomes of its failure."""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio
import structlog

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, completions_service_pb2, errors_pb2
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.rpc import CALLER_KEY
from tokendance_facade.accounts import account_headers
from tokendance_facade.answers import Header, Reply, Sent
from tokendance_facade.callers import CallerReader
from tokendance_facade.config import FacadeConfig
from tokendance_facade.errors import error_event, internal_error, interrupted, stopping
from tokendance_facade.event_stream import KEEP_ALIVE, EventStream
from tokendance_facade.exchange import Exchange
from tokendance_facade.rpc_failures import read_failure

_log = structlog.get_logger("tokendance_facade")

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_UNSAFE_IN_HEADER = re.compile(r"[^ -~]")
_MAX_WARNING_CHARACTERS = 4096
_FIELD_CHARACTERS = 40
_LAST_WORD = 16
# A caller with a short patience for the head of a stream gets it in time, and a little earlier.
_HEAD_SHARE = 0.8


class Encoder(Protocol):
    """Turns the events of one stream into SSE bytes."""

    finished: bool

    @property
    def warnings(self) -> Sequence[completion_pb2.Warning]:
        """What was left out or changed on the way."""

    def feed(self, events: Iterable[completion_pb2.CompletionEvent]) -> bytes:
        """Return what is to be sent for these events; may be empty."""


@dataclass(frozen=True, slots=True)
class Manners:
    """What a dialect has of its own beside its events.

    `keep_alive` is written into silence. `failed` writes an error that comes after the head; without it, errors are
    events in OpenAI's form. `headers` tells more of the call's account when the head goes out.
    """

    keep_alive: bytes | Callable[[], bytes] = KEEP_ALIVE
    failed: Callable[[GatewayError], bytes] | None = None
    headers: Callable[[completion_pb2.CallAccount], tuple[Header, ...]] | None = None


PLAIN = Manners()
"""What chat completions have: comments, and OpenAI's error event."""


class Calls:
    """Makes RPCs on behalf of HTTP requests."""

    def __init__(
        self, channel: grpc.aio.Channel, config: FacadeConfig, callers: CallerReader, stopping: Callable[[], bool]
    ) -> None:
        self._config = config
        self._callers = callers
        self._stopping = stopping
        self._completions: Any = CompletionsServiceStub(channel)

    async def unary(self, exchange: Exchange, credential: str | None, rpc: Any, request: Any, timeout_s: float) -> Any:
        """Return the answer of a unary RPC. Raises GatewayError."""
        patience = _patience_s(exchange)
        call = rpc(
            request,
            metadata=self.metadata(exchange, credential),
            timeout=timeout_s if patience is None else min(patience, timeout_s),
        )
        try:
            return await call
        except grpc.RpcError as failure:
            raise read_failure(failure, exchange.request_id) from failure
        finally:
            if not call.done():
                call.cancel()

    async def create(
        self, exchange: Exchange, credential: str, completion: completion_pb2.CompletionRequest
    ) -> completion_pb2.Completion:
        """Return a whole answer. Raises GatewayError."""
        request = completions_service_pb2.CreateCompletionRequest(
            completion=completion, idempotency_key=_idempotency_key(exchange)
        )
        answer = await self.unary(
            exchange, credential, self._completions.CreateCompletion, request, self._config.unary_timeout_s
        )
        return answer.completion  # type: ignore[no-any-return]  # stubs of grpc.aio are untyped

    async def embed(
        self, exchange: Exchange, credential: str, embeddings: completion_pb2.EmbeddingsRequest
    ) -> completion_pb2.Embeddings:
        """Return vectors. Raises GatewayError."""
        request = completions_service_pb2.CreateEmbeddingsRequest(embeddings=embeddings)
        answer = await self.unary(
            exchange, credential, self._completions.CreateEmbeddings, request, self._config.unary_timeout_s
        )
        return answer.embeddings  # type: ignore[no-any-return]  # stubs of grpc.aio are untyped

    async def count(
        self, exchange: Exchange, credential: str, prompt: completion_pb2.CompletionRequest
    ) -> tuple[int, bool]:
        """Return the tokens of a prompt, and whether that is an estimate. Raises GatewayError."""
        request = completions_service_pb2.CountTokensRequest(completion=prompt)
        counted = await self.unary(
            exchange, credential, self._completions.CountTokens, request, self._config.unary_timeout_s
        )
        return counted.input_tokens, counted.estimated

    async def stream(
        self,
        exchange: Exchange,
        credential: str,
        completion: completion_pb2.CompletionRequest,
        encoder: Encoder,
        manners: Manners = PLAIN,
    ) -> Reply:
        """Answer with a stream. Raises GatewayError only while nothing has been sent."""
        request = completions_service_pb2.StreamCompletionRequest(
            completion=completion, idempotency_key=_idempotency_key(exchange)
        )
        call = self._completions.StreamCompletion(
            request, metadata=self.metadata(exchange, credential), timeout=self._config.stream_timeout_s
        )
        account: tuple[Header, ...] = ()
        stream = self._open_stream(exchange, encoder, lambda: account, manners.keep_alive)
        fail = functools.partial(_fail, exchange, stream, manners)
        try:
            async for message in call:
                if not stream.opened and message.events[0].WhichOneof("event") == "started":
                    told = message.events[0].started.account
                    account = account_headers(told)
                    if manners.headers is not None:
                        account += manners.headers(told)
                data = encoder.feed(message.events)
                if data:
                    await stream.send(data)
            if not encoder.finished:
                return await fail(interrupted())
            return await stream.end()
        except grpc.RpcError as failure:
            return await fail(read_failure(failure, exchange.request_id))
        except ConnectionError as exc:
            _log.debug("caller_left", request_id=exchange.request_id, cause=type(exc).__name__)
            return Sent(keep_alive=False)
        except asyncio.CancelledError:
            # The shutdown asks handlers to end; this one ends by telling its caller that the answer is incomplete.
            if not self._stopping():
                raise
            return await fail(stopping())
        except GatewayError:
            raise
        except Exception:  # noqa: BLE001 - the edge: whatever it is, the caller gets an answer and the log the cause
            _log.exception("request_crashed", request_id=exchange.request_id)
            return await fail(internal_error())
        finally:
            stream.stop()
            if not call.done():
                call.cancel()

    def metadata(self, exchange: Exchange, credential: str | None) -> tuple[tuple[str, str | bytes], ...]:
        """Return what goes with the RPC of an exchange; from here on the server keeps its record."""
        exchange.called = True
        assertion = self._callers.read(exchange.request, exchange.request_id, exchange.surface, exchange.route)
        if credential is None:
            return ((CALLER_KEY, assertion),)
        return (("authorization", f"Bearer {credential}"), (CALLER_KEY, assertion))

    def _open_stream(
        self,
        exchange: Exchange,
        encoder: Encoder,
        account: Callable[[], tuple[Header, ...]],
        keep_alive: bytes | Callable[[], bytes],
    ) -> EventStream:
        patience = _patience_s(exchange)
        headers_after_s = self._config.stream_headers_after_s
        return EventStream(
            exchange.request,
            exchange.request_id,
            lambda: (*exchange.headers, *account(), *warning_headers(encoder.warnings)),
            headers_after_s=headers_after_s if patience is None else min(headers_after_s, patience * _HEAD_SHARE),
            keepalive_s=self._config.keepalive_s,
            keep_alive=keep_alive,
        )


def warning_headers(warnings: Sequence[completion_pb2.Warning]) -> tuple[Header, ...]:
    """Return `x-tokendance-warnings`: `field: why; …`, printable ASCII, at most 4,096 characters; or nothing.

    Where that is too little for all, those that do not fit are named by their fields alone, as far as these fit, and
    the last word is how many more there are.
    """
    if not warnings:
        return ()
    words: list[str] = []
    left = _MAX_WARNING_CHARACTERS
    for number, warning in enumerate(warnings):
        whole = f"{warning.field}: {warning.why}"
        rest = len(warnings) - number - 1
        # What comes behind must find place for its fields.
        word = whole if len(whole) + _FIELD_CHARACTERS * rest <= left else warning.field
        if len(word) > left - _LAST_WORD:
            words.append(f"and {rest + 1} more")
            break
        words.append(word)
        left -= len(word) + 2
    return (("x-tokendance-warnings", _UNSAFE_IN_HEADER.sub("?", "; ".join(words))),)


async def _fail(exchange: Exchange, stream: EventStream, manners: Manners, error: GatewayError) -> Reply:
    """Raise an error while nothing has been sent; afterwards send it as the last event, and end the body."""
    stream.stop()
    if not stream.opened:
        raise error
    try:
        if manners.failed is not None:
            await stream.send(manners.failed(error))
        else:
            await stream.send(error_event(error, exchange.surface, exchange.request_id))
        return await stream.end()
    except ConnectionError as exc:
        _log.debug("caller_left", request_id=exchange.request_id, cause=type(exc).__name__)
        return Sent(keep_alive=False)


def _patience_s(exchange: Exchange) -> float | None:
    """Return how long the official SDKs say that they wait for the head of an answer, in seconds."""
    value = exchange.request.headers.get("x-stainless-timeout")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def _idempotency_key(exchange: Exchange) -> str:
    value = exchange.request.headers.get("Idempotency-Key")
    if value is None:
        return ""
    if _IDEMPOTENCY_KEY.fullmatch(value) is None:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            "The Idempotency-Key header must have 1 to 255 printable ASCII characters.",
            param="Idempotency-Key",
            origin="caller",
        )
    return value
