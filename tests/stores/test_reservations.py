"""Reservations of internal services on every database, and counted in memory and in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis.asyncio
from tests.server.domain.usage.doubles import MemoryJournal, memory_ledger

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, completion_pb2, errors_pb2, usage_pb2
from tokendance.ids import new_id
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.prices.price import Price, PriceList
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.asks import Ask
from tokendance_server.domain.quota.bills import Bill
from tokendance_server.domain.quota.claims import CONCURRENT, COST, OUTPUT, REQUESTS, TOTAL_TOKENS, row_of
from tokendance_server.domain.quota.counters import Counters, CountersUnavailableError
from tokendance_server.domain.quota.kept_reservations import KeptReservation, ReservationState
from tokendance_server.domain.quota.limits import Limits
from tokendance_server.domain.quota.service_reservations import ServiceReservations
from tokendance_server.domain.quota.windows import DAY, TOTAL
from tokendance_server.domain.usage.entries import FinishedEntry, decode
from tokendance_server.domain.usage.spent import UsageSpent
from tokendance_server.domain.usage.store import UsageFilter
from tokendance_server.stores.memory_counters import MemoryCounters
from tokendance_server.stores.redis_counters import RedisCounters
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.reservations import SqlReservationStore
from tokendance_server.stores.sql.usage import SqlUsageStore

ORGANIZATION_ID = new_id("org")
ORGANIZATION = f"organizations/{ORGANIZATION_ID}"
KEY_ID = new_id("key")
KEY = f"{ORGANIZATION}/keys/{KEY_ID}"
HOLDER = Principal(
    kinds=frozenset({access_pb2.CALLER_KIND_API_KEY}),
    name=KEY,
    organization=ORGANIZATION,
    key_id=KEY_ID,
    owner=f"{ORGANIZATION}/members/{new_id('user')}",
    team=f"{ORGANIZATION}/teams/{new_id('team')}",
    labels={"tier": "gold"},
)
SERVICE = Principal(kinds=frozenset({access_pb2.CALLER_KIND_SERVICE}), name="services/billing")
OTHER = Principal(kinds=frozenset({access_pb2.CALLER_KIND_SERVICE}), name="services/other")
FAR_US = 2**60


class Rules:
    """Limits that a test sets. Satisfies LimitReader."""

    def __init__(self) -> None:
        self.key: list[LimitRule] = []

    async def limits(self, subjects: Sequence[str]) -> Mapping[str, Sequence[LimitRule]]:
        return {KEY: self.key} if KEY in subjects else {}


class Keys:
    """One key. Satisfies KeyHolders."""

    async def holder(self, key_id: str) -> Principal | None:
        return HOLDER if key_id == KEY_ID else None


class NothingWaits:
    """The drain of a node whose usage is in the database at once."""

    async def flush(self) -> None:
        """Everything is there."""


class Node:
    """What one node has of reservations."""

    def __init__(self, database: Database, clock: ManualClock, rules: Rules, redis_url: str | None) -> None:
        self.clock = clock
        self.usage = SqlUsageStore(database)
        self.store = SqlReservationStore(database, self.usage, clock)
        self.journal = MemoryJournal()
        ledger = memory_ledger(self.journal)
        spent = UsageSpent(NothingWaits(), self.usage)  # type: ignore[arg-type]  # all that is asked of a drain
        self.counters: Counters = MemoryCounters(clock, spent, self.store)
        if redis_url is not None:
            self.counters = RedisCounters(
                redis_url, "node_1", spent, kept=self.store, deadline_s=5, time=lambda: clock.now().timestamp()
            )
        self.prices = PriceBook(clock)
        self.problems: list[Exception] = []
        self.reservations = ServiceReservations(
            self.store,
            Limits(rules),
            self.counters,
            keys=Keys(),
            find_model=self._model,
            prices=self.prices,
            ledger=ledger,
            clock=clock,
            report=self.problems.append,
        )

    @staticmethod
    def _model(name: str, holder: Principal) -> str:
        if name != "small":
            raise GatewayError(errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, "There is no such model.", param="model")
        return name

    async def reserve(self, caller: Principal = SERVICE, **wanted: Any) -> KeptReservation:
        ask = Ask(**{"key": KEY, "model": "small", "input_tokens": 10, "output_tokens": 20, **wanted})
        return await self.reservations.reserve(caller, ask, request_id="req_1", surface=errors_pb2.SURFACE_GRPC)

    async def stand(self, metric: int, window: int = TOTAL) -> tuple[int, int]:
        """What is spent and held of the key's limit."""
        row = row_of(KEY, LimitRule(metric, window, 0))  # type: ignore[arg-type]
        (found,) = await self.counters.standings(ORGANIZATION, [row])
        return found.spent, found.held

    async def records(self) -> list[FinishedEntry]:
        return await self.usage.page(UsageFilter(), 0, FAR_US, None, 100)


