"""Counters of one node, in its memory. What was spent before it started is read once, from where usage is kept."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.quota.admission import gravest, room
from tokendance_server.domain.quota.claims import CONCURRENT, Claim, Grant, Hold, Refusal, Row, Standing, Used, charges
from tokendance_server.domain.quota.counters import KeptHolds, SpentSource
from tokendance_server.domain.quota.windows import (
    BUCKETS,
    MINUTE,
    bucket_leaves,
    window_id,
    window_start,
)

_SPENT, _HELD = 0, 1
# Calls that began in the window before may still settle; what comes later is told by usage alone.
_WINDOWS_KEPT = 2
_Cell = list[int]


class _Lease(NamedTuple):
    grant: Grant
    until: float


class MemoryCounters:
    """Satisfies Counters. Without `source`, nothing was spent before; without `kept`, nothing outlives this process."""

    def __init__(self, clock: Clock, source: SpentSource | None = None, kept: KeptHolds | None = None) -> None:
        self._clock = clock
        self._source = source
        self._kept = kept
        # The organizations of which `kept` was not asked have their holds missing.
        self._held_again: set[str] = set()
        self._seen: dict[str, float] = {}
        # Of each counter its windows, or of a minute its buckets.
        self._cells: dict[str, dict[int, _Cell]] = {}
        # By name: the id of a call may come twice.
        self._leases: dict[str, _Lease] = {}
        self._names = map(str, itertools.count())
        self._first_end = math.inf
        self._loading: dict[str, asyncio.Future[None]] = {}

    async def reserve(self, claim: Claim, lease_s: float) -> Grant | Refusal:
        now = self._clock.now().timestamp()
        # Only the first calls after a start wait here.
        if self._source is not None or self._kept is not None:
            await self._known(claim.organization, claim.rows)
            now = self._clock.now().timestamp()
        standings = self._standings(claim.rows, now)
        output, refusing = room(claim, standings)
        if refusing and self._expire():
            standings = self._standings(claim.rows, now)
            output, refusing = room(claim, standings)
        if refusing:
            standing = gravest(claim, refusing)
            asked = claim.need(standing.row.rule.metric, claim.least_output_tokens)
            return Refusal(self._with_wait(standing, asked, now), asked, standings)
        holds = [Hold(one.row, one.window, claim.need(one.row.rule.metric, output)) for one in standings]
        grant = Grant(claim, output, holds, standings, lease=claim.lease or next(self._names))
        self._hold(grant, lease_s)
        return grant

    async def extend(self, grant: Grant, output_tokens: int) -> bool:
        if grant.over:
            return False
        if output_tokens <= grant.output_tokens:
            return True
        more = self._more(grant, output_tokens)
        if more is None and self._expire(but=grant):
            more = self._more(grant, output_tokens)
        if more is None:
            return False
        kept = grant.lease in self._leases
        for hold in more:
            if kept:
                self._add(hold, _HELD, hold.amount)
            grant.hold(hold)
        grant.output_tokens = output_tokens
        return True

    async def settle(self, grant: Grant, used: Used) -> None:
        if grant.over:
            return
        self._free(grant)
        # A grant of an earlier process may come before anybody asked for its limits: usage will tell of it too.
        unknown = {row.counter for row in self._unknown(grant.claim.rows)} if grant.claim.lease else ()
        for hold in charges(grant.holds, used):
            if hold.row.counter not in unknown:
                self._add(hold, _SPENT, hold.amount)

    async def release(self, grant: Grant) -> None:
        if not grant.over:
            self._free(grant)

    async def renew(self, grants: Sequence[Grant], lease_s: float) -> None:
        until = self._clock.monotonic() + lease_s
        for grant in grants:
            if grant.over:
                continue
            known = self._leases.get(grant.lease)
            if known is not None:
                self._leases[grant.lease] = _Lease(known.grant, until)
            else:
                # This node stood still for longer than a lease: the call runs all the same.
                self._hold(grant, lease_s)
        self._expire()

    async def standings(self, organization: str, rows: Sequence[Row]) -> list[Standing]:
        await self._known(organization, rows)
        self._expire()
        now = self._clock.now().timestamp()
        return [self._with_wait(one, 1, now) for one in self._standings(rows, now)]

    async def close(self) -> None:
        """Nothing is to be let go."""

    def _standings(self, rows: Sequence[Row], now: float) -> list[Standing]:
        return [self._standing(row, window_id(row.rule.window, now)) for row in rows]

    def _standing(self, row: Row, window: int) -> Standing:
        cells = self._cells.get(row.counter)
        if cells is None:
            return Standing(row, window, 0, 0)
        if not _slides(row):
            cell = cells.get(window)
            return Standing(row, window, 0, 0) if cell is None else Standing(row, window, cell[_SPENT], cell[_HELD])
        spent = held = 0
        for bucket, cell in cells.items():
            if bucket > window - BUCKETS:
                spent += cell[_SPENT]
                held += cell[_HELD]
        return Standing(row, window, spent, held)

    def _more(self, grant: Grant, output_tokens: int) -> list[Hold] | None:
        """Return what a longer answer takes besides, or None where a limit leaves no room for it."""
        claim = grant.claim
        now = self._clock.now().timestamp()
        more = []
        for hold in grant.first_holds():
            row = hold.row
            need = claim.need(row.rule.metric, output_tokens) - claim.need(row.rule.metric, grant.output_tokens)
            if need <= 0:
                continue
            # A rate is that of now; a calendar window is that in which the call began.
            window = window_id(MINUTE, now) if _slides(row) else hold.window
            standing = self._standing(row, window)
            if not row.rule.soft and standing.spent + standing.held + need > row.rule.limit:
                return None
            more.append(Hold(row, window, need))
        return more

    def _hold(self, grant: Grant, lease_s: float) -> None:
        for hold in grant.holds:
            self._add(hold, _HELD, hold.amount)
        until = self._clock.monotonic() + lease_s
        self._leases[grant.lease] = _Lease(grant, until)
        self._first_end = min(self._first_end, until)

    def _free(self, grant: Grant) -> None:
        grant.over = True
        kept = self._leases.pop(grant.lease, None)
        if kept is not None:
            self._give_back(kept.grant)

    def _give_back(self, grant: Grant) -> None:
        for hold in grant.holds:
            self._add(hold, _HELD, -hold.amount)

    def _expire(self, but: Grant | None = None) -> bool:
        """Free what nobody renewed; tell whether there was any. A late call is charged all the same when it settles."""
        now = self._clock.monotonic()
        if now < self._first_end:
            return False
        late = [one.grant for one in self._leases.values() if one.until <= now and one.grant is not but]
        for grant in late:
            del self._leases[grant.lease]
            self._give_back(grant)
        self._first_end = min((one.until for one in self._leases.values()), default=math.inf)
        return bool(late)

    def _add(self, hold: Hold, place: int, amount: int) -> None:
        if not amount:
            return
        row, window = hold.row, hold.window
        cells = self._cells.get(row.counter)
        if cells is None:
            cells = self._cells[row.counter] = {}
        cell = cells.get(window)
        if cell is None:
            kept = BUCKETS if _slides(row) else _WINDOWS_KEPT
            newest = max(cells, default=window)
            if window <= newest - kept:
                return
            for old in [one for one in cells if one <= window - kept]:
                del cells[old]
            cell = cells[window] = [0, 0]
        cell[place] += amount

    def _with_wait(self, standing: Standing, asked: int, now: float) -> Standing:
        """Tell how long to wait until enough of a minute has passed; a limit below what is asked is never enough."""
        row = standing.row
        if not _slides(row) or asked > row.rule.limit:
            return standing
        over = standing.spent + standing.held + asked - row.rule.limit
        cells = self._cells.get(row.counter, {})
        for bucket in sorted(cells):
            if over <= 0:
                break
            if bucket > standing.window - BUCKETS:
                over -= sum(cells[bucket])
                if over <= 0:
                    return standing._replace(wait_s=max(bucket_leaves(bucket) - now, 0.0))
        return standing

    def _unknown(self, rows: Sequence[Row]) -> list[Row]:
        """Return the counters whose running windows began before they were looked at, and which were not read yet."""
        if self._source is None:
            return []
        return [row for row in rows if row.counter not in self._seen and row.rule.metric != CONCURRENT]

    async def _known(self, organization: str, rows: Sequence[Row]) -> None:
        """Return once it is known what was spent before, and what is held from before."""
        while unknown := self._unknown(rows):
            await self._load(unknown)
        if self._kept is not None and organization not in self._held_again:
            kept = await self._kept.held(organization)
            if organization not in self._held_again:
                self._held_again.add(organization)
                for grant, lease_s in kept:
                    if grant.lease not in self._leases:
                        self._hold(grant, lease_s)

    async def _load(self, unknown: Iterable[Row]) -> None:
        assert self._source is not None
        waiting = [self._loading[row.counter] for row in unknown if row.counter in self._loading]
        mine = [row for row in unknown if row.counter not in self._loading]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loading.update(dict.fromkeys((row.counter for row in mine), done))
        try:
            if mine:
                now = self._clock.now().timestamp()
                windows = [window_id(row.rule.window, now) for row in mine]
                asked = [
                    (row, now - 60 if _slides(row) else window_start(row.rule.window, window))
                    for row, window in zip(mine, windows, strict=True)
                ]
                # All counters are told at once: one of them alone would be believed while the others are read.
                spent = await self._source.spent(asked)
                for row, window, amount in zip(mine, windows, spent, strict=True):
                    self._seen[row.counter] = now
                    self._add(Hold(row, window, amount), _SPENT, amount)
        finally:
            for row in mine:
                del self._loading[row.counter]
            done.set_result(None)
        if waiting:
            await asyncio.wait(waiting)


def _slides(row: Row) -> bool:
    return row.rule.window == MINUTE and row.rule.metric != CONCURRENT
