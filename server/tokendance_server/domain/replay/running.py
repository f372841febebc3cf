"""A call that makes an answer to be kept: it belongs to the gateway, and its first caller only looks on.

Where that caller leaves, the call goes on within bounds, so that whoever repeats it finds the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tokendance.errors import GatewayError
from tokendance_server.domain.completions import Events

T = TypeVar("T")
_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many calls go on without a caller at once, and each for how many seconds."""

    count: int = 100
    seconds: float = 60.0


class Runs:
    """The calls under way. `report` gets what no caller is there to see."""

    def __init__(self, bounds: Bounds, report: Callable[[BaseException], None]) -> None:
        self._bounds = bounds
        self._report = report
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a call."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Let a call go on without its caller, or end it where there are too many of those."""
        if task.done():
            return
        if self._closed or len(self._left) >= self._bounds.count:
            task.cancel()
            return
        self._left.add(task)
        timer = asyncio.get_running_loop().call_later(self._bounds.seconds, task.cancel)
        task.add_done_callback(lambda _: timer.cancel())

    async def close(self) -> None:
        """End the calls; each frees its claim."""
        self._closed = True
        # Once more around the loop, so that none is cancelled before it has begun and cannot free its claim.
        await asyncio.sleep(0)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        left = task in self._left
        self._left.discard(task)
        error = None if task.cancelled() else task.exception()
        if left and error is not None and not isinstance(error, GatewayError):
            self._report(error)


class Feed:
    """Carries a stream from the call to its first caller, a little ahead of who reads it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Events | None] = asyncio.Queue(_AHEAD)
        self.left = False

    async def put(self, events: Events | None) -> None:
        """Hand over events, or None at the end; waits for a slow reader, not for one who left."""
        if not self.left:
            await self._queue.put(events)

    def leave(self) -> None:
        """Read nothing more."""
        self.left = True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def get(self) -> Events | None:
        """Return what comes next, or None behind the end."""
        return await self._queue.get()
