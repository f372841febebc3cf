"""Deadlines: the caller's own, less a margin, or the gateway's; expiry is a typed error, not a bare cancellation."""

from __future__ import annotations

import asyncio
from types import TracebackType

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2


class DeadlineScope:
    """Cancels whatever works for one call when its time is up. One timer for a call, however many steps it takes.

    Enter it around each step (a unary handler, each wait for the next message of a stream): the task that is inside
    when the time is up is cancelled, and leaves with deadline_exceeded. Steps may run in different tasks.
    """

    __slots__ = ("_cancelling", "_expired", "_handle", "_interrupted", "_task")

    def __init__(self, deadline: float) -> None:
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


def deadline_exceeded() -> GatewayError:
    """Return the error of a call whose time is up."""
    return GatewayError(
        errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        "The deadline of the call passed before the answer was complete; allow more time, or stream.",
    )
