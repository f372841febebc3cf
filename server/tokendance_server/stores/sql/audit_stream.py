"""How far the audit trail was streamed, its signed heads, and the lease of the node that streams it, in SQL."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import DateTime, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.audit.events import AuditEvent, ChainHead
from tokendance_server.domain.audit.heads import SignedHead
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.audit.stream import LeaseLostError, Standing
from tokendance_server.domain.clock import Clock
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.audit_tables import audit_cursors, audit_events, audit_heads, audit_signed_heads
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import job_leases

LEASE_S = 30.0
_JOB = "audit stream"


class SqlStreamStore:
    """Satisfies StreamStore. `run_id` is that of this run of the node.

    A database of one node is that node's, whoever had the lease before: its data directory is locked.
    """

    def __init__(self, database: Database, clock: Clock, run_id: str, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._clock = clock
        self._run_id = run_id
        self._lease_s = lease_s
        self._trail = SqlAuditStore(database)
        self._renew_at: float | None = None

    async def take(self) -> bool:
        asked = self._clock.monotonic()
        if self._renew_at is not None and asked < self._renew_at:
            return True
        self._renew_at = None
        if not await self._take():
            return False
        # No row is written each second on a node that nobody could take it from.
        self._renew_at = asked + self._lease_s / 3 if self._database.is_shared else float("inf")
        return True

    async def release(self) -> None:
        self._renew_at = None
        async with self._database.transaction() as connection:
            await connection.execute(job_leases.delete().where(*self._own()))

    async def behind(self, *, unsent: bool, signed_before: datetime, limit: int) -> list[Standing]:
        heads, cursors, signed = audit_heads.c, audit_cursors.c, audit_signed_heads.c
        due = and_(
            heads.sequence > func.coalesce(cursors.head_sequence, 0),
            or_(cursors.head_time.is_(None), cursors.head_time <= signed_before),
        )
        wanted = or_(due, heads.sequence > func.coalesce(cursors.sequence, 0)) if unsent else due
        query = (
            select(
                audit_heads,
                func.coalesce(cursors.sequence, 0).label("sent"),
                signed.sequence.label("signed_sequence"),
                signed.digest.label("signed_digest"),
                due.label("signing_due"),
            )
            .join_from(audit_heads, audit_cursors, heads.organization_id == cursors.organization_id, isouter=True)
            .join(
                audit_signed_heads,
                and_(signed.organization_id == heads.organization_id, signed.sequence == cursors.head_sequence),
                isouter=True,
            )
            .where(wanted)
            .order_by(heads.organization_id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Standing(
                row.organization_id,
                ChainHead(row.sequence, row.digest),
                row.sent,
                None if row.signed_sequence is None else ChainHead(row.signed_sequence, row.signed_digest),
                bool(row.signing_due),
            )
            for row in rows
        ]

    async def events(self, organization_id: str, after: int, limit: int) -> list[AuditEvent]:
        return await self._trail.chain(EventFilter(organization_id), after, limit)

    async def has(self, organization_id: str, head: ChainHead) -> bool:
        table = audit_events.c
        query = select(table.digest).where(
            table.organization_id == organization_id, table.sequence == head.sequence, table.digest == head.digest
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).first() is not None

    async def sent(self, organization_id: str, sequence: int) -> None:
        async with self._database.transaction() as connection:
            await self._renew(connection)
            await _move(connection, organization_id, {"sequence": sequence})

    async def keep_head(self, signed: SignedHead) -> None:
        row = {
            "organization_id": signed.organization_id,
            "sequence": signed.head.sequence,
            "digest": signed.head.digest,
            "time": signed.time,
            "signature": signed.signature,
            "signing_key_id": signed.signing_key_id,
        }
        async with self._database.transaction() as connection:
            await self._renew(connection)
            await connection.execute(audit_signed_heads.insert(), row)
            moved = {"head_sequence": signed.head.sequence, "head_time": signed.time}
            await _move(connection, signed.organization_id, moved)

    async def _take(self) -> bool:
        now, end = self._now()
        free = or_(job_leases.c.holder == self._run_id, job_leases.c.expire_time <= now)
        mine = job_leases.c.name == _JOB
        async with self._database.transaction() as connection:
            taken = (
                job_leases.update().where(mine, free) if self._database.is_shared else job_leases.update().where(mine)
            )
            if (await connection.execute(taken.values(holder=self._run_id, expire_time=end))).rowcount:
                return True
            if (await connection.execute(select(job_leases.c.holder).where(mine))).first() is not None:
                return False
        try:
            async with self._database.transaction() as connection:
                await connection.execute(job_leases.insert().values(name=_JOB, holder=self._run_id, expire_time=end))
        except ConflictError:
            return False
        return True

    async def _renew(self, connection: AsyncConnection) -> None:
        """Hold the lease to the end of a transaction, and on. Raises LeaseLostError."""
        now, end = self._now()
        in_time = (job_leases.c.expire_time > now,) if self._database.is_shared else ()
        renewed = await connection.execute(job_leases.update().where(*self._own(), *in_time).values(expire_time=end))
        if not renewed.rowcount:
            self._renew_at = None
            raise LeaseLostError

    def _own(self) -> tuple[Any, Any]:
        return job_leases.c.name == _JOB, job_leases.c.holder == self._run_id

    def _now(self) -> tuple[Any, Any]:
        """Return the time, and when a lease ends: by the database's own clock where nodes' clocks could differ."""
        length = timedelta(seconds=self._lease_s)
        if self._database.is_shared:
            now = func.clock_timestamp(type_=DateTime(timezone=True))
            return now, now + length
        moment = self._clock.now()
        return moment, moment + length


async def _move(connection: AsyncConnection, organization_id: str, values: dict[str, Any]) -> None:
    own = audit_cursors.c.organization_id == organization_id
    if not (await connection.execute(audit_cursors.update().where(own).values(values))).rowcount:
        row = {"organization_id": organization_id, "sequence": 0, "head_sequence": 0, "head_time": None}
        await connection.execute(audit_cursors.insert(), {**row, **values})
