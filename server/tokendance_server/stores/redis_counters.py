"""Counters that many nodes share, in Redis or Valkey. Usage is the truth; what is here can be made again from it.

Holds are leases of the server's own time. Where the server is another, or its data is gone, hard limits grant nothing
until each live node told again what its calls hold, or one lease has passed.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tokendance_server.domain.quota.admission import gravest, room
from tokendance_server.domain.quota.claims import CONCURRENT, Claim, Grant, Hold, Refusal, Row, Standing, Used, charges
from tokendance_server.domain.quota.counters import CountersUnavailableError, KeptHolds, SpentSource
from tokendance_server.domain.quota.windows import MINUTE, window_id, window_start
from tokendance_server.stores.redis_batches import ASSERT, EXTEND, LOAD, MOST, RENEW, RESERVE, SETTLE, STANDINGS
from tokendance_server.stores.redis_calls import Calls, prefix_of

_DEADLINE_S = 0.5
_LEASE_S = 30.0
# How often, and how long apart, a call asks again while nodes tell what they hold.
_TRIES = 10
_PAUSE_S = 0.03
_MOST_OWED = 10_000


class RedisCounters:
    """Satisfies Counters. `live` tells the ids of the nodes that serve now, this one included.

    Without `source`, nothing was spent before; without `kept`, nothing outlives the nodes that hold it. `time`
    replaces the server's clock in tests.
    """

    def __init__(
        self,
        url: str,
        node_id: str,
        source: SpentSource | None = None,
        *,
        kept: KeptHolds | None = None,
        live: Callable[[], Sequence[str]] | None = None,
        deadline_s: float = _DEADLINE_S,
        lease_s: float = _LEASE_S,
        time: Callable[[], float] | None = None,
    ) -> None:
        self._source = source
        self._kept = kept
        self._calls = Calls(
            url,
            node_id,
            live or (lambda: [node_id]),
            self._assert_soon,
            deadline_s=deadline_s,
            lease_s=lease_s,
            time=time,
        )
        self._lease_s = lease_s
        self._leases = (f"{secrets.token_hex(6)}.{number}" for number in itertools.count())
        self._held: dict[str, dict[str, Grant]] = {}
        # What a lost connection left undone, or perhaps not: each is told again, and done once.
        self._owed: dict[str, tuple[str, list[Hold]]] = {}
        self._asserting: dict[str, asyncio.Task[None]] = {}

    async def reserve(self, claim: Claim, lease_s: float) -> Grant | Refusal:
        lease = claim.lease or next(self._leases)
        try:
            now, answer = await self._known(
                claim.organization, claim.rows, lambda: self._ask_reserve(claim, lease, lease_s)
            )
        except (CountersUnavailableError, asyncio.CancelledError):
            self._owe(lease, claim.organization, [])
            raise
        standings = [_standing(row, now, told) for row, told in zip(claim.rows, answer[1], strict=True)]
        if answer[0] == "granted":
            output = int(answer[2])
            holds = [Hold(one.row, one.window, claim.need(one.row.rule.metric, output)) for one in standings]
            grant = Grant(claim, output, holds, standings, lease=lease)
            if not claim.lease:
                self._held.setdefault(claim.organization, {})[lease] = grant
            return grant
        _, refusing = room(claim, [_bounded(one) for one in standings])
        standing = gravest(claim, refusing or standings)
        return Refusal(standing, claim.need(standing.row.rule.metric, claim.least_output_tokens), standings)

    async def extend(self, grant: Grant, output_tokens: int) -> bool:
        if grant.over:
            return False
        claim = grant.claim
        more = [
            hold._replace(amount=need)
            for hold in grant.first_holds()
            if (
                need := claim.need(hold.row.rule.metric, output_tokens)
                - claim.need(hold.row.rule.metric, grant.output_tokens)
            )
            > 0
        ]
        if not more:
            grant.output_tokens = max(grant.output_tokens, output_tokens)
            return True
        now, answer = await self._extend(grant, more)
        if answer[0] == "lost":
            await self.renew([grant], self._lease_s)
            now, answer = await self._extend(grant, more)
        if answer[0] != "granted":
            return False
        for hold in more:
            slides = hold.row.rule.window == MINUTE
            grant.hold(hold._replace(window=window_id(MINUTE, now)) if slides else hold)
        grant.output_tokens = output_tokens
        return True

    async def settle(self, grant: Grant, used: Used) -> None:
        await self._end(grant, charges(grant.holds, used))

    async def release(self, grant: Grant) -> None:
        await self._end(grant, [])

    async def renew(self, grants: Sequence[Grant], lease_s: float) -> None:
        waiting = []
        for grant in grants:
            if not grant.over:
                batch = self._calls.batch(grant.claim.organization)
                waiting.append(batch.add([RENEW, grant.lease, lease_s, batch.parts(grant.holds)]))
        owed, self._owed = self._owed, {}
        told = list(owed.items())
        for lease, (organization, charged) in told:
            batch = self._calls.batch(organization)
            waiting.append(batch.add([SETTLE, lease, batch.parts(charged)]))
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        lost = [one for one in answers if isinstance(one, BaseException)]
        for (lease, (organization, charged)), answer in zip(told, answers[len(answers) - len(told) :], strict=True):
            if isinstance(answer, BaseException):
                self._owe(lease, organization, charged)
        if lost:
            raise lost[0]

    async def standings(self, organization: str, rows: Sequence[Row]) -> list[Standing]:
        if not rows:
            return []

        def ask() -> asyncio.Future[tuple[float, list[Any]]]:
            batch = self._calls.batch(organization)
            return batch.add([STANDINGS, [batch.place(row) for row in rows]])

        now, answer = await self._known(organization, rows, ask)
        return [_standing(row, now, told) for row, told in zip(rows, answer[1], strict=True)]

    def latency_s(self) -> float | None:
        """Return how long a call of the script takes: the median of the last minute, None without any."""
        return self._calls.latency_s()

    async def close(self) -> None:
        """End the connections; what is held goes with its lease."""
        for task in self._asserting.values():
            task.cancel()
        if self._asserting:
            await asyncio.wait(self._asserting.values())
        await self._calls.close()

    def _ask_reserve(self, claim: Claim, lease: str, lease_s: float) -> asyncio.Future[tuple[float, list[Any]]]:
        batch = self._calls.batch(claim.organization)
        cost = -1 if claim.input_cost is None or claim.output_price is None else min(claim.input_cost, MOST)
        return batch.add(
            [
                RESERVE,
                lease,
                lease_s,
                min(claim.input_tokens, MOST),
                min(claim.output_tokens, MOST),
                min(claim.least_output_tokens, MOST),
                cost,
                -1 if claim.output_price is None else min(claim.output_price, MOST),
                [batch.place(row) for row in claim.rows],
            ]
        )

    async def _known(
        self, organization: str, rows: Sequence[Row], ask: Callable[[], asyncio.Future[tuple[float, list[Any]]]]
    ) -> tuple[float, list[Any]]:
        """Return the answer once it is known what was spent before, and what running calls hold."""
        for _ in range(_TRIES):
            now, answer = await ask()
            if answer[0] == "unknown":
                await self._load(organization, rows, now)
            elif answer[0] == "closed":
                self._assert_soon(prefix_of(organization))
                await asyncio.sleep(_PAUSE_S)
            else:
                return now, answer
        raise CountersUnavailableError("nodes have not told yet what their calls hold")

    async def _load(self, organization: str, rows: Sequence[Row], now: float) -> None:
        rows = [row for row in rows if row.rule.metric != CONCURRENT]
        wanted = [
            (
                row,
                now - 60
                if row.rule.window == MINUTE
                else window_start(row.rule.window, window_id(row.rule.window, now)),
            )
            for row in rows
        ]
        spent = [0] * len(rows) if self._source is None else await self._source.spent(wanted)
        batch = self._calls.batch(organization)
        told = [(batch.place(row), min(amount, MOST)) for row, amount in zip(rows, spent, strict=True)]
        await batch.add([LOAD, told])

    async def _extend(self, grant: Grant, more: Sequence[Hold]) -> tuple[float, list[Any]]:
        batch = self._calls.batch(grant.claim.organization)
        return await batch.add([EXTEND, grant.lease, batch.parts(more)])

    async def _end(self, grant: Grant, charged: list[Hold]) -> None:
        if grant.over:
            return
        grant.over = True
        organization = grant.claim.organization
        running = self._held.get(organization, {})
        running.pop(grant.lease, None)
        if not running:
            self._held.pop(organization, None)
        batch = self._calls.batch(organization)
        try:
            await batch.add([SETTLE, grant.lease, batch.parts(charged)])
        except (CountersUnavailableError, asyncio.CancelledError):
            self._owe(grant.lease, organization, charged)
            raise

    def _owe(self, lease: str, organization: str, charged: list[Hold]) -> None:
        self._owed[lease] = organization, charged
        if len(self._owed) > _MOST_OWED:
            # Holds go with their leases, and usage has what was used.
            del self._owed[next(iter(self._owed))]

    def _assert_soon(self, prefix: str) -> None:
        if prefix not in self._asserting:
            task = asyncio.create_task(self._assert(prefix[prefix.index("{") + 1 : -1]))
            self._asserting[prefix] = task
            task.add_done_callback(lambda _: self._asserting.pop(prefix, None))

    async def _assert(self, organization: str) -> None:
        """Tell all that this node's calls of an organization hold. What is owed there is in usage, told first.

        Whoever opens a limit reads what was spent from the database, and must find there what this journal has.
        """
        self._owed = {lease: owed for lease, owed in self._owed.items() if owed[0] != organization}
        try:
            if self._source is not None:
                await self._source.tell()
            kept = [] if self._kept is None else await self._kept.held(organization)
        except CountersUnavailableError:
            # Until these are told too, hard limits stay closed, or until one lease has passed.
            return
        batch = self._calls.batch(organization)
        waiting = []
        for grant, lease_s in kept:
            waiting.append(batch.add([RENEW, grant.lease, lease_s, batch.parts(grant.holds)]))
        for lease, grant in self._held.get(organization, {}).items():
            waiting.append(batch.add([RENEW, lease, self._lease_s, batch.parts(grant.holds)]))
        waiting.append(batch.add([ASSERT]))
        # Where it is gone again, the next call that finds it closed asserts anew.
        await asyncio.gather(*waiting, return_exceptions=True)


def _standing(row: Row, now: float, told: Sequence[float]) -> Standing:
    spent, held, wait_s = told
    return Standing(row, window_id(row.rule.window, now), int(spent), int(held), wait_s if wait_s >= 0 else None)


def _bounded(standing: Standing) -> Standing:
    """Return a standing as the script saw it: with no limit above what it counts."""
    row = standing.row
    if row.rule.limit <= MOST:
        return standing
    return standing._replace(row=row._replace(rule=replace(row.rule, limit=MOST)))
