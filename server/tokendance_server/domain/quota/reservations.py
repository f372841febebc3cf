"""Reservations: what a call may use is held before it begins, grows with it, and is charged or freed at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.quota.claims import Claim, Grant, Refusal, Row, Standing, Used
from tokendance_server.domain.quota.counters import Counters, CountersUnavailableError
from tokendance_server.domain.quota.limits import Limits, Subjects
from tokendance_server.domain.quota.refusals import refusal_error, unavailable
from tokendance_server.domain.quota.thresholds import Thresholds

LEASE_S = 30.0
"""How long a hold outlives the process that made it."""


class Reservation:
    """What one call holds. `output_tokens` is how much of an answer is granted by now."""

    __slots__ = ("_grant", "_owner", "output_tokens", "standings")

    def __init__(self, owner: Reservations, grant: Grant | None, output_tokens: int) -> None:
        self._owner = owner
        self._grant = grant
        self.output_tokens = output_tokens
        self.standings: list[Standing] = [] if grant is None else grant.standings
        """How each limit stood before this call, hard and soft."""

    @property
    def bounds_answer(self) -> bool:
        """True where a hard limit counts the tokens of the answer, or what they cost."""
        grant = self._grant
        return grant is not None and any(
            not hold.row.rule.soft and grant.claim.affordable(hold.row.rule.metric, 0) is not None
            for hold in grant.holds
        )

    async def extend(self, output_tokens: int) -> bool:
        """Hold so many tokens of an answer in all; False where a limit has no room for them, or nobody can tell."""
        if self._grant is not None and not await self._owner.extend(self._grant, output_tokens):
            return False
        self.output_tokens = output_tokens
        return True

    async def settle(self, used: Used) -> None:
        """Charge what the call used, and free what it held. A repeat changes nothing."""
        if self._grant is not None:
            await self._owner.settle(self._grant, used)

    async def release(self) -> None:
        """Free what the call held, and charge nothing. A repeat changes nothing."""
        if self._grant is not None:
            await self._owner.settle(self._grant, None)


class Reservations:
    """Makes reservations over counters, and keeps those of running calls alive.

    `report` gets what goes wrong with counters while a call runs: what could not be charged there is in the ledger.
    `thresholds` sees how limits stand whenever a call begins and ends.
    """

    def __init__(
        self,
        limits: Limits,
        counters: Counters,
        clock: Clock,
        report: Callable[[Exception], None],
        *,
        lease_s: float = LEASE_S,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._report = report
        self._lease_s = lease_s
        self._thresholds = thresholds
        self._running: dict[str, Grant] = {}
        self._task: asyncio.Task[None] | None = None

    async def reserve(
        self,
        subjects: Subjects,
        model: str,
        *,
        identity: str,
        input_tokens: int,
        output_tokens: int,
        least_output_tokens: int = 0,
        input_cost: int | None = None,
        output_price: int | None = None,
    ) -> Reservation:
        """Hold a request, its prompt and so many tokens of an answer, or fewer, down to `least_output_tokens`.

        Raises rate_limit_exceeded, quota_exceeded, budget_exceeded, quota_held and concurrency_limit_exceeded with the
        limit in their metadata, and quota_store_unavailable where a hard limit applies and nobody can tell how it
        stands. A refusal charges nothing.
        """
        rows = self._limits.cached(subjects, model)
        if rows is None:
            rows = await self.plan(subjects, model)
        if not rows:
            return Reservation(self, None, output_tokens)
        claim = Claim(
            identity,
            subjects.organization,
            rows,
            input_tokens,
            output_tokens,
            min(least_output_tokens, output_tokens),
            input_cost,
            output_price,
        )
        grant = await self._try(claim)
        if grant is None:
            return Reservation(self, None, output_tokens)
        self._running[identity] = grant
        if self._thresholds is not None:
            self._thresholds.held(grant.standings)
        return Reservation(self, grant, grant.output_tokens)

    async def extend(self, grant: Grant, output_tokens: int) -> bool:
        """Hold more of an answer for a running call."""
        try:
            return await self._counters.extend(grant, output_tokens)
        except CountersUnavailableError as exc:
            self._report(exc)
            return all(hold.row.rule.soft for hold in grant.holds)

    async def settle(self, grant: Grant, used: Used | None) -> None:
        """Charge what a call used, or nothing for None, and free what it held."""
        self._running.pop(grant.claim.id, None)
        try:
            if used is None:
                await self._counters.release(grant)
            else:
                late = grant.over
                await self._counters.settle(grant, used)
                if self._thresholds is not None and not late:
                    self._thresholds.settled(grant.standings, used)
        except CountersUnavailableError as exc:
            # Its lease frees the hold; what was used is in the ledger, from which counters are filled again.
            self._report(exc)

    async def plan(self, subjects: Subjects, model: str) -> tuple[Row, ...]:
        """Return every limit that a call meets. Raises quota_store_unavailable."""
        try:
            return await self._limits.plan(subjects, model)
        except CountersUnavailableError as exc:
            raise unavailable() from exc

    async def standings(self, organization: str, rows: list[Row]) -> list[Standing]:
        """Return how limits stand. Raises quota_store_unavailable."""
        try:
            return await self._counters.standings(organization, rows)
        except CountersUnavailableError as exc:
            raise unavailable() from exc

    def start(self) -> None:
        """Keep the holds of running calls from now on, until `close`."""
        self._task = asyncio.create_task(self._renew(), name="reservations")

    async def close(self) -> None:
        """Keep nothing any more; harmless where it was never started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        await self._counters.close()

    async def _try(self, claim: Claim) -> Grant | None:
        try:
            got = await self._counters.reserve(claim, self._lease_s)
        except CountersUnavailableError as exc:
            if any(not row.rule.soft for row in claim.rows):
                raise unavailable() from exc
            self._report(exc)
            return None
        if isinstance(got, Refusal):
            raise refusal_error(got, self._clock.now().timestamp())
        return got

    async def _renew(self) -> None:
        # One task for all calls: a timer for each would cost more than its reservation.
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self._counters.renew(list(self._running.values()), self._lease_s)
            except CountersUnavailableError as exc:
                self._report(exc)
