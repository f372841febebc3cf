"""One suite for whatever counts: what is held, charged, freed and refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
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
KEY = f"{ORGANIZATION}/keys/key_1"
LEASE_S = 30.0
MOST = 2**63 - 1


@pytest.fixture
def clock() -> ManualClock:
    """A minute before the end of a month."""
    return ManualClock(datetime(2026, 1, 31, 23, 59, 0, tzinfo=UTC))


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


def row(metric: int, limit: int, window: int = TOTAL, *, subject: str = KEY, soft: bool = False) -> Row:
    """One limit."""
    return row_of(subject, LimitRule(metric, window, limit, soft))  # type: ignore[arg-type]


def claim(rows: Sequence[Row], name: str = "req_1", **wanted: Any) -> Claim:
    """What one call asks of limits."""
    return Claim(name, ORGANIZATION, rows, **wanted)


async def held(counters: Counters, one: Claim) -> Grant:
    """Reserve, and expect a grant."""
    got = await counters.reserve(one, LEASE_S)
    assert isinstance(got, Grant)
    return got


async def amounts(counters: Counters, *rows: Row) -> list[tuple[int, int]]:
    """What is spent and held of each limit."""
    return [(one.spent, one.held) for one in await counters.standings(ORGANIZATION, rows)]


async def test_five_hundred_at_once_get_exactly_what_is_left(counters: Counters) -> None:
    """E1: a budget for exactly 100 lets 100 through, and refuses nobody before it is full."""
    requests, tokens = row(REQUESTS, 100), row(TOTAL_TOKENS, 5_000, subject=ORGANIZATION)
    wanted = [claim([requests, tokens], f"req_{n}", input_tokens=20, output_tokens=30) for n in range(500)]
    got = await asyncio.gather(*(counters.reserve(one, LEASE_S) for one in wanted))
    grants = [one for one in got if isinstance(one, Grant)]
    assert len(grants) == 100
    await asyncio.gather(*(counters.settle(one, Used(20, 30)) for one in grants))
    assert await amounts(counters, requests, tokens) == [(100, 0), (5_000, 0)]


async def test_all_limits_or_none_hold(counters: Counters) -> None:
    """E3: whichever limit is short, it is named, and no other one holds or counts anything."""
    wide = [row(metric, 1_000, HOUR) for metric in (REQUESTS, INPUT, OUTPUT)]
    for short in (row(REQUESTS, 0), row(INPUT, 9), row(TOTAL_TOKENS, 19), row(COST, 6), row(CONCURRENT, 0, 0)):
        for place in range(4):
            rows = [*wide[:place], short, *wide[place:]]
            wanted = claim(
                rows, input_tokens=10, output_tokens=10, least_output_tokens=10, input_cost=5, output_price=150_000
            )
            got = await counters.reserve(wanted, LEASE_S)
            assert isinstance(got, Refusal)
            assert got.standing.row == short
            assert await amounts(counters, *rows) == [(0, 0)] * 4


async def test_an_answer_is_lowered_to_what_is_left_down_to_the_least(counters: Counters) -> None:
    """The tightest limit decides, and below the least that is useful the call is refused."""
    output, cost = row(OUTPUT, 50), row(COST, 8)
    wanted = claim([output, cost], output_tokens=100, least_output_tokens=30, input_cost=5, output_price=100_000)
    grant = await held(counters, wanted)
    assert grant.output_tokens == 30
    assert await amounts(counters, output, cost) == [(0, 30), (0, 8)]
    assert isinstance(
        await counters.reserve(claim([output], "req_2", output_tokens=100, least_output_tokens=21), 1), Refusal
    )


async def test_a_settlement_charges_once_and_frees(counters: Counters) -> None:
    """What was used is charged, the rest is free, and repeats change nothing."""
    tokens = row(TOTAL_TOKENS, 100)
    grant = await held(counters, claim([tokens], input_tokens=10, output_tokens=50))
    await counters.settle(grant, Used(10, 20))
    await counters.settle(grant, Used(10, 20))
    await counters.release(grant)
    assert await amounts(counters, tokens) == [(30, 0)]


async def test_a_release_charges_nothing(counters: Counters) -> None:
    """Not of a rate either, and nothing can be charged behind it."""
    requests, slots = row(REQUESTS, 1, MINUTE), row(CONCURRENT, 1, 0)
    grant = await held(counters, claim([requests, slots]))
    assert isinstance(await counters.reserve(claim([requests, slots], "req_2"), LEASE_S), Refusal)
    await counters.release(grant)
    await counters.release(grant)
    await counters.settle(grant, Used(1, 1))
    assert await amounts(counters, requests, slots) == [(0, 0), (0, 0)]
    await held(counters, claim([requests, slots], "req_2"))


async def test_a_dead_holders_lease_ends_and_its_late_settlement_is_charged(
    counters: Counters, clock: ManualClock
) -> None:
    """E2: the hold goes with the lease; what the call used is charged once, whenever it is told."""
    slots, tokens = row(CONCURRENT, 1, 0), row(TOTAL_TOKENS, 100)
    late = await held(counters, claim([slots, tokens], output_tokens=100))
    clock.advance(LEASE_S - 1)
    assert isinstance(await counters.reserve(claim([slots], "req_2"), LEASE_S), Refusal)
    clock.advance(1)
    second = await held(counters, claim([slots, tokens], "req_2", output_tokens=60))
    await counters.settle(late, Used(0, 40))
    await counters.settle(late, Used(0, 40))
    assert await amounts(counters, slots, tokens) == [(0, 1), (40, 60)]
    await counters.settle(second, Used(0, 1))
    assert await amounts(counters, slots, tokens) == [(0, 0), (41, 0)]


async def test_a_stream_of_ten_leases_keeps_its_hold(counters: Counters, clock: ManualClock) -> None:
    """Only who does not renew loses what it holds."""
    slots = row(CONCURRENT, 1, 0)
    grant = await held(counters, claim([slots]))
    for _ in range(30):
        clock.advance(LEASE_S / 3)
        await counters.renew([grant], LEASE_S)
        assert isinstance(await counters.reserve(claim([slots], "req_2"), LEASE_S), Refusal)
    await counters.settle(grant, Used())
    await held(counters, claim([slots], "req_2"))


async def test_a_holder_that_stood_still_holds_again(counters: Counters, clock: ManualClock) -> None:
    """A node that did nothing for a lease asserts what its calls hold."""
    slots = row(CONCURRENT, 1, 0)
    grant = await held(counters, claim([slots]))
    clock.advance(LEASE_S)
    assert await amounts(counters, slots) == [(0, 0)]
    await counters.renew([grant], LEASE_S)
    assert await amounts(counters, slots) == [(0, 1)]


async def test_an_answer_grows_until_a_limit_is_full(counters: Counters) -> None:
    """A refused extension changes nothing, and what is over grows no more."""
    output, cost = row(OUTPUT, 100), row(COST, 1_000)
    wanted = claim([output, cost], output_tokens=40, input_cost=0, output_price=1_000_000)
    grant = await held(counters, wanted)
    assert await counters.extend(grant, 80)
    assert not await counters.extend(grant, 101)
    assert await amounts(counters, output, cost) == [(0, 80), (0, 80)]
    assert await counters.extend(grant, 100)
    await counters.settle(grant, Used(0, 90, 90))
    assert not await counters.extend(grant, 101)
    assert await amounts(counters, output, cost) == [(90, 0), (90, 0)]


async def test_a_minute_never_lets_more_through_in_any_sixty_seconds(counters: Counters, clock: ManualClock) -> None:
    """E4: bursts at every edge, and a caller who always tries: no 60 seconds hold more than the limit."""
    limit, granted = row(REQUESTS, 7, MINUTE), []
    for step in range(1_500):
        clock.advance(0.1 + (step % 7) / 100)
        got = await counters.reserve(claim([limit], f"req_{step}"), LEASE_S)
        if isinstance(got, Grant):
            granted.append(clock.monotonic())
            await counters.settle(got, Used())
        else:
            assert got.standing.wait_s is not None
            assert 0 <= got.standing.wait_s <= 65
    assert len(granted) >= 14
    assert all(later - first > 60 for first, later in zip(granted, granted[7:], strict=False))


@pytest.mark.parametrize("window", [HOUR, DAY, MONTH], ids=["hour", "day", "month"])
async def test_a_calendar_window_starts_anew_and_charges_where_it_held(
    counters: Counters, clock: ManualClock, window: int
) -> None:
    """E4: one request a window; the edge is midnight of a month's end; a late settlement goes to the former window."""
    limit = row(REQUESTS, 1, window)
    clock.advance(59.999)
    before = await held(counters, claim([limit]))
    assert isinstance(await counters.reserve(claim([limit], "req_2"), LEASE_S), Refusal)
    clock.advance(0.002)
    await held(counters, claim([limit], "req_3"))
    await counters.settle(before, Used())
    assert await amounts(counters, limit) == [(0, 1)]


