"""Counters at the ends of windows and of numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis.asyncio

from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import (
    CONCURRENT,
    COST,
    INPUT,
    OUTPUT,
    REQUESTS,
    TOTAL_TOKENS,
    Claim,
    Grant,
    Refusal,
    Row,
    Used,
    row_of,
)
from tokendance_server.domain.quota.counters import Counters
from tokendance_server.domain.quota.windows import DAY, HOUR, MINUTE, MONTH, TOTAL
from tokendance_server.stores.memory_counters import MemoryCounters
from tokendance_server.stores.redis_counters import RedisCounters

ORGANIZATION = "organizations/org_1"
LEASE_S = 30.0
# A leap day's eve, so that the end of February is not taken for its 28th.
EDGES = {
    HOUR: datetime(2028, 2, 29, 15, tzinfo=UTC),
    DAY: datetime(2028, 2, 29, tzinfo=UTC),
    MONTH: datetime(2028, 3, 1, tzinfo=UTC),
}
MILLISECOND = timedelta(milliseconds=1)


@pytest.fixture
def clock() -> ManualClock:
    """Whenever the test says."""
    return ManualClock(datetime(2028, 2, 28, 12, tzinfo=UTC))


@pytest.fixture(params=["memory", "redis"])
async def counters(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Counters]:
    """What counts."""
    if request.param == "memory":
        yield MemoryCounters(clock)
        return
    url = request.getfixturevalue("redis_server")
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.flushall()
    shared = RedisCounters(url, "node_1", deadline_s=5, time=lambda: clock.now().timestamp())
    yield shared
    await shared.close()


def row(metric: int, limit: int, window: int = TOTAL, *, soft: bool = False, model: str = "") -> Row:
    """One limit of the organization."""
    return row_of(ORGANIZATION, LimitRule(metric, window, limit, soft, model))  # type: ignore[arg-type]


async def ask(counters: Counters, *rows: Row, **wanted: Any) -> Grant | Refusal:
    """Reserve for one call."""
    return await counters.reserve(Claim("req_1", ORGANIZATION, rows, **wanted), LEASE_S)


async def stand(counters: Counters, one: Row) -> tuple[int, int]:
    """What is spent and held of a limit."""
    (found,) = await counters.standings(ORGANIZATION, [one])
    return found.spent, found.held


@pytest.mark.parametrize("window", [HOUR, DAY, MONTH])
async def test_a_millisecond_decides_the_window(counters: Counters, clock: ManualClock, window: int) -> None:
    """Before the end the old one counts, behind it the new one; who began before is charged in the old one."""
    one = row(REQUESTS, 1, window)
    clock.advance((EDGES[window] - MILLISECOND - clock.now()).total_seconds())  # type: ignore[index]
    late = await ask(counters, one)
    assert isinstance(late, Grant)
    assert isinstance(await ask(counters, one), Refusal)
    clock.advance(0.002)
    assert await stand(counters, one) == (0, 0)
    fresh = await ask(counters, one)
    assert isinstance(fresh, Grant)
    await counters.settle(late, Used())
    assert await stand(counters, one) == (0, 1)
    await counters.settle(fresh, Used())
    assert await stand(counters, one) == (1, 0)


async def test_a_burst_on_both_sides_of_a_minute(counters: Counters, clock: ManualClock) -> None:
    """A rate knows no edge: what went out a millisecond before counts for sixty seconds behind it."""
    one = row(REQUESTS, 2, MINUTE)
    clock.advance(59.999)
    for _ in range(2):
        grant = await ask(counters, one)
        assert isinstance(grant, Grant)
        await counters.settle(grant, Used())
    for seconds in (0.002, 30.0, 29.9):
        clock.advance(seconds)
        assert isinstance(await ask(counters, one), Refusal)
    clock.advance(5.1)
    assert isinstance(await ask(counters, one), Grant)


@pytest.mark.parametrize("metric", [REQUESTS, INPUT, OUTPUT, TOTAL_TOKENS, COST, CONCURRENT])
async def test_a_limit_of_nothing_refuses_all_of_its_kind(counters: Counters, metric: int) -> None:
    """And a call that takes nothing of it passes."""
    none = row(metric, 0, 0 if metric == CONCURRENT else TOTAL)
    wanted = {"input_tokens": 1, "output_tokens": 1, "least_output_tokens": 1, "input_cost": 1, "output_price": 1}
    assert isinstance(await ask(counters, none, **wanted), Refusal)
    assert await stand(counters, none) == (0, 0)
    if metric not in (REQUESTS, CONCURRENT):
        assert isinstance(await ask(counters, none), Grant)


async def test_a_limit_beyond_all_numbers(counters: Counters) -> None:
    """2^62 is never reached, and what is left of it is told."""
    one = row(TOTAL_TOKENS, 2**62)
    for _ in range(3):
        grant = await ask(counters, one, input_tokens=10**8, output_tokens=10**8)
        assert isinstance(grant, Grant)
        await counters.settle(grant, Used(10**8, 10**8))
    assert await stand(counters, one) == (6 * 10**8, 0)
    (found,) = await counters.standings(ORGANIZATION, [one])
    assert found.left == 2**62 - 6 * 10**8


@pytest.mark.parametrize("used", [Used(-5, -7, -9), Used(0, 0, 0)])
async def test_less_than_nothing_is_nothing(counters: Counters, used: Used) -> None:
    """Nobody gets quota back by a count below 0."""
    rows = [row(INPUT, 10), row(OUTPUT, 10), row(TOTAL_TOKENS, 10), row(COST, 10)]
    grant = await ask(counters, *rows, input_tokens=3, output_tokens=4, input_cost=2, output_price=0)
    assert isinstance(grant, Grant)
    await counters.settle(grant, used)
    assert [await stand(counters, one) for one in rows] == [(0, 0)] * 4


async def test_more_than_was_held_is_charged(counters: Counters) -> None:
    """A limit may be overshot by what an estimate was wrong, and is then full."""
    one = row(OUTPUT, 100)
    grant = await ask(counters, one, output_tokens=10)
    assert isinstance(grant, Grant)
    await counters.settle(grant, Used(0, 10**8))
    assert await stand(counters, one) == (10**8, 0)
    refused = await ask(counters, one, output_tokens=1, least_output_tokens=1)
    assert isinstance(refused, Refusal)
    assert refused.standing.left == 0


async def test_as_many_limits_as_a_subject_may_have(counters: Counters) -> None:
    """64, of which the last one is short: nothing of the others is held."""
    rows = [row(REQUESTS, 5, DAY, model=f"model-{number}") for number in range(63)] + [row(REQUESTS, 1)]
    first = await ask(counters, *rows)
    assert isinstance(first, Grant)
    refused = await ask(counters, *rows)
    assert isinstance(refused, Refusal)
    assert refused.standing.row == rows[-1]
    assert {(one.spent, one.held) for one in await counters.standings(ORGANIZATION, rows)} == {(0, 1)}
    await counters.settle(first, Used())
    assert {(one.spent, one.held) for one in await counters.standings(ORGANIZATION, rows)} == {(1, 0)}
