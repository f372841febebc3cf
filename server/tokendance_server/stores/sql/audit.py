"""The audit trail in SQL: chained rows, each written in the transaction of what it tells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, delete, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.audit.events import NO_DIGEST, AuditEvent, ChainHead, EventDraft, KeptPersonalData, seal
from tokendance_server.domain.audit.store import EventCursor, EventFilter
from tokendance_server.stores.sql.audit_tables import audit_events, audit_heads, audit_personal
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import Text


async def record_event(connection: AsyncConnection, draft: EventDraft) -> AuditEvent:
    """Put an event at the end of its chain, in the transaction of what it tells.

    Call it after the rows that it tells of were written and before `record_change`: everybody takes these locks in
    this order, and so nobody waits in a circle. Several events of one transaction are given in the order of their
    organizations' ids.
    """
    of_chain = {"organization_id": draft.organization_id}
    await connection.execute(_OPEN_CHAIN, {**of_chain, "digest": NO_DIGEST})
    end = (await connection.execute(_END, of_chain)).one()
    event = seal(draft, ChainHead(end.sequence, end.digest))
    await connection.execute(audit_events.insert(), _row(event))
    if event.personal:
        await connection.execute(audit_personal.insert(), _personal_rows(event))
    await connection.execute(_MOVE_END, {"chain": draft.organization_id, "at": event.sequence, "now": event.digest})
    return event


async def record_events(connection: AsyncConnection, drafts: Sequence[EventDraft]) -> None:
    """Put several events at the ends of their chains, as `record_event`; each chain is locked and moved once."""
    for organization_id in sorted({draft.organization_id for draft in drafts}):
        of_chain = {"organization_id": organization_id}
        await connection.execute(_OPEN_CHAIN, {**of_chain, "digest": NO_DIGEST})
        end = (await connection.execute(_END, of_chain)).one()
        head = ChainHead(end.sequence, end.digest)
        events: list[AuditEvent] = []
        for draft in drafts:
            if draft.organization_id == organization_id:
                events.append(seal(draft, head))
                head = ChainHead(events[-1].sequence, events[-1].digest)
        await connection.execute(audit_events.insert(), [_row(one) for one in events])
        personal = [row for one in events for row in _personal_rows(one)]
        if personal:
            await connection.execute(audit_personal.insert(), personal)
        await connection.execute(_MOVE_END, {"chain": organization_id, "at": head.sequence, "now": head.digest})


class SqlAuditStore:
    """Satisfies AuditStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, draft: EventDraft) -> AuditEvent:
        async with self._database.transaction() as connection:
            return await record_event(connection, draft)

    async def record_all(self, drafts: Sequence[EventDraft]) -> None:
        async with self._database.transaction() as connection:
            await record_events(connection, drafts)

    async def head(self, organization_id: str) -> ChainHead:
        query = select(audit_heads).where(audit_heads.c.organization_id == organization_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return ChainHead() if row is None else ChainHead(row.sequence, row.digest)

    async def page(self, filter: EventFilter, after: EventCursor | None, limit: int) -> list[AuditEvent]:
        conditions, table = _conditions(filter), audit_events.c
        if after is not None:
            # Spelled out, because not every database compares rows.
            conditions.append(
                or_(
                    table.time < after.time,
                    and_(table.time == after.time, table.organization_id < after.organization_id),
                    and_(
                        table.time == after.time,
                        table.organization_id == after.organization_id,
                        table.sequence < after.sequence,
                    ),
                )
            )
        order = (table.time.desc(), table.organization_id.desc(), table.sequence.desc())
        return await self._read(conditions, order, limit, newest_first=True)

    async def chain(self, filter: EventFilter, after: int, limit: int) -> list[AuditEvent]:
        conditions = [*_conditions(filter), audit_events.c.sequence > after]
        return await self._read(conditions, (audit_events.c.sequence,), limit, newest_first=False)

    async def count(self, filter: EventFilter, after: int) -> int:
        query = select(func.count()).where(*_conditions(filter), audit_events.c.sequence > after)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def has_digest(self, organization_id: str, digest: bytes) -> bool:
        found = exists().where(audit_events.c.organization_id == organization_id, audit_events.c.digest == digest)
        async with self._database.read() as connection:
            return bool((await connection.execute(select(found))).scalar())

    async def erase(self, subject: str) -> int:
        async with self._database.transaction() as connection:
            return (
                await connection.execute(delete(audit_personal).where(audit_personal.c.subject == subject))
            ).rowcount

    async def _read(
        self, conditions: Sequence[ColumnElement[bool]], order: Sequence[Any], limit: int, *, newest_first: bool
    ) -> list[AuditEvent]:
        page = select(audit_events).where(*conditions).order_by(*order).limit(limit).subquery()
        async with self._database.read() as connection:
            rows = (await connection.execute(_with_personal(page, newest_first))).all()
        return [_event([*of_one]) for _, of_one in groupby(rows, key=lambda row: (row.organization_id, row.sequence))]


_OPEN_CHAIN = text(
    "INSERT INTO audit_heads (organization_id, sequence, digest) VALUES (:organization_id, 0, :digest) "
    "ON CONFLICT DO NOTHING"
)
_END = select(audit_heads).where(audit_heads.c.organization_id == bindparam("organization_id")).with_for_update()
_MOVE_END = (
    audit_heads.update()
    .where(audit_heads.c.organization_id == bindparam("chain"))
    .values(sequence=bindparam("at"), digest=bindparam("now"))
)


def _with_personal(page: Any, newest_first: bool) -> Select[Any]:
    """Return a page of events with one row for each part that has personal data, or one without any."""
    beside = and_(
        audit_personal.c.organization_id == page.c.organization_id, audit_personal.c.sequence == page.c.sequence
    )
    order = (page.c.time.desc(), page.c.organization_id.desc(), page.c.sequence.desc())
    return (
        select(page, audit_personal.c.part, audit_personal.c.subject, audit_personal.c.salt, audit_personal.c.document)
        .join_from(page, audit_personal, beside, isouter=True)
        .order_by(*(order if newest_first else (page.c.sequence,)))
    )


def _conditions(filter: EventFilter) -> list[ColumnElement[bool]]:
    """Say in SQL what EventFilter.matches says."""
    table, conditions = audit_events.c, list[ColumnElement[bool]]()
    if filter.organization_id is not None:
        conditions.append(table.organization_id == filter.organization_id)
    if filter.actor:
        conditions.append(table.actor == filter.actor)
    if filter.action:
        conditions.append(
            _begins(table.action, filter.action) if filter.action.endswith(".") else table.action == filter.action
        )
    if filter.resource:
        conditions.append(or_(table.resource == filter.resource, _begins(table.resource, f"{filter.resource}/")))
    if filter.request_id:
        conditions.append(table.request_id == filter.request_id)
    if filter.start_time is not None:
        conditions.append(table.time >= filter.start_time)
    if filter.end_time is not None:
        conditions.append(table.time < filter.end_time)
    if filter.outcome:
        conditions.append(table.outcome == int(filter.outcome))
    return conditions


def _begins(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    # Not LIKE: it is blind to case on SQLite, and takes some characters for patterns.
    return func.substr(column, 1, len(prefix), type_=Text()) == prefix


def _row(event: AuditEvent) -> dict[str, Any]:
    return {
        "organization_id": event.organization_id,
        "sequence": event.sequence,
        "id": event.id,
        "time": event.time,
        "action": event.action,
        "resource": event.resource,
        "outcome": int(event.outcome),
        "code": event.code,
        "actor_kind": int(event.actor_kind),
        "actor": event.actor,
        "request_id": event.request_id,
        "source": int(event.source),
        "before": event.before,
        "after": event.after,
        "reason": event.reason,
        "personal_digests": json.dumps(dict(event.personal_digests)),
        "previous": event.previous,
        "digest": event.digest,
    }


def _personal_rows(event: AuditEvent) -> list[dict[str, Any]]:
    return [
        {
            "organization_id": event.organization_id,
            "sequence": event.sequence,
            "part": part,
            "subject": kept.subject,
            "salt": kept.salt,
            "document": kept.document,
        }
        for part, kept in event.personal.items()
    ]


def _event(rows: Sequence[Row[Any]]) -> AuditEvent:
    """Return the event of rows that differ in their personal data only."""
    row = rows[0]
    return AuditEvent(
        organization_id=row.organization_id,
        sequence=row.sequence,
        id=row.id,
        time=row.time,
        action=row.action,
        resource=row.resource,
        outcome=row.outcome,
        code=row.code,
        actor_kind=row.actor_kind,
        actor=row.actor,
        request_id=row.request_id,
        source=row.source,
        before=row.before,
        after=row.after,
        reason=row.reason,
        personal_digests=json.loads(row.personal_digests),
        previous=row.previous,
        digest=row.digest,
        personal={
            one.part: KeptPersonalData(one.subject, one.salt, one.document) for one in rows if one.part is not None
        },
    )
