"""Nodes as they tell of themselves: alive, lost, gone; over every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.nodes.roster import JournalDepth, NodeState, Report, Role, Roster
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.nodes import SqlNodeStore

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Machine:
    """One node with its roster."""

    def __init__(self, store: SqlNodeStore, clock: ManualClock, run_id: str) -> None:
        self.report = Report(
            run_id=run_id,
            hostname="host",
            roles=(Role.SERVER, Role.FACADE),
            state=NodeState.READY,
            version="1.0.0",
            start_time=NOON,
            report_time=NOON,
            config_version=7,
            catalog_version=3,
            config_age_s=0.25,
            loop_lag_s=0.001,
            journal=JournalDepth(1, 2, 3, 4, 5.5),
        )
        self.failures: list[Exception | None] = []
        self.roster = Roster(
            store, lambda: replace(self.report, report_time=clock.now()), clock, self.failures.append, every_s=0.01
        )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlNodeStore]:
    """An empty store."""
    database = await Database.open_sqlite(tmp_path / "gateway.db")
    yield SqlNodeStore(database)
    await database.close()


async def test_each_node_sees_the_others_as_they_said(store: SqlNodeStore) -> None:
    """Word for word, and itself as of now."""
    clock = ManualClock(NOON)
    one, other = Machine(store, clock, "run_1"), Machine(store, clock, "run_2")
    await one.roster.step()
    await other.roster.step()
    assert await one.roster.nodes() == await other.roster.nodes() == [one.report, other.report]
    one.report = replace(one.report, running_requests=9)
    assert (await one.roster.nodes())[0].running_requests == one.roster.own.running_requests == 9
    assert (await other.roster.nodes())[0].running_requests == 0


async def test_silent_node_is_lost_and_then_forgotten(store: SqlNodeStore) -> None:
    """After 15 seconds it is at the end of the list, with how long it was silent; after a day it is gone."""
    clock = ManualClock(NOON)
    dead, alive = Machine(store, clock, "run_1"), Machine(store, clock, "run_2")
    await dead.roster.step()
    clock.advance(14)
    assert (await alive.roster.nodes())[0].state is NodeState.READY
    clock.advance(1)
    first, last = await alive.roster.nodes()
    assert (first.run_id, last.run_id, last.state) == ("run_2", "run_1", NodeState.LOST)
    assert last.reason == "It has not reported for 15 s."
    clock.advance(86_400)
    await alive.roster.step()
    assert [one.run_id for one in await alive.roster.nodes()] == ["run_2"]


async def test_node_that_stops_well_is_not_listed(store: SqlNodeStore) -> None:
    """It reports at once when it starts, and takes its report away."""
    clock = ManualClock(NOON)
    one, other = Machine(store, clock, "run_1"), Machine(store, clock, "run_2")
    one.roster.start()
    async with asyncio.timeout(5):
        while len(await other.roster.nodes()) < 2:
            await asyncio.sleep(0.005)
    await one.roster.close()
    assert [node.run_id for node in await other.roster.nodes()] == ["run_2"]
    assert one.failures == []
    await other.roster.close()


async def test_trouble_is_told_once_and_its_end_too(store: SqlNodeStore) -> None:
    """The node goes on; the others see that it is lost."""
    one = Machine(store, ManualClock(NOON), "run_1")
    broken = True
    write = store.write

    async def sometimes(report: Report) -> None:
        if broken:
            raise RuntimeError("gone")
        await write(report)

    store.write = sometimes  # type: ignore[method-assign]  # a database that comes and goes
    one.roster.start()
    async with asyncio.timeout(5):
        await asyncio.sleep(0.05)
        broken = False
        while len(one.failures) < 2:
            await asyncio.sleep(0.005)
    await one.roster.close()
    assert [type(each) for each in one.failures] == [RuntimeError, type(None)]
