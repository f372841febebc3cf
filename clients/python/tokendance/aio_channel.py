"""An asyncio channel for generated stubs that adds credential and deadline and raises GatewayError."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from tokendance.connection import CallDefaults, note_request_id, request_id_in

Pairs = Iterable[tuple[str, str | bytes]]
Response = TypeVar("Response")


class AsyncCallingChannel:
    """What stubs need of a channel, over a real one. The gateway has no RPC that takes a stream."""

    def __init__(self, channel: grpc.aio.Channel, defaults: CallDefaults) -> None:
        self._channel = channel
        self._defaults = defaults

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> AsyncUnaryCallable:
        """Return the callable of a unary RPC."""
        return AsyncUnaryCallable(self._channel.unary_unary(method, *args, **kwargs), self._defaults)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> AsyncStreamCallable:
        """Return the callable of an RPC that answers with a stream."""
        return AsyncStreamCallable(self._channel.unary_stream(method, *args, **kwargs), self._defaults)


class AsyncUnaryCallable:
    """One unary RPC. The timeout is in seconds; None: the client's default."""

    def __init__(self, rpc: grpc.aio.UnaryUnaryMultiCallable[Any, Any], defaults: CallDefaults) -> None:
        self._rpc = rpc
        self._defaults = defaults

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Pairs | None = None, **options: Any
    ) -> AsyncAnswer[Any]:
        """Start the call; awaiting it gives the response or raises GatewayError."""
        call = self._rpc(
            request,
            timeout=self._defaults.unary_s if timeout is None else timeout,
            metadata=self._defaults.metadata(metadata),
            **options,
        )
        return AsyncAnswer(call, self._defaults)


class AsyncAnswer(Generic[Response]):
    """An answer that is on its way; everything but awaiting it is gRPC's own call."""

    def __init__(self, call: Any, defaults: CallDefaults) -> None:
        self._call = call
        self._defaults = defaults

    def __await__(self) -> Generator[Any, None, Response]:
        try:
            response: Response = yield from self._call.__await__()
        except grpc.RpcError as failure:
            raise self._defaults.error_of(failure) from failure
        head = yield from self._call.initial_metadata().__await__()
        # A unary answer may carry its request id in the trailer alone.
        trailer = yield from self._call.trailing_metadata().__await__()
        note_request_id(request_id_in(head, trailer))
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class AsyncStreamCallable:
    """One RPC that answers with a stream. The timeout is in seconds; None: the client's default."""

    def __init__(self, rpc: grpc.aio.UnaryStreamMultiCallable[Any, Any], defaults: CallDefaults) -> None:
        self._rpc = rpc
        self._defaults = defaults

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Pairs | None = None, **options: Any
    ) -> AsyncAnswerStream[Any]:
        """Start the call and return its stream; its errors come while it is read."""
        call = self._rpc(
            request,
            timeout=self._defaults.stream_s if timeout is None else timeout,
            metadata=self._defaults.metadata(metadata),
            **options,
        )
        return AsyncAnswerStream(call, self._defaults)


class AsyncAnswerStream(Generic[Response]):
    """The responses of a stream as they come; raises GatewayError. Everything else is gRPC's own call."""

    def __init__(self, call: Any, defaults: CallDefaults) -> None:
        self._call = call
        self._defaults = defaults

    async def __aiter__(self) -> AsyncIterator[Response]:
        try:
            async for response in self._call:
                yield response
        except grpc.RpcError as failure:
            raise self._defaults.error_of(failure) from failure

    async def read(self) -> Any:
        """Return the next response, or grpc.aio.EOF; raises GatewayError."""
        try:
            return await self._call.read()
        except grpc.RpcError as failure:
            raise self._defaults.error_of(failure) from failure

    async def request_id(self) -> str | None:
        """Return the request id; waits for the head of the answer."""
        request_id = request_id_in(await self._call.initial_metadata())
        note_request_id(request_id)
        return request_id

    def cancel(self) -> bool:
        """End the call; the gateway then ends its upstream call."""
        return bool(self._call.cancel())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)
