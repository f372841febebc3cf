"""A gRPC channel into the same process: stubs call servicers in one event loop, and nothing is serialised.

What a stub sees is what it would see over a socket: the same interceptors, deadlines, metadata both ways,
cancellation from either side, status details and size limits. One contract suite holds both channels to that.
A message belongs to the other side once it is handed over: neither side may change it afterwards. With
`checking=True` each message is serialised when handed over and compared at the end, so that tests notice.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import grpc.aio

from tokendance_server.services.local_calls import LocalCall, LocalStreamCall, LocalUnaryCall, Pairs, Snapshot

# The types of gRPC describe synchronous behaviours only; ours are coroutines and async generators.
_Handler = Any

_RELEASE_S = 5.0
"""How long closing waits for servicers whose calls it has cancelled."""


class MethodTable:
    """Collects the handlers of servicers, as the generated `add_…_to_server` functions register them."""

    def __init__(self) -> None:
        self.handlers: dict[str, _Handler] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Accept what registered methods make redundant."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, _Handler]) -> None:
        """Take the handlers of one service."""
        for name, handler in method_handlers.items():
            self.handlers[f"/{service_name}/{name}"] = handler


class LocalChannel(grpc.aio.Channel):
    """A channel over a table of handlers that are already wrapped by the interceptors.

    `max_message_bytes` bounds each message, `max_metadata_bytes` all metadata of a call, as gRPC's own options do.
    """

    def __init__(
        self,
        handlers: Mapping[str, _Handler],
        *,
        max_message_bytes: int,
        max_metadata_bytes: int,
        checking: bool = False,
    ) -> None:
        self._handlers = handlers
        self.max_message_bytes = max_message_bytes
        self.max_metadata_bytes = max_metadata_bytes
        self.checking = checking
        self._closed = False
        # Weak, so that a stream which its caller drops half read is not kept by us, but cancelled.
        self._calls: weakref.WeakSet[LocalCall] = weakref.WeakSet()
        # Those with a task of their own, which keeps them anyway; a weak set takes ten times as long.
        self._own_tasks: set[LocalCall] = set()
        self._ending: set[asyncio.Task[Any]] = set()
        self._answered: list[Snapshot] = []

    def handler(self, method: str) -> _Handler | None:
        """Return the handler of a method, or None where there is none."""
        return self._handlers.get(method)

    def enter(self, call: LocalCall) -> None:
        """Count a call in. Raises UsageError once the channel is closed."""
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        (self._own_tasks if call.has_task else self._calls).add(call)

    def leave(self, call: LocalCall) -> None:
        """Count a call out."""
        (self._own_tasks if call.has_task else self._calls).discard(call)

    def own(self, task: asyncio.Task[Any]) -> None:
        """Keep the task of a cancelled call until it is done."""
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def answered(self, snapshot: Snapshot) -> None:
        """Keep a unary answer that is compared when the channel closes; only in checking mode."""
        self._answered.append(snapshot)

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls; let those that run finish within `grace` seconds, then cancel them."""
        self._closed = True
        pending = [call.finished for call in (*self._calls, *self._own_tasks)]
        if pending and grace:
            await asyncio.wait(pending, timeout=grace)
        for call in (*self._calls, *self._own_tasks):
            call.cancel()
        if self._ending:
            await asyncio.wait(self._ending, timeout=_RELEASE_S)
        answered, self._answered = self._answered, []
        for snapshot in answered:
            snapshot.compare()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return READY, or SHUTDOWN once closed."""
        return grpc.ChannelConnectivity.SHUTDOWN if self._closed else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Refuse: the state of this channel changes only by its own close."""
        raise NotImplementedError("a channel within the process has no connection to wait for")

    async def channel_ready(self) -> None:
        """Return at once: there is nothing to connect to."""

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for one unary method."""
        return _UnaryUnary(self, method)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return a callable for one method that answers a stream."""
        return _UnaryStream(self, method)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse: no service of ours takes a stream of requests."""
        raise NotImplementedError(f"{method}: no service of this gateway takes a stream of requests")

    def stream_stream(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse: no service of ours takes a stream of requests."""
        raise NotImplementedError(f"{method}: no service of this gateway takes a stream of requests")


class _UnaryUnary:
    def __init__(self, channel: LocalChannel, method: str) -> None:
        self._channel = channel
        self._method = method

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Pairs | None = None, **_: Any
    ) -> LocalUnaryCall:
        return LocalUnaryCall(self._channel, self._method, request, timeout, metadata)


class _UnaryStream:
    def __init__(self, channel: LocalChannel, method: str) -> None:
        self._channel = channel
        self._method = method

    def __call__(
        self, request: Any, *, timeout: float | None = None, metadata: Pairs | None = None, **_: Any
    ) -> LocalStreamCall:
        return LocalStreamCall(self._channel, self._method, request, timeout, metadata)
