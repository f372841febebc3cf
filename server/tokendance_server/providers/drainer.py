"""Reads on where callers have left: open answers of upstreams, within bounds of count, bytes and time.

Whoever composes the server owns it and closes it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance_server.domain.leaving import Rest
from tokendance_server.domain.upstream import OpenAnswer
from tokendance_server.telemetry import logger


class Figures(Protocol):
    """Counts how answers ended whose callers had left."""

    def ended(self, *, complete: bool) -> None:
        """Count one."""


class Drainer:
    """Satisfies domain.leaving.ReadsOn: `count` answers at once, `answer_bytes` and `seconds` more of each at most."""

    def __init__(self, figures: Figures, *, count: int, answer_bytes: int, seconds: float) -> None:
        self._figures = figures
        self._count = count
        self._answer_bytes = answer_bytes
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def draining(self) -> int:
        """How many answers are being read on now."""
        return len(self._tasks)

    def take(self, answer: OpenAnswer, rest: Rest) -> bool:
        """Read an answer on and close it, or return False, with the answer left to its owner."""
        if self._closed or len(self._tasks) >= self._count:
            self._figures.ended(complete=False)
            return False
        task = asyncio.get_running_loop().create_task(self._read(answer, rest))
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

    async def _read(self, answer: OpenAnswer, rest: Rest) -> None:
        complete = False
        limit = answer.received + self._answer_bytes
        try:
            async with asyncio.timeout(self._seconds):
                while (events := await answer.read_events()) is not None:
                    rest.events(events)
                    if answer.received > limit:
                        return
            complete = True
        except (TimeoutError, GatewayError) as exc:
            logger().info("drain_ended_early", cause=type(exc).__name__)
        except Exception:  # noqa: BLE001 - nobody awaits this task, so its failure is told here or nowhere
            logger().exception("drain_failed")
        finally:
            answer.close()
            self._figures.ended(complete=complete)
            await rest.ended(complete=complete)