async def test_a_total_never_starts_anew(counters: Counters, clock: ManualClock) -> None:
    """Not after a year either."""
    limit = row(REQUESTS, 1)
    await counters.settle(await held(counters, claim([limit])), Used())
    clock.advance(400 * 86_400)
    assert isinstance(await counters.reserve(claim([limit], "req_2"), LEASE_S), Refusal)


async def test_a_limit_lowered_below_what_is_spent_refuses_and_leaves_nothing(counters: Counters) -> None:
    """What is left is nothing, never less."""
    await counters.settle(await held(counters, claim([row(INPUT, 100)], input_tokens=60)), Used(60))
    got = await counters.reserve(claim([row(INPUT, 10)], "req_2", input_tokens=1), LEASE_S)
    assert isinstance(got, Refusal)
    assert (got.standing.spent, got.standing.left) == (60, 0)


async def test_a_soft_limit_counts_and_refuses_nobody(counters: Counters) -> None:
    """It is there to warn."""
    soft = row(REQUESTS, 1, soft=True)
    for n in range(3):
        await counters.settle(await held(counters, claim([soft], f"req_{n}")), Used())
    assert await amounts(counters, soft) == [(3, 0)]


@pytest.mark.parametrize("used", [Used(0, 0, 0), Used(-5, -5, -5), Used(0, 0, None)], ids=["zero", "negative", "none"])
async def test_nothing_used_is_nothing_charged_and_never_less(counters: Counters, used: Used) -> None:
    """E6: an explicit zero stays zero; a negative number gives nothing back."""
    rows = [row(TOTAL_TOKENS, 100), row(COST, 100)]
    await counters.settle(
        await held(counters, claim(rows, input_tokens=7, input_cost=3, output_price=1)), Used(7, 0, 3)
    )
    await counters.settle(await held(counters, claim(rows, "req_2", input_tokens=9)), used)
    assert await amounts(counters, *rows) == [(7, 0), (3, 0)]


