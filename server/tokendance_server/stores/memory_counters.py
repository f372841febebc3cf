"""Counters of one node, in its memory. What was spent before it started is read once, from where usage is kept."""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tokendance.gateway.v1 import quota_pb2
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.quota.admission import gravest, room
from tokendance_server.domain.quota.claims import (
    CONCURRENT,
    COST,
    Claim,
    Grant,
    Hold,
    Refusal,
    Row,
    Standing,
    Used,
    charges,
)
from tokendance_server.domain.quota.counters import KeptHolds, SpentSource
from tokendance_server.domain.quota.windows import BUCKET_S, BUCKETS, MINUTE, bucket_leaves, window_id, window_start
from tokendance_server.stores.memory_books import Book, slides

_WINDOWS = tuple(quota_pb2.LimitWindow.values())
_MOST_PLANS = 20_000
# Naming the fields costs as much as all the rest of a tuple.
_to_standing = functools.partial(tuple.__new__, Standing)
_to_hold = functools.partial(tuple.__new__, Hold)


class _Entry(NamedTuple):
    """One limit of a plan, with its book, and what of it is looked at for each call."""

    row: Row
    book: Book
    metric: int
    window: int
    limit: float


class _Plan:
    """The limits that a call meets. `known` is set once it is known what was spent of each before."""

    __slots__ = ("entries", "known", "rows")

    def __init__(self, rows: Sequence[Row], entries: list[_Entry]) -> None:
        self.rows = rows
        self.entries = entries
        self.known = False


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
        self._books: dict[str, Book] = {}
        # Whoever asks keeps the rows of a call, and comes with the same ones again.
        self._plans: dict[int, _Plan] = {}
        # The windows that run, by their kind, until the bucket of a minute ends.
        self._running: list[int] = []
        self._running_until = -math.inf
        # By name: the id of a call may come twice.
        self._leases: dict[str, _Lease] = {}
        self._names = map(str, itertools.count())
        self._first_end = math.inf
        self._loading: dict[str, asyncio.Future[None]] = {}

    async def reserve(self, claim: Claim, lease_s: float) -> Grant | Refusal:
        plan = self._plan(claim.rows)
        if not plan.known or (self._kept is not None and claim.organization not in self._held_again):
            # Only the first calls after a start wait here.
            await self._known(claim.organization, claim.rows)
            plan.known = True
        now = self._clock.now().timestamp()
        running = self._windows(now)
        # What the call needs of each metric, in the order of their numbers.
        given, output, cost = claim.input_tokens, claim.output_tokens, 0
        if claim.input_cost is not None:
            cost = claim.need(COST, output)
        needs = (0, 1, given, output, given + output, cost, 1)
        standings: list[Standing] = []
        holds: list[Hold] = []
        fits = True
        for row, book, metric, kind, limit in plan.entries:
            window = running[kind]
            if book.window != window:
                book.turn(window)
            spent, held, need = book.spent, book.held, needs[metric]
            if spent + held + need > limit:
                fits = False
            standings.append(_to_standing((row, window, spent, held, None)))
            holds.append(_to_hold((row, window, need)))
        if not fits:
            if self._expire():
                standings = self._standings(claim.rows, now)
            output, refusing = room(claim, standings)
            if refusing:
                standing = gravest(claim, refusing)
                asked = claim.need(standing.row.rule.metric, claim.least_output_tokens)
                return Refusal(self._with_wait(standing, asked, now), asked, standings)
            holds = [Hold(one.row, one.window, claim.need(one.row.rule.metric, output)) for one in standings]
        grant = Grant(claim, output, holds, standings, False, claim.lease or next(self._names))
        for (_, book, _, _, _), (_, window, amount) in zip(plan.entries, holds, strict=True):
            cell = book.cells.get(window)
            if cell is None:
                book.add(window, 0, amount)
            else:
                # What `add` does where the window is the one that runs, as here.
                cell[1] += amount
                book.held += amount
        self._keep(grant, lease_s)
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
                self._book(hold.row).add(hold.window, 0, hold.amount)
            grant.hold(hold)
        grant.output_tokens = output_tokens
        return True

    async def settle(self, grant: Grant, used: Used) -> None:
        if grant.over:
            return
        claim = grant.claim
        if len(grant.holds) == len(claim.rows) and not claim.lease:
            grant.over = True
            kept = self._leases.pop(grant.lease, None) is not None
            given, output, cost = max(used.input_tokens, 0), max(used.output_tokens, 0), max(used.cost_micros or 0, 0)
            charged = (0, 1, given, output, max(used.input_tokens + used.output_tokens, 0), cost, 0)
            for (_, book, metric, _, _), (_, window, amount) in zip(
                self._plan(claim.rows).entries, grant.holds, strict=True
            ):
                freed = amount if kept else 0
                cell = book.cells.get(window)
                if cell is None or book.window != window:
                    book.add(window, charged[metric], -freed)
                else:
                    cell[0] += charged[metric]
                    cell[1] -= freed
                    book.spent += charged[metric]
                    book.held -= freed
            return
        self._free(grant)
        # A grant of an earlier process may come before anybody asked for its limits: usage will tell of it too.
        unknown = {row.counter for row in self._unknown(claim.rows)} if claim.lease else ()
        for hold in charges(grant.holds, used):
            if hold.row.counter not in unknown:
                self._book(hold.row).add(hold.window, hold.amount, 0)

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

    def _book(self, row: Row) -> Book:
        book = self._books.get(row.counter)
        if book is None:
            book = self._books[row.counter] = Book(row)
        return book

    def _plan(self, rows: Sequence[Row]) -> _Plan:
        plan = self._plans.get(id(rows))
        # The id of what is gone may be another's by now.
        if plan is None or plan.rows is not rows:
            entries = [
                _Entry(
                    row,
                    self._book(row),
                    row.rule.metric,
                    0 if row.rule.metric == CONCURRENT else row.rule.window,
                    math.inf if row.rule.soft else row.rule.limit,
                )
                for row in rows
            ]
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[id(rows)] = _Plan(rows, entries)
        return plan

    def _windows(self, now: float) -> list[int]:
        if not self._running_until - BUCKET_S <= now < self._running_until:
            self._running = [window_id(kind, now) for kind in _WINDOWS]
            self._running_until = (now // BUCKET_S + 1) * BUCKET_S
        return self._running

    def _standings(self, rows: Sequence[Row], now: float) -> list[Standing]:
        return [self._standing(row, window_id(row.rule.window, now)) for row in rows]

    def _standing(self, row: Row, window: int) -> Standing:
        return Standing(row, window, *self._book(row).of(window))

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
            window = window_id(MINUTE, now) if slides(row) else hold.window
            standing = self._standing(row, window)
            if not row.rule.soft and standing.spent + standing.held + need > row.rule.limit:
                return None
            more.append(Hold(row, window, need))
        return more

    def _hold(self, grant: Grant, lease_s: float) -> None:
        for hold in grant.holds:
            self._book(hold.row).add(hold.window, 0, hold.amount)
        self._keep(grant, lease_s)

    def _keep(self, grant: Grant, lease_s: float) -> None:
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
            self._book(hold.row).add(hold.window, 0, -hold.amount)

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

    def _with_wait(self, standing: Standing, asked: int, now: float) -> Standing:
        """Tell how long to wait until enough of a minute has passed; a limit below what is asked is never enough."""
        row = standing.row
        if not slides(row) or asked > row.rule.limit:
            return standing
        over = standing.spent + standing.held + asked - row.rule.limit
        cells = self._book(row).cells
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
                    (row, now - 60 if slides(row) else window_start(row.rule.window, window))
                    for row, window in zip(mine, windows, strict=True)
                ]
                # All counters are told at once: one of them alone would be believed while the others are read.
                spent = await self._source.spent(asked)
                for row, window, amount in zip(mine, windows, spent, strict=True):
                    self._seen[row.counter] = now
                    self._book(row).add(window, amount, 0)
        finally:
            for row in mine:
                del self._loading[row.counter]
            done.set_result(None)
        if waiting:
            await asyncio.wait(waiting)
