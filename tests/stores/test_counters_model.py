"""Counters against a model: whatever is done in whatever order, both tell the same."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import (
    CONCURRENT,
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
from tokendance_server.domain.quota.windows import DAY, MINUTE, TOTAL
from tokendance_server.stores.memory_counters import MemoryCounters
from tokendance_server.stores.redis_counters import RedisCounters

ORGANIZATION = "organizations/org_1"
KEY = f"{ORGANIZATION}/keys/key_1"
LEASE_S = 30
ROWS = [
    row_of(KEY, LimitRule(OUTPUT, TOTAL, 100)),
    row_of(KEY, LimitRule(CONCURRENT, 0, 3)),  # type: ignore[arg-type]
    row_of(KEY, LimitRule(REQUESTS, MINUTE, 4)),
    row_of(ORGANIZATION, LimitRule(TOTAL_TOKENS, DAY, 150)),
    row_of(ORGANIZATION, LimitRule(REQUESTS, TOTAL, 1, soft=True)),
]
Answer = TypeVar("Answer")


@dataclass
class Call:
    """A running call as the model knows it."""

    grant: Grant
    given: int
    answer: int
    windows: list[int]
    ends: float
    holds: bool = True


@dataclass
class Model:
    """What is spent, by limit and window, and the calls that run; time is in whole seconds."""

    now: int
    spent: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    calls: list[Call] = field(default_factory=list)

    def window(self, place: int) -> int:
        """The window of a limit that runs."""
        return {MINUTE: self.now // 5, DAY: self.now // 86_400}.get(ROWS[place].rule.window, 0)

    @staticmethod
    def need(row: Row, given: int, answer: int) -> int:
        """What a call takes of a limit."""
        return {OUTPUT: answer, TOTAL_TOKENS: given + answer}.get(row.rule.metric, 1)

    def stands(self, place: int, window: int) -> tuple[int, int]:
        """What is spent and held of a limit in a window."""
        sliding = ROWS[place].rule.window == MINUTE

        def counts(one: int) -> bool:
            return window - 13 < one <= window if sliding else one == window

        spent = sum(amount for (at, one), amount in self.spent.items() if at == place and counts(one))
        held = sum(
            self.need(ROWS[place], call.given, call.answer)
            for call in self.calls
            if call.holds and counts(call.windows[place])
        )
        return spent, held

    def fits(self, given: int, answer: int) -> bool:
        """Whether a new call has room in every hard limit."""
        return all(
            row.rule.soft
            or sum(self.stands(place, self.window(place))) + self.need(row, given, answer) <= row.rule.limit
            for place, row in enumerate(ROWS)
        )


class Machine(RuleBasedStateMachine):
    """Does the same to both."""

    redis_url = ""

    @initialize()
    def begin(self) -> None:
        """Start half a minute before midnight."""
        self.clock = ManualClock(datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC))
        self.model = Model(int(self.clock.now().timestamp()))
        self.runner = asyncio.Runner()
        self.counters: Counters = MemoryCounters(self.clock)
        if self.redis_url:
            with redis.Redis.from_url(self.redis_url) as client:
                client.flushall()
            self.counters = RedisCounters(
                self.redis_url, "node_1", deadline_s=5, time=lambda: self.clock.now().timestamp()
            )

    def teardown(self) -> None:
        """Let go of the connection."""
        if hasattr(self, "runner"):
            self.run(self.counters.close())
            self.runner.close()

    def run(self, what: Awaitable[Answer]) -> Answer:
        """Wait for an answer."""

        async def wait() -> Answer:
            return await what

        return self.runner.run(wait())

    @rule(given=st.integers(0, 20), answer=st.integers(0, 60), least=st.integers(0, 60))
    def reserve(self, given: int, answer: int, least: int) -> None:
        """The largest answer that fits is granted, or the call refused."""
        least = min(least, answer)
        claim = Claim("req", ORGANIZATION, ROWS, given, answer, least)
        got = self.run(self.counters.reserve(claim, LEASE_S))
        best = next((size for size in range(answer, least - 1, -1) if self.model.fits(given, size)), None)
        if best is None:
            assert isinstance(got, Refusal)
            return
        assert isinstance(got, Grant)
        assert got.output_tokens == best
        windows = [self.model.window(place) for place in range(len(ROWS))]
        self.model.calls.append(Call(got, given, best, windows, self.model.now + LEASE_S))

    @precondition(lambda self: any(call.holds for call in self.model.calls))
    @rule(data=st.data(), more=st.integers(0, 40))
    def extend(self, data: st.DataObject, more: int) -> None:
        """More of an answer is all granted, or none."""
        call = data.draw(st.sampled_from([call for call in self.model.calls if call.holds]))
        room = all(
            sum(self.model.stands(place, call.windows[place])) + more <= ROWS[place].rule.limit for place in (0, 3)
        )
        got = self.run(self.counters.extend(call.grant, call.answer + more))
        assert got == (room or not more)
        if got:
            call.answer += more

    @precondition(lambda self: self.model.calls)
    @rule(data=st.data(), given=st.integers(0, 30), answer=st.integers(0, 90), twice=st.booleans())
    def settle(self, data: st.DataObject, given: int, answer: int, *, twice: bool) -> None:
        """What was used is charged once, however late."""
        call = data.draw(st.sampled_from(self.model.calls))
        for _ in range(1 + twice):
            self.run(self.counters.settle(call.grant, Used(given, answer)))
        self.model.calls.remove(call)
        for place, row in enumerate(ROWS):
            if row.rule.metric != CONCURRENT:
                self.model.spent[place, call.windows[place]] += self.model.need(row, given, answer)

    @precondition(lambda self: self.model.calls)
    @rule(data=st.data(), twice=st.booleans())
    def release(self, data: st.DataObject, *, twice: bool) -> None:
        """Nothing is charged."""
        call = data.draw(st.sampled_from(self.model.calls))
        for _ in range(1 + twice):
            self.run(self.counters.release(call.grant))
        self.model.calls.remove(call)

    @precondition(lambda self: self.model.calls)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """It lasts for another lease, also where the last one ran out."""
        call = data.draw(st.sampled_from(self.model.calls))
        self.run(self.counters.renew([call.grant], LEASE_S))
        call.ends, call.holds = self.model.now + LEASE_S, True

    @rule(seconds=st.integers(1, 40))
    def pass_time(self, seconds: int) -> None:
        """Leases run out, and days end."""
        self.clock.advance(seconds)
        self.model.now += seconds
        for call in self.model.calls:
            call.holds = call.holds and call.ends > self.model.now

    @invariant()
    def agree(self) -> None:
        """Every limit stands as the model says."""
        if hasattr(self, "counters"):
            told = self.run(self.counters.standings(ORGANIZATION, ROWS))
            expected = [self.model.stands(place, self.model.window(place)) for place in range(len(ROWS))]
            assert [(one.spent, one.held) for one in told] == expected


_SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


def test_memory_counts_as_the_model_does() -> None:
    """Reserve, extend, settle, release, renew and wait in any order."""
    run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=30, **_SETTINGS))  # type: ignore[arg-type]


def test_redis_counts_as_the_model_does(redis_server: str) -> None:
    """The same over the script."""

    class Shared(Machine):
        redis_url = redis_server

    run_state_machine_as_test(Shared, settings=settings(max_examples=15, stateful_step_count=25, **_SETTINGS))  # type: ignore[arg-type]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_counts_as_the_model_does_for_long(kind: str, request: pytest.FixtureRequest) -> None:
    """Many more of them."""

    class Long(Machine):
        redis_url = request.getfixturevalue("redis_server") if kind == "redis" else ""

    run_state_machine_as_test(Long, settings=settings(max_examples=400, stateful_step_count=60, **_SETTINGS))  # type: ignore[arg-type]
