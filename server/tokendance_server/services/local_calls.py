"""The caller's side of calls within the process: what grpc.aio's call objects do, without a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from tokendance_server.services.local_context import Aborted, LocalContext
from tokendance_server.services.local_metadata import check_metadata
from tokendance_server.services.statuses import ending, no_such_method

if TYPE_CHECKING:
    from tokendance_server.services.local_channel import LocalChannel

Pairs = Iterable[tuple[str, str | bytes]]

_CANCELLED = "Locally cancelled by application!"


class LocalCall:
    """What both kinds of call have in common. `has_task`: it runs in a task of its own, whoever waits for it."""

    has_task = False

    def __init__(
        self, channel: LocalChannel, method: str, request: Any, timeout: float | None, metadata: Pairs | None
    ) -> None:
        pairs = check_metadata(metadata)
        self._loop = loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = loop.create_future()
        channel.enter(self)
        self._channel = channel
        self._context = LocalContext(pairs, None if timeout is None else loop.time() + timeout, loop)
        self._handler = channel.handler(method)
        self._request = request
        self._handed_over = Snapshot(request) if channel.checking else None
        self._refusal = self._refuse_at_once(request, pairs)
        self._cancelled_here = False

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

    def _refuse_at_once(self, request: Any, pairs: tuple[tuple[str, str | bytes], ...]) -> Aborted | None:
        if self._handler is None:
            return Aborted(*ending(no_such_method()))
        size = sum(len(key) + len(value) + 32 for key, value in pairs)  # as HPACK counts (RFC 7541, 4.1)
        if size > self._channel.max_metadata_bytes:
            return Aborted(grpc.StatusCode.RESOURCE_EXHAUSTED, "The metadata is larger than the gateway takes.")
        return self._too_large(request)

    def _too_large(self, message: Message) -> Aborted | None:
        size, limit = message.ByteSize(), self._channel.max_message_bytes
        if size > limit:
            return Aborted(grpc.StatusCode.RESOURCE_EXHAUSTED, f"The message is larger than max ({size} vs. {limit})")
        return None

    def _settle_failure(self, cause: BaseException) -> None:
        """Fix the status from what the servicer's side raised."""
        if isinstance(cause, Aborted):
            self._context.settle(cause.code, cause.message, cause.trailing)
        elif isinstance(cause, asyncio.CancelledError):
            self._cancelled_here = True
            self._context.settle(grpc.StatusCode.CANCELLED, _CANCELLED)
        else:
            self._context.settle(grpc.StatusCode.UNKNOWN, f"Unexpected {type(cause)}: {cause}")

    def _raise_status(self) -> NoReturn:
        """Raise what the caller's side sees of a call that did not end well."""
        context = self._context
        raise grpc.aio.AioRpcError(
            context.status or grpc.StatusCode.UNKNOWN,
            grpc.aio.Metadata(*context.initial),
            grpc.aio.Metadata(*context.trailing),
            details=context.message,
        ) from None

    def _end(self) -> None:
        """Tell everybody that the call has ended. Raises AssertionError where the request has been changed."""
        if not self.finished.done():
            self._context.run_done_callbacks()
            self.finished.set_result(None)
            self._channel.leave(self)
        if self._handed_over is not None:
            self._handed_over.compare()


class LocalUnaryCall(LocalCall):
    """A unary call. Starts when made, like one over a socket; awaiting it returns the answer."""

    has_task = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._done)

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self._task.__await__())
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> bool:
        """End the call; returns False where it has ended already."""
        if self.finished.done():
            return False
        self._cancelled_here = True
        self._context.settle(grpc.StatusCode.CANCELLED, _CANCELLED)
        self._task.cancel()
        self._channel.own(self._task)
        self._end()
        return True

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
            task = asyncio.current_task(self._loop)
            if task is not None and task.cancelling():  # a servicer cannot turn a cancellation down
                raise asyncio.CancelledError
            too_large = self._too_large(answer)
            if too_large is not None:
                raise too_large
        except BaseException as exc:  # noqa: BLE001 - whatever it was, the caller sees a status
            answer = None
            self._settle_failure(exc)
        else:
            self._context.settle(grpc.StatusCode.OK, "")
        self._end()
        if self._cancelled_here:
            raise asyncio.CancelledError
        if self._context.status is not grpc.StatusCode.OK:
            self._raise_status()
        if self._channel.checking:
            self._channel.answered(Snapshot(answer))
        return answer

    def _done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            if not self.finished.done():  # cancelled before it ran at all
                self._context.settle(grpc.StatusCode.CANCELLED, _CANCELLED)
                self._end()
        else:
            task.exception()  # a failure that nobody awaits is the caller's choice, as with gRPC, not the loop's error


