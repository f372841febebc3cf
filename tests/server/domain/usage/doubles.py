"""A journal without a disk, and a ledger on it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from tokendance_server.domain.usage.ledger import JournalError, Ledger

START_US = 1_780_000_000_000_000


class MemoryJournal:
    """Satisfies Journal. `full` refuses new requests, `broken` fails every write."""

    def __init__(self) -> None:
        self.opened: dict[str, bytes] = {}
        self.finished: dict[str, bytes] = {}
        self.full = False
        self.broken = False

    def has_room(self) -> bool:
        return not self.full

    def open(self, record_id: str, payload: bytes) -> Awaitable[None]:
        return self._keep(self.opened, record_id, payload)

    def finish(self, record_id: str, payload: bytes) -> Awaitable[None]:
        return self._keep(self.finished, record_id, payload)

    def drained(self, record_ids: Sequence[str]) -> None:
        for one in record_ids:
            self.opened.pop(one, None)
            self.finished.pop(one, None)

    async def _keep(self, place: dict[str, bytes], record_id: str, payload: bytes) -> None:
        if self.broken:
            raise JournalError("the journal cannot be written (no space left on device)")
        place[record_id] = payload


class Ticking:
    """Microseconds that move only when told."""

    def __init__(self) -> None:
        self.now = START_US

    def __call__(self) -> int:
        return self.now


def memory_ledger(journal: MemoryJournal | None = None, clock: Ticking | None = None) -> Ledger:
    """Return a ledger that keeps nothing on disk."""
    return Ledger(journal or MemoryJournal(), "node_1", clock or Ticking(), lambda why: None)
