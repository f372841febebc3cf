"""Counters over a wire that is slow, cut, or cut for one node only: never one too many, and no invented refusal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio

from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import REQUESTS, Claim, Grant, Refusal, Used, row_of
from tokendance_server.domain.quota.counters import CountersUnavailableError
from tokendance_server.domain.quota.windows import TOTAL
from tokendance_server.stores.redis_counters import RedisCounters

ORGANIZATION = "organizations/org_1"
LEASE_S = 30.0
BUDGET = row_of(ORGANIZATION, LimitRule(REQUESTS, TOTAL, 20))


class Wire:
    """A way to the server that a test makes slow, or cuts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._behind = parts.hostname, parts.port
        self.delay_s = 0.0
        self.cut = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Begin, and return the URL of this end."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"redis://127.0.0.1:{port}/0"

    def drop(self) -> None:
        """Cut all connections, and let no new one through until told."""
        self.cut = True
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """End all of it."""
        self.drop()
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        behind_reader, behind_writer = await asyncio.open_connection(*self._behind)
        self._writers |= {writer, behind_writer}
        for source, sink in ((reader, behind_writer), (behind_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await asyncio.sleep(self.delay_s / 2)
                sink.write(data)
        except ConnectionError:
            pass
        finally:
            sink.transport.abort()


@pytest.fixture
async def wire(redis_server: str) -> AsyncIterator[Wire]:
    """A way to an empty server."""
    async with redis.asyncio.Redis.from_url(redis_server) as client:
        await client.flushall()
    one = Wire(redis_server)
    yield one
    await one.close()


def wanted(number: int) -> Claim:
    """A call."""
    return Claim(f"req_{number}", ORGANIZATION, [BUDGET])


async def attempt(counters: RedisCounters, number: int) -> str:
    """Make a call, and tell what became of it."""
    try:
        got = await counters.reserve(wanted(number), LEASE_S)
    except CountersUnavailableError:
        return "unavailable"
    if isinstance(got, Refusal):
        return "refused"
    try:
        await counters.settle(got, Used())
    except CountersUnavailableError:
        return "charged later"
    return "charged"


async def stand(url: str, **options: Any) -> tuple[int, int]:
    """What is spent and held, as another node sees it."""
    counters = RedisCounters(url, "node_9", deadline_s=5, **options)
    (found,) = await counters.standings(ORGANIZATION, [BUDGET])
    await counters.close()
    return found.spent, found.held


async def test_a_slow_server_counts_as_ever(wire: Wire, redis_server: str) -> None:
    """At 50 ms: calls take that much longer, and many at once take no longer than one."""
    counters = RedisCounters(await wire.open(), "node_1")
    await attempt(counters, 0)
    wire.delay_s = 0.05
    began = time.monotonic()
    told = await asyncio.gather(*(attempt(counters, number) for number in range(1, 41)))
    assert (told.count("charged"), told.count("refused")) == (19, 21)
    assert time.monotonic() - began < 0.5
    assert await stand(redis_server) == (20, 0)
    await counters.close()


async def test_a_server_that_is_gone_for_a_while(wire: Wire, redis_server: str) -> None:
    """Calls are refused as `unavailable`, soon; what ran is charged once it is back, and nothing is held for nobody."""
    counters = RedisCounters(await wire.open(), "node_1", deadline_s=0.2)
    running = await counters.reserve(wanted(0), LEASE_S)
    assert isinstance(running, Grant)
    wire.drop()
    began = time.monotonic()
    assert {await attempt(counters, number) for number in range(5)} == {"unavailable"}
    assert time.monotonic() - began < 1
    with pytest.raises(CountersUnavailableError):
        await counters.settle(running, Used())
    wire.cut = False
    await counters.renew([], LEASE_S)
    assert await stand(redis_server) == (1, 0)
    assert [await attempt(counters, number) for number in range(20)] == ["charged"] * 19 + ["refused"]
    await counters.close()


async def test_wiped_under_load(wire: Wire, redis_server: str) -> None:
    """Whatever is emptied between: never more run at once than may, for who runs tells again what it holds."""
    counters = RedisCounters(await wire.open(), "node_1", deadline_s=2)
    holders = [await counters.reserve(wanted(number), LEASE_S) for number in range(15)]
    assert all(isinstance(one, Grant) for one in holders)
    async with redis.asyncio.Redis.from_url(redis_server) as client:
        for round_number in range(3):
            asked = [asyncio.create_task(counters.reserve(wanted(number), LEASE_S)) for number in range(30)]
            await asyncio.sleep(0)
            await client.flushall()
            got = await asyncio.gather(*asked, return_exceptions=True)
            grants = [one for one in got if isinstance(one, Grant)]
            assert len(grants) <= 5
            assert sum(isinstance(one, Refusal) for one in got) >= 20, round_number
            for one in grants:
                await counters.release(one)
        assert await stand(redis_server, live=lambda: ["node_1"]) == (0, 15)
    await counters.close()


async def test_one_node_is_cut_off(wire: Wire, redis_server: str) -> None:
    """It alone refuses; the other counts on, with what the first one holds until its lease ends."""
    cut_off = RedisCounters(await wire.open(), "node_1", live=lambda: ["node_1", "node_2"], deadline_s=0.2)
    other = RedisCounters(redis_server, "node_2", live=lambda: ["node_1", "node_2"], deadline_s=2)
    # Each hears of the other's first call that it must tell what it holds.
    held, told_first = await asyncio.gather(cut_off.reserve(wanted(0), LEASE_S), attempt(other, 1))
    assert isinstance(held, Grant)
    assert told_first == "charged"
    wire.drop()
    assert await attempt(cut_off, 2) == "unavailable"
    told = [await attempt(other, number) for number in range(3, 25)]
    assert (told.count("charged"), told.count("unavailable")) == (18, 0)
    wire.cut = False
    await cut_off.settle(held, Used())
    assert (await other.standings(ORGANIZATION, [BUDGET]))[0].spent == 20
    await asyncio.gather(*(one.close() for one in (cut_off, other)))
