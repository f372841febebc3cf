"""Reads on where callers have left: open answers of upstreams, within bounds of count, bytes and time.

Whoever composes the server owns it and closes it. A call asks for it by `UpstreamCall.after_leaving`; without that,
an upstream is cancelled when its caller leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2
from tokendance_server.domain.upstream import OpenAnswer
from tokendance_server.telemetry import logger


class Listener(Protocol):
    """Who wants to know what came after the caller had left."""

    def events(self, events: Sequence[completion_pb2.CompletionEvent]) -> None:
        """Take what arrived together."""

    def ended(self, *, complete: bool) -> None:
        """Learn, exactly once and last, whether the answer came to its own end."""


class Drainer:
    """Holds at most `count` open answers at once, and reads at most `answer_bytes` and `seconds` more of each."""

    def __init__(self, *, count: int, answer_bytes: int, seconds: float) -> None:
        self._count = count
        self._answer_bytes = answer_bytes
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def draining(self) -> int:
        """How many answers are being read on now."""
        return len(self._tasks)

    def tell(self, listener: Listener) -> Leaving:
        """Return what one call passes on: its answer is read on, and the rest of it told to `listener`."""
        return Leaving(self, listener)

    def take(self, answer: OpenAnswer, listener: Listener) -> bool:
        """Read an answer on and close it, or return False, with the answer left to its owner."""
        if self._closed or len(self._tasks) >= self._count:
            listener.ended(complete=False)
            return False
        task = asyncio.get_running_loop().create_task(self._read(answer, listener))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def close(self) -> None:
        """Give up what is being read on, and take nothing more."""
        self._closed = True
        tasks = list(self._tasks)
        # Once more around the loop, so that none is cancelled before it has begun and cannot close its answer.
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _read(self, answer: OpenAnswer, listener: Listener) -> None:
        complete = False
        limit = answer.received + self._answer_bytes
        try:
            async with asyncio.timeout(self._seconds):
                while (events := await answer.read_events()) is not None:
                    listener.events(events)
                    if answer.received > limit:
                        return
            complete = True
        except (TimeoutError, GatewayError) as exc:
            logger().info("drain_ended_early", cause=type(exc).__name__)
        except Exception:  # noqa: BLE001 - nobody awaits this task, so its failure is told here or nowhere
            logger().exception("drain_failed")
        finally:
            answer.close()
            listener.ended(complete=complete)


class Leaving:
    """One call's wish to have its answer read on. Satisfies domain.upstream.AfterLeaving."""

    def __init__(self, drainer: Drainer, listener: Listener) -> None:
        self._drainer = drainer
        self._listener = listener

    def take(self, answer: OpenAnswer) -> bool:
        """Take over the open answer; returns whether it was taken."""
        return self._drainer.take(answer, self._listener)