class House:
    """A database, perhaps a Redis, and nodes on them."""

    def __init__(self, database: Database, redis_url: str | None) -> None:
        self._place = database, redis_url
        self.shared = redis_url is not None
        self.clock = ManualClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
        self.rules = Rules()
        self._nodes: list[Node] = []

    def node(self) -> Node:
        """A node, started now."""
        database, redis_url = self._place
        node = Node(database, self.clock, self.rules, redis_url)
        self._nodes.append(node)
        return node

    async def close(self) -> None:
        for node in self._nodes:
            await node.counters.close()


@pytest.fixture(params=["memory", "redis"])
async def house(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[House]:
    """Each database with each kind of counters."""
    url = None
    if request.param == "redis":
        url = request.getfixturevalue("redis_server")
        async with redis.asyncio.Redis.from_url(url) as client:
            await client.flushall()
    found = House(database, url)
    yield found
    await found.close()


def rule(metric: int, limit: int, window: int = TOTAL, *, soft: bool = False) -> LimitRule:
    """One limit of the key."""
    return LimitRule(metric, window, limit, soft)  # type: ignore[arg-type]


def bill(given: int, answered: int, **more: Any) -> Bill:
    """What a service tells of a call."""
    return Bill(completion_pb2.Usage(input_tokens=given, output_tokens=answered), **more)


async def test_held_then_charged(house: House) -> None:
    """The hold becomes what was used, and one record says so; a repeat changes nothing, whatever it tells."""
    house.rules.key = [rule(REQUESTS, 5), rule(TOTAL_TOKENS, 100), rule(COST, 1000)]
    node = house.node()
    made = await node.reserve(cost_micros=70, labels={"job": "night"})
    assert [await node.stand(one) for one in (REQUESTS, TOTAL_TOKENS, COST)] == [(0, 1), (0, 30), (0, 70)]
    settled = await node.reservations.settle(SERVICE, made.name, bill(9, 8, cost_micros=50))
    assert not settled.before
    again = await node.reservations.settle(SERVICE, made.name, bill(1, 1))
    assert again == (settled.entry, True)
    assert [await node.stand(one) for one in (REQUESTS, TOTAL_TOKENS, COST)] == [(1, 0), (17, 0), (50, 0)]
    (entry,) = await node.records()
    assert entry == settled.entry
    assert (entry.id, entry.request.key_id, entry.request.labels) == (made.record_id, KEY_ID, {"job": "night"})
    assert (entry.outcome, entry.cost_micros, entry.estimated) == (usage_pb2.REQUEST_OUTCOME_SUCCEEDED, 50, False)


async def test_given_back(house: House) -> None:
    """Nothing is charged, a repeat is harmless, and neither a settlement nor a renewal comes behind it."""
    house.rules.key = [rule(REQUESTS, 1)]
    node = house.node()
    made = await node.reserve()
    for _ in range(2):
        assert (await node.reservations.release(SERVICE, made.name)).state is ReservationState.RELEASED
    assert await node.stand(REQUESTS) == (0, 0)
    for act in (
        node.reservations.settle(SERVICE, made.name, bill(1, 1)),
        node.reservations.renew(SERVICE, made.name),
    ):
        with pytest.raises(GatewayError) as caught:
            await act
        assert caught.value.code == "failed_precondition"
    assert not await node.records()


async def test_all_or_nothing(house: House) -> None:
    """A refusal names its limit, holds nothing, and is recorded as every refusal is."""
    house.rules.key = [rule(REQUESTS, 5), rule(OUTPUT, 19)]
    node = house.node()
    with pytest.raises(GatewayError) as caught:
        await node.reserve()
    assert (caught.value.code, caught.value.metadata["metric"]) == ("quota_exceeded", "output_tokens")
    assert await node.stand(REQUESTS) == (0, 0)
    (payload,) = node.journal.finished.values()
    entry = decode(payload)
    assert isinstance(entry, FinishedEntry)
    assert (entry.outcome, entry.limits[0].refused) == (usage_pb2.REQUEST_OUTCOME_REFUSED, True)


async def test_same_request_id_reserves_once(house: House) -> None:
    """Also from two nodes at once; asked for something else, it is a conflict; another service has its own ids."""
    house.rules.key = [rule(REQUESTS, 5)]
    nodes = [house.node(), house.node()] if house.shared else [house.node()] * 2
    made = await asyncio.gather(*(node.reserve(request_key="a") for node in nodes))
    assert made[0] == made[1]
    assert await nodes[0].reserve(request_key="a") == made[0]
    assert await nodes[0].stand(REQUESTS) == (0, 1)
    with pytest.raises(GatewayError) as caught:
        await nodes[0].reserve(request_key="a", output_tokens=21)
    assert caught.value.code == "idempotency_conflict"
    assert (await nodes[0].reserve(OTHER, request_key="a")).id != made[0].id
    assert (await nodes[0].reserve()).id != (await nodes[0].reserve()).id


async def test_only_its_maker_may_touch_it(house: House) -> None:
    """For everybody else it is not there; nor is another organization's key for a service of one."""
    node = house.node()
    made = await node.reserve()
    for act in (
        node.reservations.renew(OTHER, made.name),
        node.reservations.release(OTHER, made.name),
        node.reservations.settle(OTHER, made.name, bill(1, 1)),
        node.reserve(replace(SERVICE, organization=f"organizations/{new_id('org')}")),
        node.reserve(key=f"{ORGANIZATION}/keys/{new_id('key')}"),
        node.reserve(key=f"organizations/{new_id('org')}/keys/{KEY_ID}"),
        node.reservations.release(SERVICE, f"{ORGANIZATION}/reservations/{new_id('rsv')}"),
    ):
        with pytest.raises(GatewayError) as caught:
            await act
        assert caught.value.code == "not_found"


async def test_a_lease_is_prolonged_or_runs_out(house: House) -> None:
    """Renewed it holds for ten times as long; then it frees itself, and is charged all the same when it settles."""
    house.rules.key = [rule(CONCURRENT, 1, 0), rule(REQUESTS, 9, DAY)]
    node = house.node()
    made = await node.reserve(lease_s=5)
    for _ in range(10):
        house.clock.advance(4)
        await node.reservations.renew(SERVICE, made.name, lease_s=5)
        with pytest.raises(GatewayError):
            await node.reserve()
    house.clock.advance(6)
    second = await node.reserve()
    with pytest.raises(GatewayError) as caught:
        await node.reservations.renew(SERVICE, made.name)
    assert (caught.value.code, "ran out" in caught.value.message) == ("failed_precondition", True)
    assert not (await node.reservations.settle(SERVICE, made.name, bill(1, 1))).before
    assert await node.stand(REQUESTS, DAY) == (1, 1)
    await node.reservations.release(SERVICE, second.name)
    assert await node.stand(REQUESTS, DAY) == (1, 0)


async def test_more_is_held_with_a_renewal(house: House) -> None:
    """All of what is asked more, or nothing; less is no change; in the end all of it is freed."""
    house.rules.key = [rule(REQUESTS, 5), rule(OUTPUT, 100), rule(COST, 200)]
    node = house.node()
    made = await node.reserve(cost_micros=50)
    grown = await node.reservations.renew(SERVICE, made.name, output_tokens=60, cost_micros=120)
    assert (grown.held.output_tokens, grown.held.cost_micros) == (60, 120)
    assert [await node.stand(one) for one in (REQUESTS, OUTPUT, COST)] == [(0, 1), (0, 60), (0, 120)]
    with pytest.raises(GatewayError) as caught:
        await node.reservations.renew(SERVICE, made.name, output_tokens=90, cost_micros=201)
    assert (caught.value.code, caught.value.metadata["metric"]) == ("quota_held", "cost_micros")
    assert await node.stand(OUTPUT) == (0, 60)
    same = await node.reservations.renew(SERVICE, made.name, output_tokens=1, cost_micros=1)
    assert (same.held.output_tokens, same.held.cost_micros) == (60, 120)
    await node.reservations.settle(SERVICE, made.name, bill(10, 55, cost_micros=90))
    assert [await node.stand(one) for one in (REQUESTS, OUTPUT, COST)] == [(1, 0), (55, 0), (90, 0)]


async def test_a_node_that_starts_later_knows_it(house: House) -> None:
    """What is held counts against limits there, and it is settled there; usage is charged once."""
    house.rules.key = [rule(TOTAL_TOKENS, 50)]
    made = await house.node().reserve()
    later = house.node()
    assert await later.stand(TOTAL_TOKENS) == (0, 30)
    with pytest.raises(GatewayError) as caught:
        await later.reserve()
    assert caught.value.code == "quota_held"
    await later.reservations.settle(SERVICE, made.name, bill(10, 5))
    assert await later.stand(TOTAL_TOKENS) == (15, 0)
    assert await house.node().stand(TOTAL_TOKENS) == (15, 0)


async def test_a_node_that_starts_later_may_settle_first(house: House) -> None:
    """Before anything else asked it for these limits: then too it counts once, and what was held is free."""
    house.rules.key = [rule(TOTAL_TOKENS, 50)]
    made = await house.node().reserve()
    later = house.node()
    await later.reservations.settle(SERVICE, made.name, bill(10, 5))
    assert await later.stand(TOTAL_TOKENS) == (15, 0)


async def test_settled_at_once_by_many(house: House) -> None:
    """One charges; all get its record."""
    house.rules.key = [rule(TOTAL_TOKENS, 50)]
    node = house.node()
    made = await node.reserve()
    told = await asyncio.gather(
        *(node.reservations.settle(SERVICE, made.name, bill(10, number)) for number in range(1, 6))
    )
    assert sorted(one.before for one in told) == [False, True, True, True, True]
    assert len({one.entry.counts.output_tokens for one in told}) == 1
    assert (await node.stand(TOTAL_TOKENS))[0] == 10 + told[0].entry.counts.output_tokens


async def test_prices_of_then(house: House) -> None:
    """The dearest is held, and what is charged is by the prices as at the reservation."""
    house.rules.key = [rule(COST, 1000)]
    node = house.node()
    old = Price("input", 1_000_000), Price("output", 2_000_000)
    node.prices.put({"small": PriceList("small", old)})
    made = await node.reserve()
    assert made.held.cost_micros == 50
    house.clock.advance(1)
    dearer = (*old, Price("output", 9_000_000, effective_time=house.clock.now()))
    node.prices.put({"small": PriceList("small", dearer)})
    assert (await node.reservations.settle(SERVICE, made.name, bill(10, 10))).entry.cost_micros == 30
    assert await node.stand(COST) == (30, 0)


@pytest.mark.parametrize(
    ("given", "answered", "charged"),
    [(0, 0, (0, 0, False)), (-5, 3, (10, 3, True)), (2**62, 2**62, (10, 20, True))],
)
async def test_absurd_usage(house: House, given: int, answered: int, charged: tuple[int, int, bool]) -> None:
    """An explicit 0 is 0; what cannot be is taken for what was held, and flagged."""
    node = house.node()
    made = await node.reserve()
    entry = (await node.reservations.settle(SERVICE, made.name, bill(given, answered))).entry
    assert (entry.counts.input_tokens, entry.counts.output_tokens, entry.estimated) == charged


async def test_times_that_cannot_be(house: House) -> None:
    """An end before its beginning, or in the future, is refused, and nothing is charged."""
    node = house.node()
    made = await node.reserve()
    now_us = int(house.clock.now().timestamp() * 1e6)
    for start_us, end_us in ((now_us, now_us - 1), (now_us, now_us + 3_600_000_000)):
        with pytest.raises(GatewayError) as caught:
            await node.reservations.settle(SERVICE, made.name, bill(1, 1, start_us=start_us, end_us=end_us))
        assert caught.value.code == "invalid_request"
    assert not await node.records()


async def test_a_model_that_is_not_there(house: House) -> None:
    """Nothing is held for it."""
    node = house.node()
    with pytest.raises(GatewayError) as caught:
        await node.reserve(model="large")
    assert caught.value.code == "model_not_found"


async def test_old_ones_go(house: House) -> None:
    """At most as many as are asked for, and only those whose lease ended before."""
    node = house.node()
    made = [await node.reserve() for _ in range(3)]
    house.clock.advance(120)
    kept = await node.reserve()
    assert await node.store.prune(house.clock.now(), 2) == 2
    assert await node.store.prune(house.clock.now(), 2) == 1
    assert await node.store.get(ORGANIZATION_ID, made[0].id) is None
    assert await node.store.get(ORGANIZATION_ID, kept.id) == kept


async def test_redis_wiped_holds_again(database: Database, redis_server: str) -> None:
    """What services hold is in the database, from which every node tells it again."""
    house = House(database, redis_server)
    house.rules.key = [rule(TOTAL_TOKENS, 50)]
    node = house.node()
    async with redis.asyncio.Redis.from_url(redis_server) as client:
        await client.flushall()
        made = await node.reserve()
        await client.flushall()
    with pytest.raises(GatewayError) as caught:
        await node.reserve()
    assert caught.value.code == "quota_held"
    await node.reservations.settle(SERVICE, made.name, bill(10, 5))
    assert await node.stand(TOTAL_TOKENS) == (15, 0)
    await house.close()


async def test_counters_that_are_gone(database: Database) -> None:
    """A hard limit refuses, soft ones let it pass; a settlement is recorded, and the trouble told."""
    house = House(database, "redis://127.0.0.1:1/0")
    node = house.node()
    house.rules.key = [rule(TOTAL_TOKENS, 50)]
    with pytest.raises(GatewayError) as caught:
        await node.reserve()
    assert caught.value.code == "quota_store_unavailable"
    house.rules.key = [rule(TOTAL_TOKENS, 50, soft=True)]
    other = house.node()
    made = await other.reserve()
    await other.reservations.settle(SERVICE, made.name, bill(1, 1))
    assert len(await other.records()) == 1
    assert isinstance(other.problems[0], CountersUnavailableError)
    await house.close()
