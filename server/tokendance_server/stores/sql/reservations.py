"""Reservations of internal services in SQL, each row with all that is needed to hold, renew, free or charge it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, delete, select, tuple_, update

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.quota.claims import Grant
from tokendance_server.domain.quota.counters import CountersUnavailableError
from tokendance_server.domain.quota.kept_reservations import Held, KeptReservation, ReservationState
from tokendance_server.domain.usage.entries import FinishedEntry
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.usage import SqlUsageStore
from tokendance_server.stores.sql.usage_tables import reservations

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Held)


class SqlReservationStore:
    """Satisfies ReservationStore and KeptHolds. Usage goes where `usage` keeps it, in the same transaction."""

    def __init__(self, database: Database, usage: SqlUsageStore, clock: Clock) -> None:
        self._database = database
        self._usage = usage
        self._clock = clock

    async def get(self, organization_id: str, reservation_id: str) -> KeptReservation | None:
        wanted = (reservations.c.organization_id == organization_id, reservations.c.id == reservation_id)
        async with self._database.read() as connection:
            row = (await connection.execute(select(reservations).where(*wanted))).first()
        return None if row is None else _reservation(row)

    async def made_by(self, maker: str, request_key: str) -> KeptReservation | None:
        wanted = (reservations.c.maker == maker, reservations.c.request_key == request_key)
        async with self._database.read() as connection:
            row = (await connection.execute(select(reservations).where(*wanted))).first()
        return None if row is None else _reservation(row)

    async def add(self, reservation: KeptReservation) -> bool:
        row = {
            "organization_id": reservation.organization_id,
            "id": reservation.id,
            "record_id": reservation.record_id,
            "maker": reservation.maker,
            "request_key": reservation.request_key,
            "fingerprint": reservation.fingerprint,
            "create_time": reservation.create_time,
            **_changing(reservation),
        }
        try:
            async with self._database.transaction() as connection:
                await connection.execute(reservations.insert(), row)
        except ConflictError:
            return False
        return True

    async def replace(self, reservation: KeptReservation, entry: FinishedEntry | None = None) -> bool:
        mine = (
            reservations.c.organization_id == reservation.organization_id,
            reservations.c.id == reservation.id,
            reservations.c.version == reservation.version - 1,
        )
        async with self._database.transaction() as connection:
            changed = await connection.execute(update(reservations).where(*mine), _changing(reservation))
            if not changed.rowcount:
                return False
            if entry is not None:
                await self._usage.write(connection, [entry])
        return True

    async def prune(self, before: datetime, limit: int) -> int:
        key = (reservations.c.organization_id, reservations.c.id)
        oldest = select(*key).where(reservations.c.expire_time < before).order_by(reservations.c.expire_time)
        async with self._database.transaction() as connection:
            done = await connection.execute(delete(reservations).where(tuple_(*key).in_(oldest.limit(limit))))
        return done.rowcount

    async def held(self, organization: str) -> Sequence[tuple[Grant, float]]:
        now = self._clock.now()
        wanted = select(reservations).where(
            reservations.c.organization_id == tenant_of(organization),
            reservations.c.expire_time > now,
            reservations.c.state == ReservationState.HELD.value,
        )
        try:
            async with self._database.read() as connection:
                rows = (await connection.execute(wanted)).all()
        except StoreUnavailableError as exc:
            raise CountersUnavailableError(str(exc)) from exc
        kept = map(_reservation, rows)
        return [(grant, (one.expire_time - now).total_seconds()) for one in kept for grant in one.grants()]


def _changing(reservation: KeptReservation) -> dict[str, Any]:
    return {
        "state": reservation.state.value,
        "version": reservation.version,
        "expire_time": reservation.expire_time,
        "document": _encode(reservation.held).decode(),
    }


def _reservation(row: Row[Any]) -> KeptReservation:
    return KeptReservation(
        organization_id=row.organization_id,
        id=row.id,
        record_id=row.record_id,
        maker=row.maker,
        request_key=row.request_key,
        fingerprint=row.fingerprint,
        create_time=row.create_time,
        expire_time=row.expire_time,
        held=_decoder.decode(row.document),
        state=ReservationState(row.state),
        version=row.version,
    )
