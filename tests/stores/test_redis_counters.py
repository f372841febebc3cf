"""Counters in Redis that is slow, gone, wiped or another one, and asked by many nodes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
import redis.asyncio
from tests.servers import running_redis

from tokendance.gateway.v1 import quota_pb2
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import CONCURRENT, REQUESTS, Claim, Grant, Refusal, Row, Used, row_of
from tokendance_server.domain.quota.counters import CountersUnavailableError
from tokendance_server.domain.quota.windows import TOTAL
from tokendance_server.stores.redis_counters import RedisCounters

ORGANIZATION = "organizations/org_1"
LEASE_S = 30.0
NO_WINDOW = quota_pb2.LIMIT_WINDOW_UNSPECIFIED
BUDGET = row_of(ORGANIZATION, LimitRule(REQUESTS, TOTAL, 100))
SLOT = row_of(ORGANIZATION, LimitRule(CONCURRENT, NO_WINDOW, 1))


class Spent:
    """Tells that of every limit 7 were spent before."""

    async def spent(self, rows: Sequence[tuple[Row, float | None]]) -> Sequence[int]:
        """7 of each."""
        return [7] * len(rows)

    async def tell(self) -> None:
        """There is nothing to tell."""


class Books:
    """What the database tells of a limit, and what waits in the journal of one node. Satisfies SpentSource."""

    def __init__(self, database: dict[str, int], waiting: int) -> None:
        self.database = database
        self.waiting = waiting

    async def spent(self, rows: Sequence[tuple[Row, float | None]]) -> Sequence[int]:
        """What the database has of each."""
        return [self.database["spent"]] * len(rows)

    async def tell(self) -> None:
        """Drain the journal."""
        self.database["spent"] += self.waiting
        self.waiting = 0


@pytest.fixture
async def client(redis_server: str) -> AsyncIterator[redis.asyncio.Redis]:
    """An empty server."""
    async with redis.asyncio.Redis.from_url(redis_server) as one:
        await one.flushall()
        yield one


@pytest.fixture
def own_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that nobody else asks."""
    monkeypatch.delenv("TOKENDANCE_TEST_REDIS", raising=False)
    with running_redis() as url:
        yield url


def wanted(row: Row = BUDGET, name: str = "req_1") -> Claim:
    """A call of one limit."""
    return Claim(name, ORGANIZATION, [row])


_NODE = """
import asyncio, sys
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import Claim, Grant, Used, row_of
from tokendance_server.stores.redis_counters import RedisCounters

async def run(url, node):
    counters = RedisCounters(url, node, live=list, deadline_s=10)
    row = row_of("organizations/org_1", LimitRule(1, 5, 100))
    claims = [Claim(f"{node}_{n}", "organizations/org_1", [row]) for n in range(170)]
    got = await asyncio.gather(*(counters.reserve(one, 30.0) for one in claims))
    grants = [one for one in got if isinstance(one, Grant)]
    await asyncio.gather(*(counters.settle(one, Used()) for one in grants))
    await counters.close()
    print(len(grants))

asyncio.run(run(*sys.argv[1:]))
"""


async def test_three_processes_share_one_budget(client: redis.asyncio.Redis, redis_server: str) -> None:
    """E1: 510 at once from three processes on a budget for 100: exactly 100, and all of them are charged."""
    command = [sys.executable, "-c", _NODE, redis_server]
    processes = [
        await asyncio.create_subprocess_exec(*command, f"node_{n}", stdout=asyncio.subprocess.PIPE) for n in range(3)
    ]
    told = await asyncio.gather(*(one.communicate() for one in processes))
    assert sum(int(output) for output, _ in told) == 100
    counters = RedisCounters(redis_server, "node_9", deadline_s=5)
    assert [(one.spent, one.held) for one in await counters.standings(ORGANIZATION, [BUDGET])] == [(100, 0)]
    await counters.close()


async def test_what_was_spent_before_is_read_once(client: redis.asyncio.Redis, redis_server: str) -> None:
    """The first call of a limit asks usage, and all count on from there."""
    counters = RedisCounters(redis_server, "node_1", Spent(), deadline_s=5)
    for _ in range(2):
        grant = await counters.reserve(wanted(), LEASE_S)
        assert isinstance(grant, Grant)
        await counters.settle(grant, Used())
    assert [one.spent for one in await counters.standings(ORGANIZATION, [BUDGET])] == [9]
    await counters.close()


