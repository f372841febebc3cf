"""A gRPC channel into the same process: stubs call servicers in one event loop, and nothing is serialised.

What a stub sees is what it would see over a socket: the same interceptors, deadlines, metadata both ways,
cancellation from either side, status details and size limits. One contract suite holds both channels to that.
A message belongs to the other side once it is handed over: neither side may change it afterwards. With
`checking=True` each message is serialised when handed over and compared at the end, so that tests notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from tokendance_server.services.local_context import Aborted, LocalContext
from tokendance_server.services.local_metadata import check_metadata

# The types of gRPC describe synchronous behaviours only; ours are coroutines and async generators.
_Handler = Any
Pairs = Iterable[tuple[str, str | bytes]]


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

    `max_message_bytes` bounds requests and unary answers, as gRPC's own options do.
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
        self._calls: set[_Call] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def handler(self, method: str) -> _Handler | None:
        """Return the handler of a method, or None where there is none."""
        return self._handlers.get(method)

    def enter(self, call: _Call) -> None:
        """Count a call in. Raises UsageError once the channel is closed."""
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        self._calls.add(call)

    def leave(self, call: _Call) -> None:
        """Count a call out."""
        self._calls.discard(call)

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a task that closes a call until it is done."""
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls; let those that run finish within `grace` seconds, then cancel them."""
        self._closed = True
        pending = [call.finished for call in self._calls]
        if pending and grace:
            await asyncio.wait(pending, timeout=grace)
        for call in list(self._calls):
            call.cancel()
        if self._closing:
            await asyncio.wait(self._closing)

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


class _Call:
    """What both kinds of call have in common on the caller's side."""

    def __init__(
        self, channel: LocalChannel, method: str, request: Any, timeout: float | None, metadata: Pairs | None
    ) -> None:
        pairs = check_metadata(metadata)
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = loop.create_future()
        channel.enter(self)
        self._channel = channel
        self._context = LocalContext(pairs, None if timeout is None else loop.time() + timeout)
        self._handler = channel.handler(method)
        self._request = request
        self._handed_over = _Snapshot(request) if channel.checking else None
        self._refusal = self._refuse_at_once(method, request, pairs)

    def cancelled(self) -> bool:
        """Tell whether the call was cancelled."""
        return self._context.status is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Tell whether the call has ended."""
        return self.finished.done()

    def time_remaining(self) -> float | None:
        """Return the seconds left, or None without a deadline."""
        return self._context.time_remaining_or_none()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with this call once it has ended."""
        self.finished.add_done_callback(lambda _: callback(self))

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return the metadata behind the answer, once the call has ended."""
        await asyncio.shield(self.finished)
        return grpc.aio.Metadata(*self._context.trailing)

    async def code(self) -> grpc.StatusCode:
        """Return the status, once the call has ended."""
        await asyncio.shield(self.finished)
        return self._context.status or grpc.StatusCode.OK

    async def details(self) -> str:
        """Return the message of the status, once the call has ended."""
        await asyncio.shield(self.finished)
        return self._context.message

    async def wait_for_connection(self) -> None:
        """Return at once: there is nothing to connect to."""

    def cancel(self) -> bool:
        """End the call; returns False where it has ended already."""
        raise NotImplementedError

    def _refuse_at_once(self, method: str, request: Any, pairs: tuple[tuple[str, str | bytes], ...]) -> Aborted | None:
        if self._handler is None:
            return Aborted(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        size = sum(len(key) + len(value) + 32 for key, value in pairs)  # as HPACK counts (RFC 7541, 4.1)
        if size > self._channel.max_metadata_bytes:
            return Aborted(grpc.StatusCode.RESOURCE_EXHAUSTED, "The metadata is larger than the gateway takes.")
        return self._too_large(request)

    def _too_large(self, message: Message) -> Aborted | None:
        size, limit = message.ByteSize(), self._channel.max_message_bytes
        if size > limit:
            return Aborted(grpc.StatusCode.RESOURCE_EXHAUSTED, f"The message is larger than max ({size} vs. {limit})")
        return None

    def _failure(self, cause: BaseException) -> BaseException:
        """Settle the status from what a handler raised, and return what the caller's side raises."""
        context = self._context
        if isinstance(cause, Aborted):
            context.settle(cause.code, cause.message, cause.trailing)
        elif isinstance(cause, asyncio.CancelledError):
            context.settle(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
            return cause
        else:
            context.settle(grpc.StatusCode.UNKNOWN, f"Unexpected {type(cause)}: {cause}")
        return grpc.aio.AioRpcError(
            context.status or grpc.StatusCode.UNKNOWN,
            grpc.aio.Metadata(*context.initial),
            grpc.aio.Metadata(*context.trailing),
            details=context.message,
        )

    def _end(self) -> None:
        if not self.finished.done():
            self._context.run_done_callbacks()
            self.finished.set_result(None)
            self._channel.leave(self)
        if self._handed_over is not None:
            self._handed_over.compare()


class LocalUnaryCall(_Call):
    """A unary call. Starts when made, like one over a socket; awaiting it returns the answer."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._task = asyncio.get_running_loop().create_task(self._run())
        # A failure that nobody awaits is the caller's choice, as with gRPC; it is no error of the event loop.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._task.__await__()

    def cancel(self) -> bool:
        """End the call; returns False where it has ended already."""
        return self._task.cancel()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return the metadata before the answer."""
        await asyncio.shield(self.finished)
        return grpc.aio.Metadata(*self._context.initial)

    async def _run(self) -> Any:
        try:
            if self._refusal is not None:
                raise self._refusal
            assert self._handler is not None
            answer = await self._handler.unary_unary(self._request, self._context)
            too_large = self._too_large(answer)
            if too_large is not None:
                raise too_large
            self._context.settle(grpc.StatusCode.OK, "")
        except BaseException as exc:
            failure = self._failure(exc)
            if failure is exc:
                raise
            raise failure from exc
        else:
            return answer
        finally:
            self._end()


class LocalStreamCall(_Call):
    """A call that answers a stream. The caller's own task drives the servicer: no queue, no wake-up for a message."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._answers = None if self._handler is None else self._handler.unary_stream(self._request, self._context)
        self._reader: asyncio.Task[Any] | None = None
        self._cancelled_here = False
        self._peeked: list[Any] = []
        self._sent: _Snapshot | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """Return the next message, or grpc.aio.EOF behind the last. Raises AioRpcError where the call failed."""
        if self._peeked:
            return self._peeked.pop()
        if self.finished.done():
            return self._read_ended()
        if self._sent is not None:
            self._sent.compare()
        self._reader = asyncio.current_task()
        try:
            if self._refusal is not None:
                raise self._refusal
            assert self._answers is not None
            message = await anext(self._answers)
        except StopAsyncIteration:
            self._context.settle(grpc.StatusCode.OK, "")
            self._end()
            return grpc.aio.EOF
        except BaseException as exc:
            if isinstance(exc, asyncio.CancelledError) and self._cancelled_here and self._reader is not None:
                self._reader.uncancel()
            failure = self._failure(exc)
            self._end()
            if failure is exc:
                raise
            raise failure from exc
        finally:
            self._reader = None
        if self._channel.checking:
            self._sent = _Snapshot(message)
        return message

    def cancel(self) -> bool:
        """End the call, whoever waits for it; returns False where it has ended already."""
        if self.finished.done() or self._cancelled_here:
            return False
        self._cancelled_here = True
        if self._reader is not None:
            self._reader.cancel()
        else:
            self._context.settle(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
            self._channel.own(asyncio.get_running_loop().create_task(self._close()))
            self._end()
        return True

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return the metadata before the answer; waits for the first message where the servicer has not sent it."""
        if not self._context.initial_sent and not self.finished.done():
            message = await self.read()
            if message is not grpc.aio.EOF:
                self._peeked.append(message)
        return grpc.aio.Metadata(*self._context.initial)

    def _read_ended(self) -> Any:
        if self.cancelled():
            raise asyncio.CancelledError
        if self._context.status is grpc.StatusCode.OK:
            return grpc.aio.EOF
        raise self._failure(Aborted(self._context.status or grpc.StatusCode.UNKNOWN, self._context.message))

    async def _close(self) -> None:
        if self._answers is not None:
            await self._answers.aclose()


class _Snapshot:
    """A message as it was when handed over."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._bytes = message.SerializeToString(deterministic=True)

    def compare(self) -> None:
        """Raise AssertionError where the message has been changed since."""
        if self._message.SerializeToString(deterministic=True) != self._bytes:
            raise AssertionError(f"a {self._message.DESCRIPTOR.full_name} was changed after it had been handed over")