async def test_the_largest_numbers_fill_a_limit_and_overflow_nothing(counters: Counters) -> None:
    """E6: 2^63 - 1 is charged as all there is; the limit stays shut and small ones beside it are not touched."""
    wide, small = row(INPUT, MOST), row(REQUESTS, 10)
    for n in range(2):
        await counters.settle(await held(counters, claim([row(INPUT, MOST, soft=True), small], f"req_{n}")), Used(MOST))
    assert isinstance(await counters.reserve(claim([row(INPUT, 0)], input_tokens=MOST), LEASE_S), Refusal)
    await counters.settle(await held(counters, claim([wide], "req_3", input_tokens=5)), Used(MOST))
    assert isinstance(await counters.reserve(claim([wide], "req_4", input_tokens=MOST), LEASE_S), Refusal)
    assert await amounts(counters, small) == [(2, 0)]


async def test_what_waiting_does_not_cure_is_named_first(counters: Counters) -> None:
    """A caller is not told to try again while a quota of the organization is spent."""
    slots, spent = row(CONCURRENT, 1, 0), row(REQUESTS, 0, subject=ORGANIZATION)
    await held(counters, claim([slots]))
    got = await counters.reserve(claim([slots, spent], "req_2"), LEASE_S)
    assert isinstance(got, Refusal)
    assert got.standing.row == spent


async def test_a_rate_counts_a_growing_answer_when_it_grows(counters: Counters, clock: ManualClock) -> None:
    """A stream that outlives a minute is bound by the rate of now, and charged in the minutes in which it held."""
    rate = row(OUTPUT, 100, MINUTE)
    grant = await held(counters, claim([rate], output_tokens=100))
    assert not await counters.extend(grant, 101)
    clock.advance(65)
    await counters.renew([grant], LEASE_S)
    assert await counters.extend(grant, 150)
    assert not await counters.extend(grant, 201)
    await counters.settle(grant, Used(0, 140))
    assert await amounts(counters, rate) == [(40, 0)]
