"""Counters of one node, in its memory. What was spent before it started is read once, from where usage is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.quota.claims import CONCURRENT, Claim, Grant, Hold, Refusal, Row, Standing, Used
from tokendance_server.domain.quota.counters import SpentSource
from tokendance_server.domain.quota.windows import (
    BUCKETS,
    MINUTE,
    bucket_leaves,
    window_id,
    window_start,
)

_SPENT, _HELD = 0, 1
_Cell = list[int]


class _Lease(NamedTuple):
    grant: Grant
    until: float


class MemoryCounters:
    """Satisfies Counters. Without `source`, nothing was spent before."""

    def __init__(self, clock: Clock, source: SpentSource | None = None) -> None:
        self._clock = clock
        self._source = source
        self._seen: dict[str, float] = {}
        # The window that runs and the one before it, of each counter.
        self._running: dict[str, int] = {}
        self._former: dict[str, int] = {}
        self._windows: dict[tuple[str, int], _Cell] = {}
        self._minutes: dict[str, dict[int, _Cell]] = {}
        self._leases: dict[str, _Lease] = {}
        self._loading: dict[tuple[str, int], asyncio.Future[None]] = {}

    async def reserve(self, claim: Claim, lease_s: float) -> Grant | Refusal:
        now = self._clock.now().timestamp()
        # Only the first calls after a start wait here.
        while unknown := self._unknown(claim.rows, now):
            await self._load(unknown)
        return self._reserve(claim, lease_s, now)

    async def extend(self, grant: Grant, output_tokens: int) -> bool:
        if grant.over:
            return False
        claim = grant.claim
        more = []
        for hold in grant.holds:
            rule = hold.row.rule
            need = claim.need(rule.metric, output_tokens) - claim.need(rule.metric, grant.output_tokens)
            spent, held = self._of(hold.row, hold.window)
            if need > 0 and not rule.soft and spent + held + need > rule.limit:
                return False
            more.append(need)
        for place, need in enumerate(more):
            if need:
                hold = grant.holds[place]
                self._cell(hold.row, hold.window)[_HELD] += need
                grant.holds[place] = hold._replace(amount=hold.amount + need)
        grant.output_tokens = output_tokens
        return True

    async def settle(self, grant: Grant, used: Used) -> None:
        if grant.over:
            return
        self._free(grant)
        for hold in grant.holds:
            amount = used.of(hold.row.rule.metric)
            if amount > 0:
                self._cell(hold.row, hold.window)[_SPENT] += amount

    async def release(self, grant: Grant) -> None:
        if not grant.over:
            self._free(grant)

    async def renew(self, grants: Sequence[Grant], lease_s: float) -> None:
        until = self._clock.monotonic() + lease_s
        for grant in grants:
            if not grant.over and grant.claim.id in self._leases:
                self._leases[grant.claim.id] = _Lease(grant, until)
        self._expire()

    async def standings(self, organization: str, rows: Sequence[Row]) -> list[Standing]:
        now = self._clock.now().timestamp()
        while unknown := self._unknown(rows, now):
            await self._load(unknown)
        self._expire()
        return [self._standing(row, window_id(row.rule.window, now), now) for row in rows]

    def _reserve(self, claim: Claim, lease_s: float, now: float) -> Grant | Refusal:
        output = claim.output_tokens
        standings = [self._standing(row, window_id(row.rule.window, now), now) for row in claim.rows]
        for standing in standings:
            rule = standing.row.rule
            if rule.soft:
                continue
            left = rule.limit - standing.spent - standing.held
            if claim.need(rule.metric, output) <= left:
                continue
            fits = claim.affordable(rule.metric, left)
            if fits is None or fits < claim.least_output_tokens:
                asked = claim.need(rule.metric, claim.least_output_tokens)
                if self._expire():
                    return self._reserve(claim, lease_s, now)
                return Refusal(self._with_wait(standing, asked, now), asked, standings)
            output = fits
        holds = []
        for standing in standings:
            amount = claim.need(standing.row.rule.metric, output)
            self._cell(standing.row, standing.window)[_HELD] += amount
            holds.append(Hold(standing.row, standing.window, amount))
        grant = Grant(claim, output, holds, standings)
        self._leases[claim.id] = _Lease(grant, self._clock.monotonic() + lease_s)
        return grant

    def _free(self, grant: Grant) -> None:
        grant.over = True
        if self._leases.pop(grant.claim.id, None) is not None:
            for hold in grant.holds:
                self._cell(hold.row, hold.window)[_HELD] -= hold.amount

    def _expire(self) -> bool:
        """Free what nobody renewed; tell whether there was any. A late call is charged all the same when it settles."""
        now = self._clock.monotonic()
        late = [lease.grant for lease in self._leases.values() if lease.until <= now]
        for grant in late:
            del self._leases[grant.claim.id]
            for hold in grant.holds:
                self._cell(hold.row, hold.window)[_HELD] -= hold.amount
        return bool(late)

    def _cell(self, row: Row, window: int) -> _Cell:
        if _slides(row):
            buckets = self._minutes.setdefault(row.counter, {})
            if window not in buckets:
                for old in [one for one in buckets if one <= window - BUCKETS]:
                    del buckets[old]
                buckets[window] = [0, 0]
            return buckets[window]
        name = row.counter, window
        if name not in self._windows:
            self._windows[name] = [0, 0]
            former = self._running.get(row.counter)
            if former is not None and former < window:
                # Calls that began in it may still settle; the one before that is over for good.
                self._windows.pop((row.counter, self._former.get(row.counter, -1)), None)
                self._former[row.counter] = former
            self._running[row.counter] = window
        return self._windows[name]

    def _of(self, row: Row, window: int) -> tuple[int, int]:
        if _slides(row):
            spent = held = 0
            for bucket, cell in self._minutes.get(row.counter, {}).items():
                if bucket > window - BUCKETS:
                    spent += cell[_SPENT]
                    held += cell[_HELD]
            return spent, held
        known = self._windows.get((row.counter, window))
        return (0, 0) if known is None else (known[_SPENT], known[_HELD])

    def _standing(self, row: Row, window: int, now: float) -> Standing:
        return Standing(row, window, *self._of(row, window))

    def _with_wait(self, standing: Standing, asked: int, now: float) -> Standing:
        """Tell how long to wait until enough of a minute has passed; a limit below what is asked is never enough."""
        row = standing.row
        if not _slides(row) or asked > row.rule.limit:
            return standing
        over = standing.spent + standing.held + asked - row.rule.limit
        for bucket in sorted(self._minutes.get(row.counter, {})):
            if bucket > standing.window - BUCKETS:
                over -= sum(self._minutes[row.counter][bucket])
                if over <= 0:
                    return standing._replace(wait_s=max(bucket_leaves(bucket) - now, 0.0))
        return standing

    def _unknown(self, rows: Sequence[Row], now: float) -> list[tuple[Row, int]]:
        """Return the counters whose windows began before they were first looked at, and which were not read yet."""
        if self._source is None:
            return []
        found = []
        for row in rows:
            rule = row.rule
            if rule.metric == CONCURRENT:
                continue
            identity = window_id(rule.window, now)
            seen = self._seen.get(row.counter)
            if seen is not None:
                if _slides(row) or (row.counter, identity) in self._windows:
                    continue
                start = window_start(rule.window, identity)
                if start is not None and start >= seen:
                    continue
            found.append((row, identity))
        return found

    async def _load(self, unknown: Sequence[tuple[Row, int]]) -> None:
        assert self._source is not None
        mine = {
            (row.counter, identity): row for row, identity in unknown if (row.counter, identity) not in self._loading
        }
        waiting = [self._loading[row.counter, one] for row, one in unknown if (row.counter, one) in self._loading]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loading.update(dict.fromkeys(mine, done))
        try:
            if mine:
                now = self._clock.now().timestamp()
                asked = [
                    (row, now - 60 if _slides(row) else window_start(row.rule.window, identity))
                    for (_, identity), row in mine.items()
                ]
                for ((_, identity), row), spent in zip(mine.items(), await self._source.spent(asked), strict=True):
                    self._cell(row, identity)[_SPENT] += spent
                    self._seen.setdefault(row.counter, now)
        finally:
            for name in mine:
                del self._loading[name]
            if not done.done():
                done.set_result(None)
        if waiting:
            await asyncio.wait(waiting)


def _slides(row: Row) -> bool:
    return row.rule.window == MINUTE and row.rule.metric != CONCURRENT
