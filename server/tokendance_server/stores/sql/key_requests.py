"""Requests for keys in SQL, and the transactions in which they are decided and revealed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.keys.key import Key, KeyCursor, KeyDraft, KeyQuota, KeyState, LimitRule
from tokendance_server.domain.keys.request import KeyRequest, RequestFilter, RequestState
from tokendance_server.domain.organizations import Member, Team
from tokendance_server.domain.people.records import CreateMark, Policy
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.audit import record_event
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.keys import UNCHANGED, key_row, read_key, replace_secrets, select_keys
from tokendance_server.stores.sql.people_rows import member_query, read_member, read_policy, read_team
from tokendance_server.stores.sql.tables import creates, key_requests, keys, policies, teams

_KIND = "key_request"


class SqlKeyRequestStore:
    """Satisfies KeyRequestStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def desk(self, organization_id: str) -> AsyncIterator[SqlRequestDesk]:
        try:
            async with self._database.transaction() as connection:
                # The lock under which members, teams and the policy change too.
                await self._database.lock(connection, f"organization {organization_id}")
                desk = SqlRequestDesk(connection, organization_id)
                yield desk
                await desk.write_down()
        except ConflictError as exc:
            raise StoreUnavailableError("the request for a key contradicts what is kept") from exc

    async def page(self, filter: RequestFilter, after: KeyCursor | None, limit: int) -> list[KeyRequest]:
        wanted = _conditions(filter)
        table = key_requests.c
        if after is not None:
            same_time = and_(table.create_time == after.create_time, table.id < after.id)
            wanted.append(or_(table.create_time < after.create_time, same_time))
        query = (
            select(key_requests)
            .where(and_(True, *wanted))
            .order_by(table.create_time.desc(), table.id.desc())
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [_request(row) for row in (await connection.execute(query)).all()]


class SqlRequestDesk:
    """Satisfies RequestDesk on a connection that holds the organization's lock until its commit."""

    def __init__(self, connection: AsyncConnection, organization_id: str) -> None:
        self._connection = connection
        self._organization_id = organization_id
        self._events: list[EventDraft] = []
        self._changes: list[tuple[str, datetime]] = []

    async def policy(self) -> Policy:
        row = await self._first(policies)
        return Policy(self._organization_id) if row is None else read_policy(row)

    async def member(self, member_id: str) -> Member | None:
        rows = (await self._connection.execute(member_query(self._organization_id, member_id))).all()
        return read_member(rows[0], [row.team_id for row in rows if row.team_id]) if rows else None

    async def team(self, team_id: str) -> Team | None:
        row = await self._first(teams, teams.c.id == team_id)
        return None if row is None else read_team(row)

    async def request(self, request_id: str) -> KeyRequest | None:
        row = await self._first(key_requests, key_requests.c.id == request_id)
        return None if row is None else _request(row)

    async def key(self, key_id: str) -> Key | None:
        # Whoever else changes it, under its own lock, has to be done first.
        lock = select(keys.c.id).where(self._own(keys), keys.c.id == key_id).with_for_update()
        await self._connection.execute(lock)
        rows = (await self._connection.execute(select_keys(and_(self._own(keys), keys.c.id == key_id), 1))).all()
        return read_key(rows) if rows else None

    async def made_by(self, request_id: str) -> CreateMark | None:
        row = await self._first(creates, creates.c.kind == _KIND, creates.c.request_id == request_id)
        return None if row is None else CreateMark(row.made_id, row.fingerprint)

    async def undecided(self, requester_id: str) -> int:
        table = key_requests.c
        return await self._count(
            key_requests, table.requester_id == requester_id, table.state == RequestState.PENDING.value
        )

    async def owned_keys(self, owner_id: str, now: datetime) -> int:
        alive = or_(keys.c.expire_time.is_(None), keys.c.expire_time > now)
        working = keys.c.state.in_((KeyState.ACTIVE.value, KeyState.PENDING.value))
        return await self._count(keys, keys.c.owner_id == owner_id, working, alive)

    async def mark_made(self, request_id: str, mark: CreateMark) -> None:
        row = {"organization_id": self._organization_id, "kind": _KIND, "request_id": request_id, **asdict(mark)}
        await self._connection.execute(creates.insert(), row)

    async def put(self, request: KeyRequest) -> None:
        row = _row(request)
        same = and_(self._own(key_requests), key_requests.c.id == request.id)
        if not (await self._connection.execute(update(key_requests).where(same).values(row))).rowcount:
            await self._connection.execute(key_requests.insert(), row)

    async def put_key(self, key: Key) -> None:
        row = key_row(key)
        changed = {name: value for name, value in row.items() if name not in UNCHANGED}
        same = and_(self._own(keys), keys.c.id == key.id)
        if not (await self._connection.execute(update(keys).where(same).values(changed))).rowcount:
            await self._connection.execute(keys.insert(), row)
        await replace_secrets(self._connection, key)
        self._changes.append((key.name, key.update_time))

    async def record(self, event: EventDraft) -> None:
        self._events.append(event)

    async def write_down(self) -> None:
        """Write down what happened. Call it last: writers of all organizations queue up here."""
        for event in self._events:
            await record_event(self._connection, event)
        for name, time in self._changes:
            await record_change(self._connection, ChangeKind.KEY, name, time)

    async def _count(self, table: Table, *wanted: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(table).where(self._own(table), *wanted)
        return (await self._connection.execute(query)).scalar_one()

    async def _first(self, table: Table, *wanted: ColumnElement[bool]) -> Any:
        query = select(table).where(self._own(table), *wanted).limit(1)
        return (await self._connection.execute(query)).first()

    def _own(self, table: Table) -> ColumnElement[bool]:
        own: ColumnElement[bool] = table.c.organization_id == self._organization_id
        return own


def _conditions(filter: RequestFilter) -> list[ColumnElement[bool]]:
    """Say in SQL what RequestFilter.matches says."""
    table, conditions = key_requests.c, list[ColumnElement[bool]]()
    if filter.organization_id:
        conditions.append(table.organization_id == filter.organization_id)
    if filter.requester_id:
        conditions.append(table.requester_id == filter.requester_id)
    if filter.state is RequestState.EXPIRED:
        conditions += [table.state == RequestState.APPROVED.value, table.reveal_expire_time <= filter.now]
    elif filter.state is RequestState.APPROVED:
        conditions += [table.state == RequestState.APPROVED.value, table.reveal_expire_time > filter.now]
    elif filter.state is not None:
        conditions.append(table.state == filter.state.value)
    return conditions


def _row(request: KeyRequest) -> dict[str, Any]:
    draft = asdict(request.draft)
    draft["expire_time"] = request.draft.expire_time and request.draft.expire_time.isoformat()
    return {
        "organization_id": request.organization_id,
        "id": request.id,
        "requester_id": request.requester_id,
        "draft": draft,
        "state": request.state.value,
        "key_id": request.key_id or None,
        "decision_reason": request.decision_reason,
        "decided_by": request.decided_by,
        "create_time": request.create_time,
        "decide_time": request.decide_time,
        "reveal_expire_time": request.reveal_expire_time,
        "version": request.version,
    }


def _request(row: Row[Any]) -> KeyRequest:
    return KeyRequest(
        organization_id=row.organization_id,
        id=row.id,
        requester_id=row.requester_id,
        draft=_draft(row.draft),
        create_time=row.create_time,
        state=RequestState(row.state),
        key_id=row.key_id or "",
        decision_reason=row.decision_reason,
        decided_by=row.decided_by,
        decide_time=row.decide_time,
        reveal_expire_time=row.reveal_expire_time,
        version=row.version,
    )


def _draft(document: dict[str, Any]) -> KeyDraft:
    limits = tuple(LimitRule(**limit) for limit in document["quota"]["limits"])
    ends = document["expire_time"]
    lists = {name: tuple(document[name]) for name in ("allowed_models", "allowed_networks", "excluded_route_tags")}
    return KeyDraft(
        **{
            **document,
            **lists,
            "quota": KeyQuota(document["quota"]["inherited_from"], limits),
            "expire_time": datetime.fromisoformat(ends) if ends else None,
        }
    )
