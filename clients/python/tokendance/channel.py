"""A synchronous channel for generated stubs that adds credential and deadline and raises GatewayError."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import grpc

from tokendance.connection import CallDefaults, note_request_id, request_id_in

Pairs = Iterable[tuple[str, str | bytes]]
Response = TypeVar("Response")


class CallingChannel:
    """What stubs need of a channel, over a real one. The gateway has no RPC that takes a stream."""

    def __init__(self, channel: grpc.Channel, defaults: CallDefaults) -> None:
        self._channel = channel
        self._defaults = defaults

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> UnaryCallable:
        """Return the callable of a unary RPC."""
        return UnaryCallable(self._channel.unary_unary(method, *args, **kwargs), self._defaults)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> StreamCallable:
        """Return the callable of an RPC that answers with a stream."""
        return StreamCallable(self._channel.unary_stream(method, *args, **kwargs), self._defaults)


class UnaryCallable:
    """One unary RPC. The timeout is in seconds; None: the client's default."""

    def __init__(self, rpc: grpc.UnaryUnaryMultiCallable[Any, Any], defaults: CallDefaults) -> None:
        self._rpc = rpc
        self._defaults = defaults

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Pairs | None = None, **options: Any
    ) -> Any:
        """Call and return the response; raises GatewayError."""
        return self.with_call(request, timeout, metadata, **options)[0]

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Pairs | None = None, **options: Any
    ) -> tuple[Any, grpc.Call]:
        """Call and return the response and the call; raises GatewayError."""
        try:
            response, call = self._rpc.with_call(request, **self._terms(timeout, metadata), **options)
        except grpc.RpcError as failure:
            raise self._defaults.error_of(failure) from failure
        # A unary answer may carry its request id in the trailer alone.
        note_request_id(request_id_in(call.initial_metadata(), call.trailing_metadata()))
        return response, call

    def future(
        self, request: Any, timeout: float | None = None, metadata: Pairs | None = None, **options: Any
    ) -> FutureAnswer:
        """Call in the background."""
        future = self._rpc.future(request, **self._terms(timeout, metadata), **options)
        return FutureAnswer(future, self._defaults)

    def _terms(self, timeout: float | None, metadata: Pairs | None) -> dict[str, Any]:
        return {
            "timeout": self._defaults.unary_s if timeout is None else timeout,
            "metadata": self._defaults.metadata(metadata),
        }


class FutureAnswer:
    """An answer that is on its way; everything but its result is gRPC's own."""

    def __init__(self, future: Any, defaults: CallDefaults) -> None:
        self._future = future
        self._defaults = defaults

    def result(self, timeout: float | None = None) -> Any:
        """Wait, at most `timeout` seconds, and return the response.

        Raises GatewayError, and gRPC's own FutureTimeoutError and FutureCancelledError.
        """
        try:
            response = self._future.result() if timeout is None else self._future.result(timeout)
        except grpc.RpcError as failure:
            raise self._defaults.error_of(failure) from failure
        note_request_id(request_id_in(self._future.initial_metadata(), self._future.trailing_metadata()))
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)


class StreamCallable:
    """One RPC that answers with a stream. The timeout is in seconds; None: the client's default."""

    def __init__(self, rpc: grpc.UnaryStreamMultiCallable[Any, Any], defaults: CallDefaults) -> None:
        self._rpc = rpc
        self._defaults = defaults

    def __call__(
        self, request: Any, timeout: float | None = None, metadata: Pairs | None = None, **options: Any
    ) -> AnswerStream[Any]:
        """Call and return the stream at once; its errors come while it is read."""
        call = self._rpc(
            request,
            timeout=self._defaults.stream_s if timeout is None else timeout,
            metadata=self._defaults.metadata(metadata),
            **options,
        )
        return AnswerStream(call, self._defaults)


class AnswerStream(Generic[Response]):
    """The responses of a stream as they come; raises GatewayError. Everything else is gRPC's own call."""

    def __init__(self, call: Any, defaults: CallDefaults) -> None:
        self._call = call
        self._defaults = defaults

    def __iter__(self) -> Iterator[Response]:
        return self

    def __next__(self) -> Response:
        try:
            response: Response = next(self._call)
        except grpc.RpcError as failure:
            raise self._defaults.error_of(failure) from failure
        return response

    @property
    def request_id(self) -> str | None:
        """The request id; waits for the head of the answer."""
        request_id = request_id_in(self._call.initial_metadata())
        note_request_id(request_id)
        return request_id

    def cancel(self) -> bool:
        """End the call; the gateway then ends its upstream call."""
        return bool(self._call.cancel())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)
