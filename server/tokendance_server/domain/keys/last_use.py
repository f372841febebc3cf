"""What is learnt while keys are used, and written behind the calls: when each was, and digests under the new pepper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from tokendance_server.domain.clock import Clock

MOST = 100_000
"""How many keys are remembered while the store is away. What goes beyond is noted again at its next use."""

_EVERY_S = 10.0
_WRITE_S = 5.0
_BATCH = 500
_MINUTE_S = 60

_Noted = TypeVar("_Noted")


@dataclass(frozen=True, slots=True)
class KeyUse:
    """That a key was used, in the minute that begins at `time`."""

    organization_id: str
    key_id: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Redigest:
    """That a secret, known by `digest`, has the digest `fresh` under the pepper in force; 32 bytes each."""

    digest: bytes
    fresh: bytes
    pepper_id: str


class UseStore(Protocol):
    """Keeps when keys were used last, and the digests of their secrets."""

    async def mark_used(self, uses: Sequence[KeyUse]) -> None:
        """Move the times of last use on, in one transaction; none goes back, and no change is recorded.

        A key that is not there is passed over.
        """

    async def redigest(self, redigests: Sequence[Redigest]) -> None:
        """Put fresh digests in the place of others, in one transaction; no change of a key is recorded.

        A digest that is not there is passed over.
        """


class LastUses:
    """Notes uses, and writes them every `every_s` seconds once it is started.

    `report` gets the error when writing begins to fail, and None when it works again; until then at most `most` keys
    are remembered.
    """

    def __init__(
        self,
        store: UseStore,
        clock: Clock,
        report: Callable[[Exception | None], None],
        *,
        most: int = MOST,
        every_s: float = _EVERY_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._report = report
        self._most = most
        self._every_s = every_s
        self._noted: dict[str, KeyUse] = {}
        self._redigests: dict[bytes, Redigest] = {}
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, organization_id: str, key_id: str) -> float:
        """Note that a key is used now; return for how many seconds no further note of it would tell anything new."""
        now = self._clock.now()
        minute = now.replace(second=0, microsecond=0)
        if key_id in self._noted or len(self._noted) < self._most:
            self._noted[key_id] = KeyUse(organization_id, key_id, minute)
        return _MINUTE_S - (now - minute).total_seconds()

    def redigest(self, redigest: Redigest) -> None:
        """Note the digest of a secret under the pepper in force."""
        if len(self._redigests) < self._most:
            self._redigests[redigest.digest] = redigest

    def start(self) -> None:
        """Write from now on, until `close`."""
        self._task = asyncio.create_task(self._run(), name="last uses of keys")

    async def close(self) -> None:
        """Write what is left, and end; harmless where it was never started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
            await self.flush()

    async def flush(self) -> None:
        """Write what was noted; what cannot be written stays noted."""
        waiting = bool(self._noted or self._redigests)
        try:
            await self._write_uses()
            await self._write_digests()
        except Exception as exc:  # noqa: BLE001 - whatever it was is tried again, and told; nothing waits for it
            if not self._failing:
                self._report(exc)
            self._failing = True
            return
        if self._failing and waiting:
            self._report(None)
            self._failing = False

    async def _write_uses(self) -> None:
        for batch in _batches(sorted(self._noted.values(), key=lambda use: (use.organization_id, use.key_id))):
            async with asyncio.timeout(_WRITE_S):
                await self._store.mark_used(batch)
            for use in batch:
                # A later minute that was noted meanwhile stays.
                if self._noted.get(use.key_id) is use:
                    del self._noted[use.key_id]

    async def _write_digests(self) -> None:
        for batch in _batches(sorted(self._redigests.values(), key=lambda one: one.digest)):
            async with asyncio.timeout(_WRITE_S):
                await self._store.redigest(batch)
            for one in batch:
                del self._redigests[one.digest]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.flush()


def _batches(waiting: list[_Noted]) -> Iterator[list[_Noted]]:
    for start in range(0, len(waiting), _BATCH):
        yield waiting[start : start + _BATCH]
