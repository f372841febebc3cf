"""The lease on a PostgreSQL: one node without Redis, many with it, and never two that count by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from tokendance_server.domain.clock import ManualClock
from tokendance_server.startup import StartupError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.leases import NodeLease, holders

QUICK_S = 0.05
Make = Callable[..., NodeLease]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """A PostgreSQL with the schema."""
    database = await Database.open_postgresql(postgres_url)
    yield database
    await database.close()


@pytest.fixture
def make(database: Database) -> Make:
    """Makes the lease of a node, on a clock of its own that stands still."""

    def lease(node: str, run: str = "run_1", **changes: Any) -> NodeLease:
        clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
        given: dict[str, Any] = {"code_version": "0.1.0", "shared": False, "monotonic": clock.monotonic}
        return NodeLease(database, node_id=node, run_id=run, renew_s=QUICK_S, **{**given, **changes})

    return lease


def _holds(lease: NodeLease) -> bool:
    return lease.held


async def _expire(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE node_leases SET expire_time = now() - interval '1 second'"))


async def _nodes(database: Database) -> list[str]:
    return [one.node_id for one in await holders(database)]


async def test_a_second_node_is_refused_in_one_line_until_the_first_one_leaves(database: Database, make: Make) -> None:
    """The line names the node and both ways out."""
    first, second = make("node_a"), make("node_b")
    await first.acquire()
    assert _holds(first)
    with pytest.raises(StartupError) as caught:
        await second.acquire()
    message = str(caught.value)
    assert "node_a" in message
    assert "server.redis_url" in message
    assert "\n" not in message
    assert not _holds(second)
    await first.release()
    assert not _holds(first)
    await second.acquire()
    assert _holds(second)
    assert await _nodes(database) == ["node_b"]


async def test_of_several_that_start_at_once_one_gets_it(database: Database, make: Make) -> None:
    """The others are refused; none waits for long."""
    leases = [make(f"node_{number}") for number in range(6)]
    results = await asyncio.gather(*(one.acquire() for one in leases), return_exceptions=True)
    assert sorted(isinstance(result, StartupError) for result in results) == [False] + [True] * 5
    assert [_holds(one) for one in leases].count(True) == 1
    assert len(await _nodes(database)) == 1


async def test_the_lease_of_a_dead_node_is_taken_over_when_it_is_over(database: Database, make: Make) -> None:
    """And the dead one, if it only slept, knows at its next renewal that it serves no more."""
    first, second = make("node_a"), make("node_b")
    await first.acquire()
    await _expire(database)
    await second.acquire()
    assert _holds(second)
    await asyncio.wait_for(first.keep(), 10)
    assert not _holds(first)
    assert await _nodes(database) == ["node_b"]
    await first.release()
    assert await _nodes(database) == ["node_b"]


async def test_a_node_that_starts_again_takes_its_own_lease_back_at_once(database: Database, make: Make) -> None:
    """After a crash nobody waits; a run of the same node that still lives, on a copy of its data, loses it."""
    for shared in (False, True):
        first, again = make("node_a", "run_1", shared=shared), make("node_a", "run_2", shared=shared)
        await first.acquire()
        await again.acquire()
        await asyncio.wait_for(first.keep(), 10)
        assert (_holds(first), _holds(again)) == (False, True)
        assert await _nodes(database) == ["node_a"]
        await again.release()


async def test_a_lease_that_is_kept_outlives_its_length(database: Database, make: Make) -> None:
    """Renewed from time to time, by the database's clock; and no longer once that ends."""
    loop = asyncio.get_running_loop()
    lease = make("node_a", lease_s=0.6, monotonic=loop.time)
    await lease.acquire()
    keeping = asyncio.create_task(lease.keep())
    await asyncio.sleep(1.2)
    assert _holds(lease)
    assert await _nodes(database) == ["node_a"]
    keeping.cancel()
    await asyncio.wait([keeping])
    await asyncio.sleep(0.7)
    assert not _holds(lease)
    assert await _nodes(database) == []


async def test_a_node_that_cannot_renew_stops_by_itself_and_comes_back(database: Database, make: Make) -> None:
    """Whatever the database says: it cannot know that nobody took over. It serves again when it can renew."""
    clock = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))
    lease = make("node_a", monotonic=clock.monotonic, lease_s=15)
    await lease.acquire()
    keeping = asyncio.create_task(lease.keep())
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE node_leases RENAME TO elsewhere"))
    await asyncio.sleep(4 * QUICK_S)
    assert _holds(lease)
    clock.advance(15)
    assert not _holds(lease)
    async with database.transaction() as connection:
        await connection.execute(text("ALTER TABLE elsewhere RENAME TO node_leases"))
    async with asyncio.timeout(10):
        while not _holds(lease):
            await asyncio.sleep(QUICK_S)
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_with_redis_many_nodes_serve_beside_each_other(database: Database, make: Make) -> None:
    """And none of them beside one that has no Redis, whichever comes first."""
    shared = [make(f"node_{number}", shared=True) for number in range(3)]
    for one in shared:
        await one.acquire()
    assert await _nodes(database) == ["node_0", "node_1", "node_2"]
    alone = make("node_alone")
    with pytest.raises(StartupError, match="node_0"):
        await alone.acquire()
    for one in shared:
        await one.release()
    await alone.acquire()
    with pytest.raises(StartupError, match=r"node_alone .* has no Redis"):
        await shared[0].acquire()


async def test_a_shared_lease_that_was_swept_is_taken_again(database: Database, make: Make) -> None:
    """A node that slept through its lease harms nobody where counters are in Redis."""
    lease = make("node_a", shared=True)
    await lease.acquire()
    await _expire(database)
    await make("node_b", shared=True).acquire()
    assert await _nodes(database) == ["node_b"]
    keeping = asyncio.create_task(lease.keep())
    async with asyncio.timeout(10):
        while await _nodes(database) != ["node_a", "node_b"]:
            await asyncio.sleep(QUICK_S)
    assert _holds(lease)
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_a_node_stops_where_a_migration_leaves_its_version_behind(database: Database, make: Make) -> None:
    """It would write what the new schema no longer means."""
    for shared in (False, True):
        lease = make("node_a", shared=shared)
        await lease.acquire()
        async with database.transaction() as connection:
            await connection.execute(text("UPDATE schema_info SET oldest_code_version = '0.2.0'"))
        await asyncio.wait_for(lease.keep(), 10)
        assert not _holds(lease)
        async with database.transaction() as connection:
            await connection.execute(text("UPDATE schema_info SET oldest_code_version = '0.1.0'"))