async def test_a_wiped_server_gets_back_what_is_spent_and_held(client: redis.asyncio.Redis, redis_server: str) -> None:
    """Two nodes, one call each; all data goes; whichever is asked next knows of both and of what usage tells."""
    slots = row_of(ORGANIZATION, LimitRule(CONCURRENT, NO_WINDOW, 2))
    nodes = [RedisCounters(redis_server, name, Spent(), live=lambda: ["a", "b"], deadline_s=5) for name in ("a", "b")]
    # Only who has a connection hears that its holds are wanted.
    await asyncio.gather(*(node.renew([], LEASE_S) for node in nodes))
    await asyncio.gather(*(_open(node) for node in nodes))
    claims = [Claim(f"req_{n}", ORGANIZATION, [slots, BUDGET]) for n in range(3)]
    grants = [await node.reserve(one, LEASE_S) for node, one in zip(nodes, claims, strict=False)]
    await client.flushall()
    refused = await nodes[0].reserve(claims[2], LEASE_S)
    assert isinstance(refused, Refusal)
    assert [(one.spent, one.held) for one in refused.standings] == [(0, 2), (7, 2)]
    for node, grant in zip(nodes, grants, strict=True):
        assert isinstance(grant, Grant)
        await node.settle(grant, Used())
    assert [(one.spent, one.held) for one in await nodes[1].standings(ORGANIZATION, [slots, BUDGET])] == [
        (0, 0),
        (9, 0),
    ]
    for node in nodes:
        await node.close()


async def test_a_limit_opens_only_once_each_node_has_told_what_its_journal_holds(
    client: redis.asyncio.Redis, redis_server: str
) -> None:
    """Behind a wipe, what one node spent and has not drained yet counts when another opens the limit."""
    database = {"spent": 0}
    books = {name: Books(database, 0) for name in ("a", "b")}
    nodes = [RedisCounters(redis_server, name, books[name], live=lambda: ["a", "b"], deadline_s=5) for name in books]
    await asyncio.gather(*(node.renew([], LEASE_S) for node in nodes))
    await asyncio.gather(*(_open(node) for node in nodes))
    await client.flushall()
    database["spent"], books["b"].waiting = 90, 10
    refused = await nodes[0].reserve(wanted(), LEASE_S)
    assert isinstance(refused, Refusal)
    assert [one.spent for one in refused.standings] == [100]
    for node in nodes:
        await node.close()


async def _open(node: RedisCounters) -> None:
    grant = await node.reserve(wanted(SLOT._replace(rule=LimitRule(CONCURRENT, NO_WINDOW, 10))), LEASE_S)
    assert isinstance(grant, Grant)
    await node.release(grant)


async def test_hard_limits_stay_shut_while_a_node_is_silent(client: redis.asyncio.Redis, redis_server: str) -> None:
    """A node that serves and tells nothing may hold anything: one lease is waited, and no 429 is invented."""
    now = [1_800_000_000.0]
    counters = RedisCounters(
        redis_server, "a", live=lambda: ["a", "silent"], deadline_s=5, time=lambda: now[0], lease_s=LEASE_S
    )
    with pytest.raises(CountersUnavailableError):
        await counters.reserve(wanted(), LEASE_S)
    soft = row_of(ORGANIZATION, LimitRule(REQUESTS, TOTAL, 1, soft=True))
    assert isinstance(await counters.reserve(wanted(soft), LEASE_S), Grant)
    now[0] += LEASE_S
    assert isinstance(await counters.reserve(wanted(), LEASE_S), Grant)
    await counters.close()


async def test_a_server_that_is_silent_is_given_up_soon_and_comes_back(own_url: str) -> None:
    """Nothing is granted meanwhile, nor held for it afterwards, and what was settled meanwhile is charged once."""
    async with redis.asyncio.Redis.from_url(own_url) as client:
        counters = RedisCounters(own_url, "a", deadline_s=0.1)
        grant = await counters.reserve(wanted(), LEASE_S)
        assert isinstance(grant, Grant)
        await client.client_pause(400)
        began = time.monotonic()
        with pytest.raises(CountersUnavailableError):
            await counters.reserve(wanted(name="req_2"), LEASE_S)
        assert time.monotonic() - began < 0.3
        with pytest.raises(CountersUnavailableError):
            await counters.settle(grant, Used())
        await asyncio.sleep(0.5)
        await counters.renew([], LEASE_S)
        await counters.renew([], LEASE_S)
        assert [(one.spent, one.held) for one in await counters.standings(ORGANIZATION, [BUDGET])] == [(1, 0)]
        await counters.close()


async def test_no_server_is_no_refusal_by_a_limit() -> None:
    """It cannot be told how limits stand, which is another thing than that they are full."""
    counters = RedisCounters("redis://127.0.0.1:1/0", "a", deadline_s=0.2)
    with pytest.raises(CountersUnavailableError):
        await counters.reserve(wanted(), LEASE_S)
    await counters.close()
