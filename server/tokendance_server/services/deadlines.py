"""What may end a call: its deadline, the node's own end, a reader that stalls. Whoever can still be told is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2


class DeadlineScope:
    """Cancels whatever works for one call when its time is up. One timer for a call, however many steps it takes.

    Enter it around each step (a unary handler, each wait for the next message of a stream): the task that is inside
    when the time is up, or when somebody calls `end`, is cancelled, and leaves with the error. Steps may run in
    different tasks. Where nobody is inside, `when_idle` is called, and the next step leaves at once.
    """

    __slots__ = ("_cancelling", "_deadline", "_handle", "_interrupted", "_loop", "_task", "error", "steps", "when_idle")

    def __init__(self, deadline: float) -> None:
        self.when_idle: Callable[[], None] | None = None
        self.error: GatewayError | None = None
        self.steps = 0
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._interrupted = False
        # Kept: a stream enters once for each message, and asking for the loop takes longer than all else.
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._handle = self._loop.call_at(deadline, self._expire)

    @property
    def over(self) -> bool:
        """Tell whether the time is up, also where the loop had no time to say so."""
        return self._loop.time() >= self._deadline

    @property
    def idle(self) -> bool:
        """Tell whether nobody is inside: of a stream, that its reader has not come for more."""
        return self._task is None

    def __enter__(self) -> None:
        if self.error is not None:
            raise self.error
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._cancelling = task.cancelling()
        self._task = task
        self.steps += 1

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if not self._interrupted or task is None:
            return
        self._interrupted = False
        # The same rule as asyncio.timeout: a cancellation from elsewhere at the same moment stays one.
        if task.uncancel() <= self._cancelling and isinstance(exc, asyncio.CancelledError):
            assert self.error is not None
            raise self.error from exc

    def close(self) -> None:
        """Stop the timer."""
        self._handle.cancel()

    def end(self, error: GatewayError) -> None:
        """End the call with an error; the first word counts."""
        if self.error is not None:
            return
        self.error = error
        if self._task is not None:
            self._interrupted = True
            self._task.cancel()
        elif self.when_idle is not None:
            self.when_idle()

    def _expire(self) -> None:
        self.end(deadline_exceeded())


class ClosedOnce:
    """An async generator that can be closed from outside of the task that drives it, while it waits for its reader."""

    __slots__ = ("_closing", "_generator")

    def __init__(self, generator: AsyncGenerator[Any, None]) -> None:
        self._generator = generator
        self._closing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin to close; `finish` waits for the end of it."""
        self._closing = asyncio.get_running_loop().create_task(self._generator.aclose())

    async def finish(self) -> None:
        """Close, or wait for what `begin` began. Raises what the generator raises."""
        if self._closing is None:
            await self._generator.aclose()
        else:
            await self._closing


class ReaderWatch:
    """Ends a stream whose reader comes for nothing more for `limit_s` seconds, give or take a half."""

    __slots__ = ("_every_s", "_scope", "_seen", "_strikes", "_timer")

    def __init__(self, scope: DeadlineScope, limit_s: float) -> None:
        self._scope = scope
        self._every_s = limit_s / 2
        self._seen = scope.steps
        self._strikes = 0
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _look(self) -> None:
        scope = self._scope
        if scope.idle and scope.steps == self._seen:
            self._strikes += 1
            if self._strikes > 1:
                scope.end(_reader_stalled())
                return
        else:
            self._strikes = 0
            self._seen = scope.steps
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._look)


class RpcTask:
    """The task that gRPC runs one call in, to be cancelled where its reader takes not even the end of it."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task

    def cut_after(self, seconds: float) -> None:
        """Cancel the call if it has not ended by then."""
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, self._task.cancel)
        self._task.add_done_callback(lambda _: timer.cancel())


def _reader_stalled() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_CANCELLED, "The answer was not read for too long, so the call was ended."
    )


def deadline_exceeded() -> GatewayError:
    """Return the error of a call whose time is up."""
    return GatewayError(
        errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        "The deadline of the call passed before the answer was complete; allow more time, or stream.",
    )
