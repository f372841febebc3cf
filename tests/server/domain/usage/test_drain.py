"""What is finished reaches the store once, however often the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.domain.usage.doubles import START_US, MemoryJournal, memory_ledger

from tokendance.gateway.v1 import usage_pb2
from tokendance_server.domain.usage.drain import Drain
from tokendance_server.domain.usage.entries import FinishedEntry, OpenRequest
from tokendance_server.domain.usage.ledger import AT_HAND, Ledger
from tokendance_server.domain.usage.store import EntryRefusedError

OK = usage_pb2.REQUEST_OUTCOME_SUCCEEDED


class Store:
    """Takes requests, unless it is `gone`; never those whose ids for callers are `odd`. Is its own place aside."""

    def __init__(self) -> None:
        self.rows: list[FinishedEntry] = []
        self.batches: list[int] = []
        self.gone = False
        self.odd: set[str] = set()
        self.aside: list[str] = []

    def put(self, entry: FinishedEntry, why: str) -> None:
        """Put one aside."""
        self.aside.append(entry.request.request_id)

    async def prune(self, records_before_us: int, hours_before_us: int, limit: int) -> int:
        """Remove nothing."""
        if self.gone:
            raise ConnectionError("gone")
        return 0

    async def insert(self, entries: Sequence[FinishedEntry]) -> int:
        """Take a batch."""
        if self.gone:
            raise ConnectionError("gone")
        if any(one.request.request_id in self.odd for one in entries):
            raise EntryRefusedError("fits no row")
        await asyncio.sleep(0)
        self.rows += entries
        self.batches.append(len(entries))
        return len(entries)


def drain_of(ledger: Ledger, store: Any, told: list[Exception | None]) -> Drain:
    """Return a drain that tells what it reports."""
    return Drain(ledger, store, told.append, aside=store, report_prune=told.append, keep_records_us=1, keep_hours_us=1)


async def finish(ledger: Ledger, count: int) -> None:
    """Let so many requests end."""
    for number in range(count):
        request = OpenRequest(request_id=f"req_{number}", start_us=START_US, organization_id="org_1")
        await ledger.open(request).finish(OK)


async def test_flush_writes_all_in_batches() -> None:
    """In their order, and the journal is told what it may forget."""
    journal, store = MemoryJournal(), Store()
    ledger = memory_ledger(journal)
    await finish(ledger, 1201)
    await drain_of(ledger, store, []).flush()
    assert store.batches == [500, 500, 201]
    assert (ledger.backlog, journal.finished) == (0, {})


async def test_store_that_is_gone_loses_nothing() -> None:
    """What could not be written waits, is told once, and goes when the store is back."""
    store, told = Store(), list[Exception | None]()
    ledger = memory_ledger()
    drain = drain_of(ledger, store, told)
    await finish(ledger, 3)
    store.gone = True
    with pytest.raises(ConnectionError):
        await drain.flush()
    await drain.close()
    await drain.close()
    assert (ledger.backlog, [type(one) for one in told]) == (3, [ConnectionError])
    store.gone = False
    await drain.close()
    assert (ledger.backlog, len(store.rows), told[-1]) == (0, 3, None)


async def test_running_drain_writes_soon() -> None:
    """Without anybody asking."""
    store = Store()
    ledger = memory_ledger()
    drain = drain_of(ledger, store, [])
    drain.start()
    await finish(ledger, 5)
    async with asyncio.timeout(5):
        while ledger.backlog:
            await asyncio.sleep(0.01)
    assert len(store.rows) == 5
    await drain.close()


async def test_two_flushes_at_once_write_nothing_twice() -> None:
    """One waits for the other."""
    store = Store()
    ledger = memory_ledger()
    drain = drain_of(ledger, store, [])
    await finish(ledger, 10)
    await asyncio.gather(drain.flush(), drain.flush())
    assert len(store.rows) == 10


async def test_request_that_is_refused_for_good_holds_up_nobody() -> None:
    """It goes aside alone, and the journal forgets it with the others."""
    journal, store = MemoryJournal(), Store()
    ledger = memory_ledger(journal)
    store.odd = {"req_0", "req_311", "req_312", "req_900"}
    await finish(ledger, 901)
    await drain_of(ledger, store, []).flush()
    assert store.aside == ["req_0", "req_311", "req_312", "req_900"]
    assert [one.request.request_id for one in store.rows] == [
        f"req_{number}" for number in range(901) if f"req_{number}" not in store.odd
    ]
    assert (ledger.backlog, journal.finished) == (0, {})


async def test_database_that_refuses_everything_is_not_believed() -> None:
    """Nobody puts all requests aside for a table that is broken: all of them wait, and it is told."""
    store, told = Store(), list[Exception | None]()
    ledger = memory_ledger()
    store.odd = {f"req_{number}" for number in range(100)}
    await finish(ledger, 100)
    drain = drain_of(ledger, store, told)
    await drain.close()
    assert store.aside == []
    assert (ledger.backlog, [type(one) for one in told]) == (100, [EntryRefusedError])


async def test_what_waits_for_long_waits_small() -> None:
    """Requests beyond those at hand wait encoded, and come out as they went in."""
    ledger, store = memory_ledger(), Store()
    await finish(ledger, AT_HAND + 50)
    kept = [type(one.entry) for one in ledger._waiting]
    assert kept == [FinishedEntry] * AT_HAND + [bytes] * 50
    await drain_of(ledger, store, []).flush()
    assert [one.request.request_id for one in store.rows] == [f"req_{number}" for number in range(AT_HAND + 50)]


async def test_retention_that_fails_says_so() -> None:
    """It raises, for whoever runs it to tell."""
    store = Store()
    drain = drain_of(memory_ledger(), store, [])
    await drain.prune()
    store.gone = True
    with pytest.raises(ConnectionError):
        await drain.prune()
