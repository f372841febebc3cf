"""The drain of a node: what the ledger finished goes into the database, batch by batch, for as long as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from tokendance_server.domain.usage.entries import FinishedEntry
from tokendance_server.domain.usage.ledger import Ledger
from tokendance_server.domain.usage.store import EntryRefusedError

BATCH = 500
"""How many requests are written in one step."""

_GATHER_S = 0.5
_FIRST_RETRY_S = 0.5
_LAST_RETRY_S = 15.0
_PRUNE_EVERY_S = 60.0
_PRUNED = 1000
# One request in thousands may be odd; where more than so many are refused and none is taken, the database is.
_MOST_REFUSED = 16


class Sink(Protocol):
    """What the drain asks of a UsageStore."""

    async def insert(self, entries: Sequence[FinishedEntry]) -> int:
        """See UsageStore."""

    async def prune(self, records_before_us: int, hours_before_us: int, limit: int) -> int:
        """See UsageStore."""


class Aside(Protocol):
    """Keeps the requests that the database never takes, for people to look at."""

    def put(self, entry: FinishedEntry, why: str) -> None:
        """Write one down for good, before it is forgotten elsewhere. Raises OSError."""


class Drain:
    """Writes what waits every half a second, and backs off up to 15 s where the database is gone.

    `report` gets the error when writing begins to fail, and None when it works again; `report_prune` alike for what is
    removed because it is old. `keep_records_us` and `keep_hours_us` are how long rows, and sums by hour, stay; sums by
    day stay for good. A request that the database never takes goes `aside`, so that those behind it get in.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Sink,
        report: Callable[[Exception | None], None],
        *,
        aside: Aside,
        report_prune: Callable[[Exception | None], None],
        keep_records_us: int,
        keep_hours_us: int,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._report = report
        self._aside = aside
        self._report_prune = report_prune
        self._keep = keep_records_us, keep_hours_us
        self._writing = asyncio.Lock()
        self._failing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Drain until `close`."""
        self._tasks = [
            asyncio.create_task(self._run(), name="usage drain"),
            asyncio.create_task(self._prune(), name="usage retention"),
        ]

    async def close(self, wait_s: float = 5.0) -> None:
        """Write what waits, for at most `wait_s` seconds: the rest stays in the journal for the next start."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._flush_and_tell()

    async def flush(self, *, to_the_last: bool = True) -> None:
        """Write all that waits now. Raises what the store raises, and what is not written waits on.

        Without `to_the_last`, what ended meanwhile is left for the next time, unless it fills a batch of its own.
        """
        async with self._writing:
            while batch := self._ledger.waiting(BATCH):
                await self._write(batch)
                self._ledger.drained(batch)
                if not to_the_last and self._ledger.backlog < BATCH:
                    break

    async def _write(self, batch: Sequence[FinishedEntry]) -> None:
        """Write a batch; what of it the database never takes goes aside, unless that is all of many."""
        refused = await self._write_parts(batch)
        if len(refused) == len(batch) and len(batch) > _MOST_REFUSED:
            raise refused[0][1]
        for entry, why in refused:
            self._aside.put(entry, str(why))

    async def _write_parts(self, batch: Sequence[FinishedEntry]) -> list[tuple[FinishedEntry, EntryRefusedError]]:
        """Write a batch, or halves of it; return what is refused alone."""
        try:
            await self._store.insert(batch)
        except EntryRefusedError as exc:
            if len(batch) == 1:
                return [(batch[0], exc)]
            middle = len(batch) // 2
            return [*await self._write_parts(batch[:middle]), *await self._write_parts(batch[middle:])]
        return []

    async def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while True:
            await self._ledger.something_waits()
            # Many requests end meanwhile: one step for all of them costs little more than one for the first.
            await asyncio.sleep(_GATHER_S)
            if await self._flush_and_tell(to_the_last=False):
                retry_s = _FIRST_RETRY_S
            else:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)

    async def _flush_and_tell(self, *, to_the_last: bool = True) -> bool:
        try:
            await self.flush(to_the_last=to_the_last)
        except Exception as exc:  # noqa: BLE001 - nothing is lost: it is in the journal, and the next try may succeed
            if not self._failing:
                self._report(exc)
            self._failing = True
            return False
        if self._failing:
            self._report(None)
        self._failing = False
        return True

    async def _prune(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(_PRUNE_EVERY_S)
            try:
                await self.prune()
            except Exception as exc:  # noqa: BLE001 - told; the next minute tries again
                if not failing:
                    self._report_prune(exc)
                failing = True
            else:
                if failing:
                    self._report_prune(None)
                failing = False

    async def prune(self) -> None:
        """Remove what is older than it is kept, in small batches. Raises what the store raises."""
        now = self._ledger.now_us()
        records, hours = (now - kept for kept in self._keep)
        # Between two batches the database is left to others.
        while await self._store.prune(records, hours, _PRUNED):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
