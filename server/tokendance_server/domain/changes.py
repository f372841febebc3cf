"""The feed of changes: what was changed on any node, in the order of commits, and the watcher that tells this node."""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tokendance_server.domain.clock import Clock

BATCH = 500
"""How many changes are read, or removed, at once."""

_KEPT = timedelta(days=7)
_PRUNE_EVERY_S = 60.0


class ChangeKind(enum.StrEnum):
    """What kind of thing changed. A route changes with its model."""

    INCIDENT = "incident"
    KEY = "key"
    LIMIT = "limit"
    MAINTENANCE = "maintenance"
    MEMBER = "member"
    MODEL = "model"
    ORGANIZATION = "organization"
    POLICY = "policy"
    PRICE = "price"
    PROVIDER = "provider"
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change. Numbers count from 1 without a gap; `organization_id` is empty for the platform's own.

    `kind` is a ChangeKind, or one that only a newer version of the gateway knows.
    """

    number: int
    kind: str
    name: str
    organization_id: str
    time: datetime


class ChangeFeed(Protocol):
    """Reads what the stores recorded, each change in the transaction of what it tells."""

    async def latest(self) -> Change | None:
        """Return the newest change, or None where there never was one."""

    async def since(self, number: int, limit: int) -> list[Change]:
        """Return at most `limit` changes with a greater number, in their order."""

    async def prune(self, before: datetime, limit: int) -> int:
        """Remove at most `limit` of the oldest changes, made before a time; return how many. The newest one stays."""


class ChangeListener(Protocol):
    """Keeps something in memory that changes make untrue."""

    def changed(self, change: Change) -> None:
        """Forget what the change made untrue."""

    def everything_changed(self) -> None:
        """Forget all: some changes can no longer be told one by one."""


class Watcher:
    """Polls the feed every `interval_s` seconds and tells the listeners.

    `report` gets the error when reading begins to fail, and None when it works again. A listener that raises is told
    the same changes again.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        clock: Clock,
        report: Callable[[Exception | None], None],
        *,
        interval_s: float = 0.5,
        stale_after_s: float = 5.0,
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._report = report
        self._interval_s = interval_s
        self._stale_after_s = stale_after_s
        self._listeners: list[tuple[ChangeKind, ChangeListener]] = []
        self._placed = False
        self._last: Change | None = None
        self._read_at: float | None = None
        self._prune_at = clock.monotonic() + _PRUNE_EVERY_S
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """True while the newest whole reading of the feed is at most `stale_after_s` seconds old."""
        return self._read_at is not None and self._clock.monotonic() - self._read_at <= self._stale_after_s

    @property
    def position(self) -> int:
        """The number of the newest change that the listeners were told; 0 before the first."""
        return self._last.number if self._last is not None else 0

    @property
    def age_s(self) -> float:
        """How long ago the feed was read whole, in seconds; infinite where it never was."""
        return math.inf if self._read_at is None else max(self._clock.monotonic() - self._read_at, 0.0)

    def subscribe(self, kind: ChangeKind, listener: ChangeListener) -> None:
        """Tell a listener of every change of a kind."""
        self._listeners.append((kind, listener))

    async def start(self) -> None:
        """Find the place in the feed, and watch from there until `stop`."""
        await self._step()
        self._task = asyncio.create_task(self._run(), name="changes")

    async def stop(self) -> None:
        """End watching; harmless where it never began."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def poll(self) -> None:
        """Read everything that is new and tell the listeners. Raises what the feed raises."""
        asked = self._clock.monotonic()
        # A database that hangs must leave time for another try before the node counts as blind.
        async with asyncio.timeout(self._stale_after_s / 2):
            while await self._read_batch():
                pass
        self._read_at = asked

    async def _run(self) -> None:
        pause_s = self._interval_s
        while True:
            await asyncio.sleep(pause_s)
            began = self._clock.monotonic()
            await self._step()
            # From one beginning to the next: where the database is slow, changes must not wait for it twice.
            pause_s = max(self._interval_s - (self._clock.monotonic() - began), 0.0)

    async def _step(self) -> None:
        try:
            await self.poll()
            if self._clock.monotonic() >= self._prune_at:
                await self._prune()
        except Exception as exc:  # noqa: BLE001 - whatever it was is tried again, and told; `healthy` has an end
            if not self._failing:
                self._report(exc)
            self._failing = True
            return
        if self._failing:
            self._report(None)
        self._failing = False

    async def _read_batch(self) -> bool:
        """Read one batch; return whether there may be more."""
        if not self._placed:
            await self._start_over()
            return False
        # The change that was read last is read again: where it is not there, the feed is not the one that we followed
        # (a backup was restored, a standby took over that lacks it, or we slept for longer than changes are kept).
        last = self._last
        read = await self._feed.since(last.number - 1 if last else 0, BATCH)
        followed = read[:1] == [last] if last else not read or read[0].number == 1
        if not followed:
            await self._start_over()
            return False
        for change in read[1:] if last else read:
            self._tell(change)
            self._last = change
        return len(read) == BATCH

    async def _start_over(self) -> None:
        # In this order: what is read into a cache after the place was taken is covered by the changes behind it.
        self._last = await self._feed.latest()
        for _, listener in self._listeners:
            listener.everything_changed()
        self._placed = True

    def _tell(self, change: Change) -> None:
        for kind, listener in self._listeners:
            if kind == change.kind:
                listener.changed(change)

    async def _prune(self) -> None:
        removed = await self._feed.prune(self._clock.now() - _KEPT, BATCH)
        if removed < BATCH:
            self._prune_at = self._clock.monotonic() + _PRUNE_EVERY_S
