"""Caps of routes, counted in one node and by several together: what is taken, refused and given back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.server.domain.meters import NOW

from tokendance.ids import new_id
from tokendance_server.domain.catalogue.models import Caps
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.quota.claims import Grant, Used
from tokendance_server.domain.quota.counters import Counters
from tokendance_server.domain.routing.caps import CapCounters, rows_of
from tokendance_server.stores.memory_counters import MemoryCounters
from tokendance_server.stores.redis_counters import RedisCounters


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Callable[[], CapCounters]:
    """Makes the caps of one node; with Redis, those of several count together."""
    if request.param == "memory":
        counters: Counters = MemoryCounters(ManualClock(NOW))
        return lambda: CapCounters(counters, lambda error: None)
    url = request.getfixturevalue("redis_server")
    return lambda: CapCounters(RedisCounters(url, new_id("node")), lambda error: None)


def rows(**caps: int) -> tuple[str, Caps]:
    """A subject of its own for each test, and its caps."""
    return new_id("route"), Caps(**caps)


async def test_calls_at_once_are_bounded_over_all_nodes(make: Callable[[], CapCounters]) -> None:
    """Whichever node took the place; who gives it back makes room."""
    nodes = make(), make()
    capped = rows_of(*rows(max_concurrent_requests=1))
    grant = await nodes[0].take(capped, 5, 5)
    assert isinstance(grant, Grant)
    assert isinstance(await nodes[1].take(capped, 5, 5), float)
    await nodes[0].end(grant, Used(5, 5))
    await nodes[0].end(grant, Used(5, 5))
    again = await nodes[1].take(capped, 5, 5)
    assert isinstance(again, Grant)
    await nodes[1].end(again, None)
    for node in nodes:
        await node.close()


async def test_a_minutes_calls_and_tokens_are_bounded_and_tell_a_wait(make: Callable[[], CapCounters]) -> None:
    """What was not made counts for nothing; tokens count as they were used."""
    node = make()
    calls, tokens = rows_of(*rows(max_requests_per_minute=1)), rows_of(*rows(max_tokens_per_minute=100))
    for used in (None, Used(1, 1)):
        grant = await node.take(calls, 1, 1)
        assert isinstance(grant, Grant)
        await node.end(grant, used)
    wait_s = await node.take(calls, 1, 1)
    assert isinstance(wait_s, float)
    assert 0 < wait_s <= 65
    grant = await node.take(tokens, 10, 40)
    assert isinstance(grant, Grant)
    await node.end(grant, Used(10, 85))
    assert isinstance(await node.take(tokens, 10, 0), float)
    assert [one.left for one in await node.standings(tokens)] == [5]
    await node.close()


async def test_where_nobody_can_tell_calls_pass() -> None:
    """Caps spare an upstream; without them it says itself what is too much."""
    told: list[Exception] = []
    node = CapCounters(RedisCounters("redis://127.0.0.1:1/0", "node_x", deadline_s=0.05), told.append)
    capped = rows_of(*rows(max_concurrent_requests=1))
    assert await node.take(capped, 1, 1) is None
    assert told
    assert await node.standings(capped) == ()
    await node.close()
