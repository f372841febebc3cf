"""The roster of nodes: each says every few seconds how it is, and takes its entry away when it stops well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from tokendance_server.domain.clock import Clock

EVERY_S = 5.0
LOST_AFTER = timedelta(seconds=15)
_FORGOTTEN_AFTER = timedelta(days=1)
_FORGET_EVERY = timedelta(hours=1)
_LAST_WORDS_S = 2.0


class Role(StrEnum):
    """What a process runs."""

    SERVER = "server"
    FACADE = "facade"


class NodeState(StrEnum):
    """Whether a node serves. LOST is said by others, of one that reports no more."""

    READY = "ready"
    NOT_READY = "not_ready"
    DRAINING = "draining"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class JournalDepth:
    """The journal of usage: entries, bytes, and how old the oldest finished entry is (None: there is none)."""

    pending_entries: int = 0
    open_entries: int = 0
    size_bytes: int = 0
    max_bytes: int = 0
    oldest_pending_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a node says of itself. Durations are in seconds; `config_version` is its place in the feed of changes."""

    run_id: str
    hostname: str
    roles: tuple[Role, ...]
    state: NodeState
    reason: str = ""
    version: str
    start_time: datetime
    report_time: datetime
    config_version: int
    catalog_version: int
    config_age_s: float
    loop_lag_s: float
    running_requests: int = 0
    running_streams: int = 0
    resident_bytes: int = 0
    open_files: int = 0
    journal: JournalDepth = JournalDepth()
    quota_store: str = "memory"
    quota_store_latency_s: float | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"nodes/{self.run_id}"


class NodeStore(Protocol):
    """Keeps the reports. Every method raises what the stores raise where the database is gone."""

    async def write(self, report: Report) -> None:
        """Keep a report in place of the one before of the same run."""

    async def remove(self, run_id: str) -> None:
        """Take the report of a run away."""

    async def reports(self) -> Sequence[Report]:
        """Return the newest report of each run."""

    async def forget(self, before: datetime) -> None:
        """Take away what reported last before a time."""


class Roster:
    """Reports for one run of a node, and tells of all. `look` says how this node is now.

    `report` gets the error when it cannot be written any more, and None when it can again.
    """

    def __init__(
        self,
        store: NodeStore,
        look: Callable[[], Report],
        clock: Clock,
        report: Callable[[Exception | None], None],
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._store = store
        self._look = look
        self._clock = clock
        self._report = report
        self._every_s = every_s
        self._failing = False
        self._forget_at = clock.now()
        self._task: asyncio.Task[None] | None = None

    @property
    def own(self) -> Report:
        """This node, as of now."""
        return self._look()

    async def nodes(self) -> list[Report]:
        """Return every node: those that are alive first, then by name; this one as of now."""
        own = self._look()
        others = [self._seen(one) for one in await self._store.reports() if one.run_id != own.run_id]
        return sorted([own, *others], key=lambda one: (one.state is NodeState.LOST, one.run_id))

    async def step(self) -> None:
        """Report once. Raises what the store raises."""
        await self._store.write(self._look())
        now = self._clock.now()
        if now >= self._forget_at:
            await self._store.forget(now - _FORGOTTEN_AFTER)
            self._forget_at = now + _FORGET_EVERY

    def start(self) -> None:
        """Report every few seconds until `close`."""
        self._task = asyncio.create_task(self._run(), name="roster")

    async def close(self) -> None:
        """Report no more, and take this node's entry away; harmless where it never began."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._store.remove(self._look().run_id)
        except Exception as exc:  # noqa: BLE001 - the others see that it is lost; stopping goes on
            self._report(exc)

    def _seen(self, one: Report) -> Report:
        silent = self._clock.now() - one.report_time
        if silent < LOST_AFTER:
            return one
        reason = f"It has not reported for {int(silent.total_seconds())} s."
        return replace(one, state=NodeState.LOST, reason=reason)

    async def _run(self) -> None:
        while True:
            try:
                await self.step()
            except Exception as exc:  # noqa: BLE001 - tried again; the others see that it is lost
                if not self._failing:
                    self._report(exc)
                self._failing = True
            else:
                if self._failing:
                    self._report(None)
                self._failing = False
            await asyncio.sleep(self._every_s)
