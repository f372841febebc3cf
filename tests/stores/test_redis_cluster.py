"""Counters on a cluster: whichever server has the organization, and whichever takes over, counts exactly."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence

import pytest
import redis
from tests.servers import running_redis_cluster

from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import REQUESTS, Claim, Grant, Row, Used, row_of
from tokendance_server.domain.quota.counters import CountersUnavailableError
from tokendance_server.domain.quota.windows import TOTAL
from tokendance_server.stores.redis_counters import RedisCounters

pytestmark = pytest.mark.long
LEASE_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[str]]:
    """The URLs of six servers."""
    with running_redis_cluster() as urls:
        yield urls


def budget(organization: str) -> Row:
    """A hundred calls of an organization."""
    return row_of(organization, LimitRule(REQUESTS, TOTAL, 100))


_NODE = """
import asyncio, sys
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import Claim, Grant, Used, row_of
from tokendance_server.stores.redis_counters import RedisCounters

async def run(url, node, count):
    counters = RedisCounters(url, node, live=list, deadline_s=10)
    told = []
    for number in range(4):
        organization = f"organizations/org_{count}_{number}"
        row = row_of(organization, LimitRule(1, 5, 100))
        claims = [Claim(f"{node}_{n}", organization, [row]) for n in range(int(count))]
        got = await asyncio.gather(*(counters.reserve(one, 30.0) for one in claims))
        grants = [one for one in got if isinstance(one, Grant)]
        await asyncio.gather(*(counters.settle(one, Used()) for one in grants))
        told.append(len(grants))
    await counters.close()
    print(*told)

asyncio.run(run(*sys.argv[1:]))
"""


@pytest.mark.parametrize(("processes", "each"), [(1, 500), (3, 170)])
async def test_a_hundred_are_a_hundred(cluster: list[str], processes: int, each: int) -> None:
    """E1: 500 at once for each of four organizations, wherever it lies and whichever server is asked first."""
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _NODE, cluster[n], f"node_{n}", str(each), stdout=asyncio.subprocess.PIPE
        )
        for n in range(processes)
    ]
    told = await asyncio.gather(*(one.communicate() for one in running))
    counts = [[int(number) for number in output.split()] for output, _ in told]
    assert [sum(one) for one in zip(*counts, strict=True)] == [100] * 4
    counters = RedisCounters(cluster[1], "node_9", deadline_s=5)
    for number in range(4):
        organization = f"organizations/org_{each}_{number}"
        (found,) = await counters.standings(organization, [budget(organization)])
        assert (found.spent, found.held) == (100, 0)
    await counters.close()


async def test_organizations_lie_on_all_servers(cluster: list[str]) -> None:
    """Each whole on one, and the many spread over all."""
    counters = RedisCounters(cluster[0], "node_1", deadline_s=5)
    for number in range(40):
        organization = f"organizations/spread_{number}"
        grant = await counters.reserve(Claim("req", organization, [budget(organization)]), LEASE_S)
        assert isinstance(grant, Grant)
        await counters.settle(grant, Used())
    await counters.close()
    for url in cluster[:3]:
        with redis.Redis.from_url(url) as client:
            assert client.dbsize() > 0


class Spent:
    """Usage that tells of 40 calls. Satisfies SpentSource."""

    async def spent(self, rows: Sequence[tuple[Row, float | None]]) -> Sequence[int]:
        """40 of each."""
        return [40] * len(rows)

    async def tell(self) -> None:
        """There is nothing to tell."""


async def test_a_replica_that_takes_over_counts_on(cluster: list[str]) -> None:
    """It is another server, whatever it was told: usage tells again what was spent, and this node what it holds.

    Comes last: one of the servers is gone behind it.
    """
    with redis.Redis.from_url(cluster[0]) as client:
        names = (f"organizations/over_{number}" for number in range(100))
        # The first server has the first third of the slots.
        organization = next(one for one in names if int(client.execute_command("CLUSTER KEYSLOT", one)) < 5461)
        counters = RedisCounters(cluster[1], "node_1", Spent(), deadline_s=1)
        row = budget(organization)
        grant = await counters.reserve(Claim("req_1", organization, [row]), LEASE_S)
        assert isinstance(grant, Grant)
        assert client.dbsize() > 0
        client.shutdown(nosave=True)
    until = time.monotonic() + 15
    second = None
    while second is None:
        try:
            second = await counters.reserve(Claim("req_2", organization, [row]), LEASE_S)
        except CountersUnavailableError:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)
    assert isinstance(second, Grant)
    assert [(one.spent, one.held) for one in second.standings] == [(40, 1)]
    await counters.settle(grant, Used())
    await counters.settle(second, Used())
    (found,) = await counters.standings(organization, [row])
    assert (found.spent, found.held) == (42, 0)
    await counters.close()
