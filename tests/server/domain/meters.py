"""Meters of the tests: over limits that a test states, a ledger without a disk, and time that moves when told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tests.server.domain.usage.doubles import MemoryJournal, Ticking, memory_ledger

from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.metering import Meter
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.quota.limits import Limits
from tokendance_server.domain.quota.reservations import Reservations
from tokendance_server.domain.usage.estimates import Estimates
from tokendance_server.stores.memory_counters import MemoryCounters

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


class StatedLimits:
    """Satisfies LimitReader with the limits that a test states."""

    def __init__(self, limits: Mapping[str, Sequence[LimitRule]]) -> None:
        self.limits_of = dict(limits)

    async def limits(self, subjects: Sequence[str]) -> Mapping[str, Sequence[LimitRule]]:
        return {one: self.limits_of[one] for one in subjects if one in self.limits_of}


def meter_of(
    limits: Mapping[str, Sequence[LimitRule]],
    *,
    clock: ManualClock | None = None,
    journal: MemoryJournal | None = None,
) -> Meter:
    """Return a meter whose calls meet these limits."""
    clock = clock or ManualClock(NOW)
    reservations = Reservations(Limits(StatedLimits(limits)), MemoryCounters(clock), clock, lambda error: None)
    return Meter(memory_ledger(journal, Ticking()), Estimates(), PriceBook(clock), reservations)


def unlimited_meter() -> Meter:
    """Return a meter without a limit."""
    return meter_of({})
