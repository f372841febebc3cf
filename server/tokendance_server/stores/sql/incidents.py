"""Incidents and maintenance in SQL: a row each, what was said of an incident as a list in its row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, and_, or_, select
from sqlalchemy import insert as insert_into

from tokendance.status_words import State
from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.status.incidents import Incident, Maintenance, MaintenanceDraft, Phase, Update
from tokendance_server.stores.sql.audit import record_event
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.status_tables import incidents, maintenances


class SqlNoticeStore:
    """Satisfies NoticeStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def incident(self, incident_id: str) -> Incident | None:
        row = await self._first(incidents, incidents.c.id == incident_id)
        return None if row is None else _incident(row)

    async def incidents(
        self,
        *,
        before: str = "",
        limit: int,
        open_only: bool = False,
        model: str = "",
        start_time: datetime | None = None,
    ) -> Sequence[Incident]:
        table = incidents.c
        query = select(incidents).order_by(table.id.desc())
        if before:
            query = query.where(table.id < before)
        if open_only:
            query = query.where(table.resolve_time.is_(None))
        if start_time is not None:
            query = query.where(table.start_time >= start_time)
        if model:
            # Which models it names is in a document, which each database looks into in its own way.
            async with self._database.read() as connection:
                found = [_incident(row) for row in (await connection.execute(query)).all()]
            return [one for one in found if one.touches(model)][:limit]
        async with self._database.read() as connection:
            return [_incident(row) for row in (await connection.execute(query.limit(limit))).all()]

    async def incident_made_by(self, request_id: str) -> Incident | None:
        row = await self._first(incidents, incidents.c.create_request_id == request_id) if request_id else None
        return None if row is None else _incident(row)

    async def put_incident(self, incident: Incident, event: EventDraft) -> bool:
        row = {
            "title": incident.title,
            "state": incident.state.value,
            "phase": incident.phase.value,
            "models": list(incident.models),
            "updates": [[one.time.isoformat(), one.phase, one.state, one.message] for one in incident.updates],
            "start_time": incident.start_time,
            "resolve_time": incident.resolve_time,
        }
        return await self._put(incidents, incident, row, event, ChangeKind.INCIDENT)

    async def maintenance(self, maintenance_id: str) -> Maintenance | None:
        row = await self._first(maintenances, maintenances.c.id == maintenance_id)
        return None if row is None else _maintenance(row)

    async def maintenances(
        self, *, before: tuple[datetime, str] | None = None, limit: int, ends_after: datetime | None = None
    ) -> Sequence[Maintenance]:
        table = maintenances.c
        query = select(maintenances).order_by(table.start_time.desc(), table.id.desc()).limit(limit)
        if before is not None:
            time, identity = before
            query = query.where(or_(table.start_time < time, and_(table.start_time == time, table.id < identity)))
        if ends_after is not None:
            query = query.where(table.end_time > ends_after, table.cancelled.is_(False))
        async with self._database.read() as connection:
            return [_maintenance(row) for row in (await connection.execute(query)).all()]

    async def maintenance_made_by(self, request_id: str) -> Maintenance | None:
        row = await self._first(maintenances, maintenances.c.create_request_id == request_id) if request_id else None
        return None if row is None else _maintenance(row)

    async def put_maintenance(self, maintenance: Maintenance, event: EventDraft) -> bool:
        draft = maintenance.draft
        row = {
            "title": draft.title,
            "description": draft.description,
            "models": list(draft.models),
            "start_time": draft.start_time,
            "end_time": draft.end_time,
            "cancelled": draft.cancelled,
        }
        return await self._put(maintenances, maintenance, row, event, ChangeKind.MAINTENANCE)

    async def in_force(self, since: datetime) -> tuple[Sequence[Incident], Sequence[Maintenance]]:
        open_or_late = or_(incidents.c.resolve_time.is_(None), incidents.c.resolve_time >= since)
        async with self._database.transaction() as connection:
            said = (
                await connection.execute(select(incidents).where(open_or_late).order_by(incidents.c.id.desc()))
            ).all()
            work = select(maintenances).where(maintenances.c.end_time >= since)
            announced = (await connection.execute(work.order_by(maintenances.c.start_time, maintenances.c.id))).all()
        return [_incident(row) for row in said], [_maintenance(row) for row in announced]

    async def _put(
        self, table: Table, one: Incident | Maintenance, row: dict[str, Any], event: EventDraft, kind: ChangeKind
    ) -> bool:
        try:
            async with self._database.transaction() as connection:
                if one.version == 1:
                    first = {
                        "id": one.id,
                        "create_time": one.create_time,
                        "create_request_id": one.create_request_id or None,
                        "fingerprint": one.fingerprint,
                    }
                    await connection.execute(insert_into(table), first | row | {"version": 1})
                else:
                    mine = (table.c.id == one.id, table.c.version == one.version - 1)
                    changed = await connection.execute(table.update().where(*mine).values(**row, version=one.version))
                    if not changed.rowcount:
                        return False
                await record_event(connection, event)
                await record_change(connection, kind, one.name, event.time)
        except ConflictError:
            # The same request made it at the same moment.
            return False
        return True

    async def _first(self, table: Table, wanted: Any) -> Row[Any] | None:
        async with self._database.read() as connection:
            return (await connection.execute(select(table).where(wanted))).first()


def _incident(row: Row[Any]) -> Incident:
    return Incident(
        id=row.id,
        title=row.title,
        state=State(row.state),
        phase=Phase(row.phase),
        models=tuple(row.models),
        updates=tuple(
            Update(datetime.fromisoformat(time), Phase(phase), State(state), message)
            for time, phase, state, message in row.updates
        ),
        start_time=row.start_time,
        resolve_time=row.resolve_time,
        create_time=row.create_time,
        version=row.version,
        create_request_id=row.create_request_id or "",
        fingerprint=row.fingerprint,
    )


def _maintenance(row: Row[Any]) -> Maintenance:
    return Maintenance(
        id=row.id,
        draft=MaintenanceDraft(
            row.title, row.start_time, row.end_time, row.description, tuple(row.models), row.cancelled
        ),
        create_time=row.create_time,
        version=row.version,
        create_request_id=row.create_request_id or "",
        fingerprint=row.fingerprint,
    )
