"""Quota for calls that internal services make by another way: held, prolonged, given back or charged to a key.

A reservation lies in the database, so that any node knows it, and a restart does not lose it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import msgspec

from tokendance.gateway.v1 import usage_pb2
from tokendance.ids import new_id
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.names import child_of, id_of, organization_name, reservation_of
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.asks import (
    LEASE_S,
    Ask,
    changing,
    failed,
    nothing_here,
    repeated,
    require_held,
    require_scope,
)
from tokendance_server.domain.quota.bills import Bill, entry_of, to_micros
from tokendance_server.domain.quota.claims import COST, OUTPUT, TOTAL_TOKENS, Claim, Grant, Refusal, Row, Used
from tokendance_server.domain.quota.counters import Counters, CountersUnavailableError
from tokendance_server.domain.quota.kept_reservations import (
    Held,
    KeptReservation,
    Part,
    ReservationState,
    ReservationStore,
)
from tokendance_server.domain.quota.limits import Limits, Subjects
from tokendance_server.domain.quota.refusals import refusal_error, unavailable
from tokendance_server.domain.usage.entries import Consulted, FinishedEntry, OpenRequest
from tokendance_server.domain.usage.ledger import Ledger

_KEPT = timedelta(days=7)
_PRUNE_EVERY_S = 3600.0
_PRUNED = 1000
_MOST_PARTS = 256
_TRIES = 8
_GROWING = (OUTPUT, TOTAL_TOKENS, COST)


class KeyHolders(Protocol):
    """Tells on whose account a call is."""

    async def holder(self, key_id: str) -> Principal | None:
        """Return the caller that a key stands for, or None where there is none. Raises why it does not work."""


class Settled(NamedTuple):
    """The record of a reserved call, and whether it was there before."""

    entry: FinishedEntry
    before: bool


class _Size(NamedTuple):
    """What is held: tokens, and micro-USD or None."""

    input_tokens: int
    output_tokens: int
    cost: int | None


class ServiceReservations:
    """Holds and charges for services. Every method raises not_found for what is not the caller's own.

    `find_model` returns the public id of a model that a key may call, or raises why not. `report` gets what goes wrong
    with counters behind a reservation that ended: what it used is in the database.
    """

    def __init__(
        self,
        store: ReservationStore,
        limits: Limits,
        counters: Counters,
        *,
        keys: KeyHolders,
        find_model: Callable[[str, Principal], str],
        prices: PriceBook,
        ledger: Ledger,
        clock: Clock,
        report: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._limits = limits
        self._counters = counters
        self._keys = keys
        self._find_model = find_model
        self._prices = prices
        self._ledger = ledger
        self._clock = clock
        self._report = report
        self._prune_at = clock.monotonic() + _PRUNE_EVERY_S

    def now(self) -> datetime:
        """Return the time by which reservations stand as they do."""
        return self._clock.now()

    async def reserve(self, caller: Principal, ask: Ask, *, request_id: str, surface: int) -> KeptReservation:
        """Hold what is asked of every limit of the key's, or nothing.

        A repeat with the same request key returns what was made before. Raises the refusals of limits, model_not_found,
        what says that the key does not work, idempotency_conflict, quota_store_unavailable and ledger_unavailable.
        """
        organization_id, key_id = child_of(ask.key, "keys", "key")
        require_scope(caller, organization_id, "key")
        if ask.request_key:
            before = await self._store.made_by(caller.name, ask.request_key)
            if before is not None:
                return repeated(before, ask)
        holder = await self._keys.holder(key_id)
        if holder is None or holder.organization != organization_name(organization_id):
            raise nothing_here("key", "key")
        model = self._find_model(ask.model, holder)
        now = self._clock.now()
        request = OpenRequest(
            request_id=request_id,
            start_us=to_micros(now),
            organization_id=organization_id,
            key_id=key_id,
            member_id=id_of(holder.owner),
            team_id=id_of(holder.team),
            requested_model=ask.model,
            served_model=model,
            surface=surface,
            labels=dict(ask.labels),
            key_labels=dict(holder.labels),
            credential_kind=usage_pb2.CREDENTIAL_KIND_API_KEY,
        )
        record = self._ledger.open(request)
        cost = ask.cost_micros
        tariff = self._prices.tariff(model)
        if cost is None and tariff is not None:
            cost = tariff.dearest(ask.input_tokens, ask.output_tokens)
        rows = await self._plan(Subjects(holder.name, holder.owner, holder.team, holder.organization), model)
        made = KeptReservation(
            organization_id,
            new_id("rsv"),
            record.id,
            caller.name,
            ask.request_key or None,
            ask.fingerprint(),
            now,
            now + timedelta(seconds=ask.lease_s),
            Held(
                request_id=request_id,
                key_id=key_id,
                member_id=request.member_id,
                team_id=request.team_id,
                model=model,
                surface=surface,
                input_tokens=ask.input_tokens,
                output_tokens=ask.output_tokens,
                cost_micros=cost,
                labels=request.labels,
                key_labels=request.key_labels,
                limits=tuple(_stored(row) for row in rows),
            ),
        )
        got = await self._hold(made, rows, _Size(ask.input_tokens, ask.output_tokens, cost), ask.lease_s)
        if isinstance(got, Refusal):
            error = refusal_error(got, now.timestamp())
            await record.finish(
                usage_pb2.REQUEST_OUTCOME_REFUSED,
                reason=error.reason,
                message=error.message,
                limits=[_consulted(got)],
            )
            raise error
        made = _with(made, got, rows)
        try:
            added = await self._store.add(made)
        except BaseException:
            await self._free([got] if got else [])
            raise
        if not added:
            await self._free([got] if got else [])
            first = await self._store.made_by(caller.name, ask.request_key)
            if first is None:
                raise changing("key")
            return repeated(first, ask)
        await self._prune()
        return made

    async def renew(
        self,
        caller: Principal,
        name: str,
        *,
        lease_s: float = LEASE_S,
        output_tokens: int | None = None,
        cost_micros: int | None = None,
    ) -> KeptReservation:
        """Let a reservation last for another lease from now on, and hold more where more is asked; never less.

        Raises failed_precondition where it holds nothing any more, and the refusals of limits: then it is as it was.
        """
        for _ in range(_TRIES):
            before = await self._own(caller, name)
            now = self._clock.now()
            require_held(before, now)
            held = before.held
            tokens = max(held.output_tokens, output_tokens or 0)
            cost = self._grown_cost(before, tokens, cost_micros)
            more_cost = None if cost is None else cost - (held.cost_micros or 0)
            after = replace(
                before,
                expire_time=now + timedelta(seconds=lease_s),
                version=before.version + 1,
                held=msgspec.structs.replace(held, output_tokens=tokens, cost_micros=cost),
            )
            more: Grant | None = None
            if tokens > held.output_tokens or more_cost:
                if len(held.parts) >= _MOST_PARTS:
                    raise failed("This reservation was enlarged as often as it can be; settle it, and reserve anew.")
                rows = [row for grant in before.grants()[:1] for row in grant.claim.rows if row.rule.metric in _GROWING]
                got = await self._hold(before, rows, _Size(0, tokens - held.output_tokens, more_cost), lease_s)
                if isinstance(got, Refusal):
                    raise refusal_error(got, now.timestamp())
                more = got
                after = _with(after, more, [row for grant in before.grants()[:1] for row in grant.claim.rows])
            try:
                kept = await self._store.replace(after)
            except BaseException:
                await self._free([more] if more else [])
                raise
            if kept:
                await self._keep(after, lease_s)
                return after
            # Somebody changed it at the same moment.
            await self._free([more] if more else [])
        raise changing("name")

    async def release(self, caller: Principal, name: str) -> KeptReservation:
        """Give back what a reservation holds and charge nothing. Raises failed_precondition where it was charged."""
        for _ in range(_TRIES):
            before = await self._own(caller, name)
            if before.state is ReservationState.RELEASED:
                return before
            if before.state is ReservationState.SETTLED:
                raise failed("This reservation was settled: its call is charged, and holds nothing to give back.")
            after = replace(before, state=ReservationState.RELEASED, version=before.version + 1)
            if await self._store.replace(after):
                await self._free(before.grants())
                return after
        raise changing("name")

    async def settle(self, caller: Principal, name: str, bill: Bill) -> Settled:
        """Charge what a reserved call used and give back the rest; also behind the end of its lease.

        A repeat changes nothing, whatever it tells. Raises failed_precondition where it was given back.
        """
        for _ in range(_TRIES):
            before = await self._own(caller, name)
            if before.held.charged is not None:
                return Settled(before.held.charged, True)
            if before.state is ReservationState.RELEASED:
                raise failed("This reservation was given back, so it cannot be charged; reserve anew for another call.")
            tariff = self._prices.list_of(before.held.model).tariff(before.create_time)
            entry = entry_of(before, bill, tariff, self._ledger.node, to_micros(self._clock.now()))
            after = replace(
                before,
                state=ReservationState.SETTLED,
                version=before.version + 1,
                held=msgspec.structs.replace(before.held, charged=entry),
            )
            if await self._store.replace(after, entry):
                await self._charge(before, entry)
                return Settled(entry, False)
        raise changing("name")

    def _grown_cost(self, reservation: KeptReservation, output_tokens: int, asked: int | None) -> int | None:
        held = reservation.held
        if asked is None and output_tokens > held.output_tokens:
            tariff = self._prices.list_of(held.model).tariff(reservation.create_time)
            asked = None if tariff is None else tariff.dearest(held.input_tokens, output_tokens)
        if asked is None:
            return held.cost_micros
        return max(asked, held.cost_micros or 0)

    async def _own(self, caller: Principal, name: str) -> KeptReservation:
        organization_id, reservation_id = reservation_of(name, "name")
        found = await self._store.get(organization_id, reservation_id)
        if found is None or found.maker != caller.name:
            raise nothing_here("name", "reservation")
        return found

    async def _plan(self, subjects: Subjects, model: str) -> Sequence[Row]:
        try:
            return await self._limits.plan(subjects, model)
        except CountersUnavailableError as exc:
            raise unavailable() from exc

    async def _hold(
        self,
        reservation: KeptReservation,
        rows: Sequence[Row],
        size: _Size,
        lease_s: float,
    ) -> Grant | Refusal | None:
        """Hold tokens and money of limits; None where there are none, or none that is hard and nobody can tell."""
        if not rows:
            return None
        claim = Claim(
            reservation.id,
            organization_name(reservation.organization_id),
            rows,
            size.input_tokens,
            size.output_tokens,
            size.output_tokens,
            size.cost,
            None if size.cost is None else 0,
            lease=new_id("lease"),
        )
        try:
            return await self._counters.reserve(claim, lease_s)
        except CountersUnavailableError as exc:
            if any(not row.rule.soft for row in rows):
                raise unavailable() from exc
            self._report(exc)
            return None

    async def _keep(self, reservation: KeptReservation, lease_s: float) -> None:
        try:
            await self._counters.renew(reservation.grants(), lease_s)
        except CountersUnavailableError as exc:
            # Counters that come back ask the database what is held.
            self._report(exc)

    async def _charge(self, reservation: KeptReservation, entry: FinishedEntry) -> None:
        grants = reservation.grants()
        if not grants:
            return
        first, *others = grants
        first.holds = [*first.holds, *(hold for grant in others for hold in grant.holds)]
        try:
            await self._counters.settle(
                first, Used(entry.counts.input_tokens, entry.counts.output_tokens, entry.cost_micros)
            )
        except CountersUnavailableError as exc:
            self._report(exc)
        await self._free(others)

    async def _free(self, grants: Sequence[Grant]) -> None:
        for grant in grants:
            try:
                await self._counters.release(grant)
            except CountersUnavailableError as exc:
                # Its lease frees it.
                self._report(exc)

    async def _prune(self) -> None:
        if self._clock.monotonic() < self._prune_at:
            return
        removed = await self._store.prune(self._clock.now() - _KEPT, _PRUNED)
        if removed < _PRUNED:
            self._prune_at = self._clock.monotonic() + _PRUNE_EVERY_S


def _with(reservation: KeptReservation, grant: Grant | None, rows: Sequence[Row]) -> KeptReservation:
    """Return a reservation with one lease more, whose limits are among `rows`."""
    if grant is None:
        return reservation
    places = {row.counter: place for place, row in enumerate(rows)}
    part = Part(grant.lease, tuple((places[one.row.counter], one.window, one.amount) for one in grant.holds))
    held = msgspec.structs.replace(reservation.held, parts=(*reservation.held.parts, part))
    return replace(reservation, held=held)


def _stored(row: Row) -> tuple[str, int, int, int, bool, str]:
    rule = row.rule
    return row.subject, rule.metric, rule.window, rule.limit, rule.soft, rule.model


def _consulted(refusal: Refusal) -> Consulted:
    standing = refusal.standing
    rule = standing.row.rule
    return Consulted(
        subject=standing.row.subject,
        metric=rule.metric,
        window=rule.window,
        limit=rule.limit,
        model=rule.model,
        spent=standing.spent,
        held=standing.held,
        asked=refusal.asked,
        refused=True,
    )
