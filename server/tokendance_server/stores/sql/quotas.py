"""Limits in SQL: one row for each subject that has some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Row,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    literal,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.names import child_name, subject_of, tenant_of
from tokendance_server.domain.quota.counters import CountersUnavailableError
from tokendance_server.domain.quota.store import Place, Quota, QuotaFilter, SubjectKind
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.audit import record_event
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import keys, member_teams, members, organizations, quotas, teams

# How a database writes an empty list of limits.
_NONE = "[]"
_TABLES = {SubjectKind.KEY: keys, SubjectKind.MEMBER: members, SubjectKind.TEAM: teams}


class SqlQuotaStore:
    """Satisfies QuotaStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def limits(self, subjects: Sequence[str]) -> Mapping[str, Sequence[LimitRule]]:
        try:
            async with self._database.read() as connection:
                rows = (await connection.execute(_LIMITS, {"subjects": list(subjects)})).all()
                found = {row.subject: _rules(row.limits) for row in rows}
            own = [one for one in subjects if one not in found and "/keys/" in one]
            if own:
                async with self._database.read() as connection:
                    ids = [one.rpartition("/")[2] for one in own]
                    for row in (await connection.execute(_OWN_LIMITS, {"ids": ids})).all():
                        name = child_name(row.organization_id, "keys", row.id)
                        if name in own:
                            found[name] = _rules(row.quota_limits)
        except StoreUnavailableError as exc:
            raise CountersUnavailableError(str(exc)) from exc
        return found

    async def place(self, subject: str) -> Place | None:
        kind, _ = subject_of(subject, "subject")
        organization_id, identity = tenant_of(subject), subject.rpartition("/")[2]
        async with self._database.read() as connection:
            if kind == SubjectKind.ORGANIZATION:
                query: Select[Any] = select(organizations.c.display_name).where(organizations.c.id == organization_id)
                row = (await connection.execute(query)).first()
                return None if row is None else Place(row.display_name)
            table = _TABLES[SubjectKind(kind)]
            query = select(table).where(table.c.organization_id == organization_id, table.c.id == identity)
            row = (await connection.execute(query)).first()
        if row is None:
            return None
        if kind == SubjectKind.KEY:
            return Place(row.purpose, row.owner_id, frozenset({row.team_id}))
        own, other = ("team_id", "member_id") if kind == SubjectKind.TEAM else ("member_id", "team_id")
        joined = select(member_teams.c[other]).where(
            member_teams.c.organization_id == organization_id, member_teams.c[own] == identity
        )
        async with self._database.read() as connection:
            # Of a team its members: those whom its limits concern.
            near = frozenset((await connection.execute(joined)).scalars())
        return Place(row.display_name, team_ids=near)

    async def name_of(self, kind: SubjectKind, identity: str) -> str:
        table = _TABLES[kind]
        async with self._database.read() as connection:
            row = (await connection.execute(select(table.c.organization_id).where(table.c.id == identity))).first()
        return "" if row is None else f"organizations/{row.organization_id}/{kind}/{identity}"

    async def get(self, subject: str) -> Quota:
        query = select(quotas).where(quotas.c.organization_id == tenant_of(subject), quotas.c.subject == subject)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is not None:
            return _quota(row)
        own = await self.limits([subject])
        return Quota(subject, tuple(own.get(subject, ())))

    async def put(self, before: Quota, after: Quota, event: EventDraft | None) -> bool:
        assert after.update_time is not None
        row = {
            "limits": [asdict(rule) for rule in after.limits],
            "update_time": after.update_time,
            "version": after.version,
        }
        mine = and_(quotas.c.organization_id == tenant_of(after.subject), quotas.c.subject == after.subject)
        try:
            async with self._database.transaction() as connection:
                if before.version:
                    changed = await connection.execute(
                        quotas.update().where(mine, quotas.c.version == before.version).values(**row)
                    )
                    if not changed.rowcount:
                        return False
                else:
                    place = {"organization_id": tenant_of(after.subject), "subject": after.subject}
                    await connection.execute(quotas.insert(), place | row)
                await _record(connection, after, event)
        except ConflictError:
            # Another call set the first limits of this subject at the same moment.
            return False
        return True

    async def list(self, filter: QuotaFilter, after: str, limit: int) -> Sequence[Quota]:
        every = union_all(*_subjects(filter)).subquery()
        query = select(every).where(every.c.subject > after).order_by(every.c.subject).limit(limit)
        if filter.subjects is not None:
            query = query.where(every.c.subject.in_(filter.subjects))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [_quota(row) for row in rows]


def _subjects(filter: QuotaFilter) -> Iterator[Select[Any]]:
    """Select subjects of each kind: those whose limits were set, keys that were made with some, and the others."""
    own = quotas.c.organization_id == filter.organization_id if filter.organization_id else true()
    set_here = select(quotas.c.subject, quotas.c.limits, quotas.c.update_time, quotas.c.version).where(own)
    if filter.kind is SubjectKind.ORGANIZATION:
        set_here = set_here.where(~quotas.c.subject.like("organizations/%/%"))
    elif filter.kind is not None:
        set_here = set_here.where(quotas.c.subject.like(f"organizations/%/{filter.kind}/%"))
    yield set_here if filter.unlimited else set_here.where(cast(quotas.c.limits, Text) != _NONE)
    for kind in SubjectKind if filter.kind is None else (filter.kind,):
        table = organizations if kind is SubjectKind.ORGANIZATION else _TABLES[kind]
        limits: ColumnElement[Any] = literal([], JSON)
        wanted: list[ColumnElement[bool]] = []
        if kind is SubjectKind.KEY:
            limits = keys.c.quota_limits
            wanted.append(keys.c.revoke_time.is_(None))
            if not filter.unlimited:
                wanted.append(cast(limits, Text) != _NONE)
        elif not filter.unlimited:
            continue
        place = table.c.id if kind is SubjectKind.ORGANIZATION else table.c.organization_id
        if filter.organization_id:
            wanted.append(place == filter.organization_id)
        subject = literal("organizations/") + place
        if kind is not SubjectKind.ORGANIZATION:
            subject = subject + f"/{kind}/" + table.c.id
        is_set = select(quotas.c.subject).where(quotas.c.organization_id == place, quotas.c.subject == subject)
        yield select(
            subject.label("subject"),
            limits.label("limits"),
            cast(null(), quotas.c.update_time.type).label("update_time"),
            literal(0, BigInteger).label("version"),
        ).where(~is_set.exists(), *wanted)


async def _record(connection: AsyncConnection, after: Quota, event: EventDraft | None) -> None:
    assert after.update_time is not None
    if event is not None:
        await record_event(connection, event)
    await record_change(connection, ChangeKind.LIMIT, after.subject, after.update_time)


# Built once: every call whose limits are not at hand runs them.
_LIMITS = select(quotas.c.subject, quotas.c.limits).where(quotas.c.subject.in_(bindparam("subjects", expanding=True)))
_OWN_LIMITS = select(keys.c.organization_id, keys.c.id, keys.c.quota_limits).where(
    keys.c.id.in_(bindparam("ids", expanding=True))
)


def _quota(row: Row[Any]) -> Quota:
    return Quota(row.subject, _rules(row.limits), row.update_time, row.version)


def _rules(documents: Sequence[Mapping[str, Any]]) -> tuple[LimitRule, ...]:
    return tuple(LimitRule(**document) for document in documents)
