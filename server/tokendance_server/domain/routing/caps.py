"""Caps of routes and credentials: how much may run there at once, and come and be used within a minute.

They are counted as the limits of callers are, in this node or in what all nodes share. Where nobody can tell how they
stand, calls pass: an upstream that is asked too much says so itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tokendance.gateway.v1 import quota_pb2
from tokendance.ids import new_id
from tokendance_server.domain.catalogue.models import Caps
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import (
    CONCURRENT,
    REQUESTS,
    TOTAL_TOKENS,
    Claim,
    Grant,
    Refusal,
    Row,
    Standing,
    Used,
    row_of,
)
from tokendance_server.domain.quota.counters import Counters, CountersUnavailableError

_ORGANIZATION = "routes"
_LEASE_S = 30.0
_MINUTE = quota_pb2.LIMIT_WINDOW_MINUTE


def rows_of(subject: str, caps: Caps) -> tuple[Row, ...]:
    """Return what counts against caps; `subject` tells what they are of."""
    wanted = (
        (CONCURRENT, quota_pb2.LIMIT_WINDOW_UNSPECIFIED, caps.max_concurrent_requests),
        (REQUESTS, _MINUTE, caps.max_requests_per_minute),
        (TOTAL_TOKENS, _MINUTE, caps.max_tokens_per_minute),
    )
    return tuple(row_of(subject, LimitRule(metric, window, cap)) for metric, window, cap in wanted if cap is not None)


class CapCounters:
    """Takes from caps, and gives back. `report` gets what goes wrong with counting."""

    def __init__(self, counters: Counters, report: Callable[[Exception], None], *, lease_s: float = _LEASE_S) -> None:
        self._counters = counters
        self._report = report
        self._lease_s = lease_s
        self._running: dict[str, Grant] = {}
        self._task: asyncio.Task[None] | None = None

    async def take(self, rows: Sequence[Row], input_tokens: int, output_tokens: int) -> Grant | float | None:
        """Hold a call of so many tokens: returns its grant, or for how many seconds there is no room for it.

        None where nobody can tell how the caps stand.
        """
        claim = Claim(new_id("cap"), _ORGANIZATION, rows, input_tokens, output_tokens, 0)
        try:
            got = await self._counters.reserve(claim, self._lease_s)
        except CountersUnavailableError as exc:
            self._report(exc)
            return None
        if isinstance(got, Refusal):
            return _wait_s(got.standing)
        self._running[claim.id] = got
        return got

    async def end(self, grant: Grant, used: Used | None) -> None:
        """Count what a call used, or, for None, that it was not made. A repeat changes nothing."""
        if self._running.pop(grant.claim.id, None) is None:
            return
        try:
            if used is None:
                await self._counters.release(grant)
            else:
                await self._counters.settle(grant, used)
        except CountersUnavailableError as exc:
            self._report(exc)

    async def standings(self, rows: Sequence[Row]) -> Sequence[Standing]:
        """Return how caps stand; nothing where nobody can tell."""
        try:
            return await self._counters.standings(_ORGANIZATION, rows)
        except CountersUnavailableError as exc:
            self._report(exc)
            return ()

    def start(self) -> None:
        """Keep what running calls hold, until `close`."""
        self._task = asyncio.create_task(self._renew(), name="route-caps")

    async def close(self) -> None:
        """Keep nothing any more; harmless where it was never started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        await self._counters.close()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if not self._running:
                continue
            try:
                await self._counters.renew(list(self._running.values()), self._lease_s)
            except CountersUnavailableError as exc:
                self._report(exc)


def _wait_s(standing: Standing) -> float:
    # Nobody knows when a running call will end.
    return 1.0 if standing.wait_s is None else max(standing.wait_s, 0.001)