class LocalStreamCall(LocalCall):
    """A call that answers a stream. The caller's own task drives the servicer: no queue, no wake-up for a message."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._reader: asyncio.Task[Any] | None = None
        self._peeked: list[Any] = []
        self._sent: Snapshot | None = None
        self._answers = None if self._handler is None else self._handler.unary_stream(self._request, self._context)

    def __del__(self) -> None:
        # A call that its caller dropped half read holds nothing up. The first word is missing where making it failed.
        if getattr(self, "_answers", None) is not None and not self.finished.get_loop().is_closed():
            self.cancel()

    def __aiter__(self) -> Self:
        return self

    async def read(self) -> Any:
        """Return the next message, or grpc.aio.EOF behind the last. Raises AioRpcError where the call failed."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return grpc.aio.EOF

    async def __anext__(self) -> Any:
        if self._peeked:
            return self._peeked.pop()
        if self.finished.done():
            self._read_ended()
        reader = self._reader = asyncio.current_task(self._loop)
        try:
            if self._refusal is not None:
                raise self._refusal
            assert self._answers is not None
            message = await anext(self._answers)
            if self._cancelled_here:  # a servicer cannot turn a cancellation down
                raise asyncio.CancelledError
            too_large = self._too_large(message)
            if too_large is not None:
                raise too_large
        except BaseException as exc:  # noqa: BLE001 - whatever it was, the caller sees a status
            failure = exc
        else:
            if self._channel.checking:
                self._check(message)
            return message
        finally:
            self._reader = None
        if self._cancelled_here and reader is not None:
            reader.uncancel()
        await self._end_with(failure)
        return self._read_ended()

    def cancel(self) -> bool:
        """End the call, whoever waits for it; returns False where it has ended already."""
        if self.finished.done():
            return False
        self._cancelled_here = True
        self._context.settle(grpc.StatusCode.CANCELLED, _CANCELLED)
        if self._reader is not None:
            self._reader.cancel()
        else:
            self._channel.own(self._loop.create_task(self._close()))
        self._end()
        return True

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return the metadata before the answer; waits for the first message where the servicer has not sent it."""
        if not self._context.initial_sent and not self.finished.done():
            message = await self.read()
            if message is not grpc.aio.EOF:
                self._peeked.append(message)
        return grpc.aio.Metadata(*self._context.initial)

    async def _end_with(self, cause: BaseException) -> None:
        if isinstance(cause, StopAsyncIteration):
            self._context.settle(grpc.StatusCode.OK, "")
        else:
            self._settle_failure(cause)
            await self._close()
        if self._sent is not None:
            self._sent.compare()
        self._end()

    def _read_ended(self) -> NoReturn:
        if self._cancelled_here:
            raise asyncio.CancelledError
        if self._context.status is grpc.StatusCode.OK:
            raise StopAsyncIteration
        self._raise_status()

    async def _close(self) -> None:
        if self._answers is not None:
            await self._answers.aclose()

    def _check(self, message: Message) -> None:
        if self._sent is not None:
            self._sent.compare()
        self._sent = Snapshot(message)


class Snapshot:
    """A message as it was when handed over."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._bytes = message.SerializeToString(deterministic=True)

    def compare(self) -> None:
        """Raise AssertionError where the message has been changed since."""
        if self._message.SerializeToString(deterministic=True) != self._bytes:
            raise AssertionError(f"a {self._message.DESCRIPTOR.full_name} was changed after it had been handed over")
