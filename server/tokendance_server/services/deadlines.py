"""Deadlines: the caller's own, less a margin, or the gateway's; expiry is a typed error, not a bare cancellation."""

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
    when the time is up is cancelled, and leaves with deadline_exceeded. Steps may run in different tasks. Where
    nobody is inside, `when_idle` is called, and the next step leaves at once.
    """

    __slots__ = ("_cancelling", "_expired", "_handle", "_interrupted", "_task", "when_idle")

    def __init__(self, deadline: float) -> None:
        self.when_idle: Callable[[], None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._expired = False
        self._interrupted = False
        self._handle = asyncio.get_running_loop().call_at(deadline, self._expire)

    def __enter__(self) -> None:
        if self._expired:
            raise deadline_exceeded()
        task = asyncio.current_task()
        assert task is not None
        self._cancelling = task.cancelling()
        self._task = task

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if not self._interrupted or task is None:
            return
        self._interrupted = False
        # The same rule as asyncio.timeout: a cancellation from elsewhere at the same moment stays one.
        if task.uncancel() <= self._cancelling and isinstance(exc, asyncio.CancelledError):
            raise deadline_exceeded() from exc

    def close(self) -> None:
        """Stop the timer."""
        self._handle.cancel()

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._interrupted = True
            self._task.cancel()
        elif self.when_idle is not None:
            self.when_idle()


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


def deadline_exceeded() -> GatewayError:
    """Return the error of a call whose time is up."""
    return GatewayError(
        errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        "The deadline of the call passed before the answer was complete; allow more time, or stream.",
    )
