"""One organization within one transaction in SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.keys.key import KeyState
from tokendance_server.domain.names import child_name
from tokendance_server.domain.organizations import Member, MemberRole, MemberState, Organization, Team
from tokendance_server.domain.people.records import CreateMark, KeyFate, Policy, Traces
from tokendance_server.domain.people.store import Made, Record
from tokendance_server.stores.sql import erasure
from tokendance_server.stores.sql.audit import record_events
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.people_rows import (
    member_query,
    member_row,
    member_team_rows,
    organization_row,
    policy_row,
    read_member,
    read_organization,
    read_policy,
    read_team,
    team_row,
)
from tokendance_server.stores.sql.tables import creates, keys, member_teams, members, organizations, policies, teams


class SqlTenant:
    """Satisfies Tenant on a connection that holds the organization's lock until its commit."""

    def __init__(self, connection: AsyncConnection, organization_id: str) -> None:
        self._connection = connection
        self._organization_id = organization_id
        self._changes: list[tuple[ChangeKind, str, datetime]] = []
        self._events: list[EventDraft] = []

    async def organization(self) -> Organization | None:
        row = await self._first(organizations, organizations.c.id == self._organization_id)
        return None if row is None else read_organization(row)

    async def team(self, team_id: str) -> Team | None:
        row = await self._first(teams, self._own(teams), teams.c.id == team_id)
        return None if row is None else read_team(row)

    async def member(self, member_id: str) -> Member | None:
        rows = (await self._connection.execute(member_query(self._organization_id, member_id))).all()
        return read_member(rows[0], [row.team_id for row in rows if row.team_id]) if rows else None

    async def policy(self) -> Policy:
        row = await self._first(policies, self._own(policies))
        return Policy(self._organization_id) if row is None else read_policy(row)

    async def team_named(self, display_name: str) -> Team | None:
        row = await self._first(teams, self._own(teams), teams.c.display_name == display_name)
        return None if row is None else read_team(row)

    async def member_with(self, *, subject: str = "", email: str = "") -> Member | None:
        same = members.c.subject == subject if subject else members.c.folded_email == email.casefold()
        row = await self._first(members, self._own(members), same, members.c.state != MemberState.REMOVED.value)
        return None if row is None else await self.member(row.id)

    async def other_admins(self, member_id: str) -> int:
        query = select(func.count()).where(
            self._own(members),
            members.c.id != member_id,
            members.c.roles.contains(MemberRole.ADMIN.value),
            members.c.state.in_((MemberState.INVITED.value, MemberState.ACTIVE.value)),
        )
        return (await self._connection.execute(query)).scalar_one()

    async def team_in_use(self, team_id: str) -> bool:
        # Whoever makes a key of the team at this moment has to be done first.
        lock = select(teams.c.id).where(self._own(teams), teams.c.id == team_id).with_for_update()
        await self._connection.execute(lock)
        of_key = exists(select(keys.c.id).where(self._own(keys), keys.c.team_id == team_id))
        of_member = exists(
            select(member_teams.c.member_id).where(self._own(member_teams), member_teams.c.team_id == team_id)
        )
        return bool((await self._connection.execute(select(or_(of_key, of_member)))).scalar())

    async def made_by(self, kind: Made, request_id: str) -> CreateMark | None:
        row = await self._first(creates, self._own(creates), creates.c.kind == kind, creates.c.request_id == request_id)
        return None if row is None else CreateMark(row.made_id, row.fingerprint)

    async def mark_made(self, kind: Made, request_id: str, mark: CreateMark) -> None:
        row = {
            "organization_id": self._organization_id,
            "kind": kind,
            "request_id": request_id,
            "made_id": mark.made_id,
            "fingerprint": mark.fingerprint,
        }
        await self._connection.execute(creates.insert(), row)

    async def put(self, record: Record, time: datetime, event: EventDraft | None = None) -> None:
        if event is not None:
            self.tell(event)
        match record:
            case Organization():
                row = organization_row(record)
                await self._save(organizations, row, organizations.c.id == record.id)
                self._changes.append((ChangeKind.ORGANIZATION, record.name, time))
            case Team():
                await self._save(teams, team_row(record), and_(self._own(teams), teams.c.id == record.id))
                self._changes.append((ChangeKind.TEAM, record.name, time))
            case Member():
                await self._put_member(record)
                self._changes.append((ChangeKind.MEMBER, record.name, time))
            case Policy():
                await self._save(policies, policy_row(record), self._own(policies))
                self._changes.append((ChangeKind.POLICY, record.name, time))

    async def delete_team(self, team: Team, time: datetime, event: EventDraft | None = None) -> None:
        if event is not None:
            self.tell(event)
        await self._connection.execute(delete(teams).where(self._own(teams), teams.c.id == team.id))
        self._changes.append((ChangeKind.TEAM, team.name, time))

    def tell(self, *events: EventDraft) -> None:
        self._events += events

    async def settle_keys(self, member_id: str, fate: KeyFate, owner_id: str, time: datetime) -> list[str]:
        concerned = keys.c.state != KeyState.REVOKED.value
        if fate is KeyFate.SUSPEND:
            concerned = keys.c.state == KeyState.ACTIVE.value
        # Whoever else changes one of them has to be done, and then sees another version.
        query = (
            select(keys.c.id, keys.c.rotation_responsible_id)
            .where(self._own(keys), keys.c.owner_id == member_id, concerned)
            .order_by(keys.c.id)
            .with_for_update()
        )
        found = (await self._connection.execute(query)).all()
        for row in found:
            values: dict[str, Any] = {"update_time": time, "version": keys.c.version + 1}
            if fate is KeyFate.SUSPEND:
                values["state"] = KeyState.SUSPENDED.value
            elif fate is KeyFate.REVOKE:
                values |= {"state": KeyState.REVOKED.value, "revoke_time": time}
            else:
                values["owner_id"] = owner_id
                if row.rotation_responsible_id == member_id:
                    values["rotation_responsible_id"] = owner_id
            await self._connection.execute(update(keys).where(self._own(keys), keys.c.id == row.id).values(values))
            self._changes.append((ChangeKind.KEY, child_name(self._organization_id, "keys", row.id), time))
        return [row.id for row in found]

    async def members(self) -> list[Member]:
        ids = select(members.c.id).where(self._own(members)).order_by(members.c.id)
        found = [await self.member(row.id) for row in (await self._connection.execute(ids)).all()]
        return [one for one in found if one is not None]

    async def teams(self) -> list[Team]:
        query = select(teams).where(self._own(teams)).order_by(teams.c.id)
        return [read_team(row) for row in (await self._connection.execute(query)).all()]

    async def traces(self, member_id: str = "") -> Traces:
        return await erasure.traces(self._connection, self._organization_id, member_id)

    async def deny_requests(self, member_id: str, *, by: str, reason: str, time: datetime) -> None:
        decision = {"decided_by": by, "decision_reason": reason, "decide_time": time}
        await erasure.deny_requests(self._connection, self._organization_id, member_id, decision)

    async def forget(self, member_id: str = "") -> None:
        await erasure.forget(self._connection, self._organization_id, member_id)

    async def record_changes(self) -> None:
        """Write down what changed, and what tells of it. Call it last: writers of all organizations queue up here."""
        await record_events(self._connection, self._events)
        for kind, name, time in self._changes:
            await record_change(self._connection, kind, name, time)

    async def _put_member(self, member: Member) -> None:
        await self._save(members, member_row(member), and_(self._own(members), members.c.id == member.id))
        await self._connection.execute(
            delete(member_teams).where(self._own(member_teams), member_teams.c.member_id == member.id)
        )
        if member.team_ids:
            await self._connection.execute(member_teams.insert(), member_team_rows(member))

    async def _save(self, table: Table, row: dict[str, Any], same: ColumnElement[bool]) -> None:
        found = await self._connection.execute(update(table).where(same).values(row))
        if not found.rowcount:
            await self._connection.execute(table.insert(), row)

    async def _first(self, table: Table, *wanted: ColumnElement[bool]) -> Any:
        return (await self._connection.execute(select(table).where(*wanted).limit(1))).first()

    def _own(self, table: Table) -> ColumnElement[bool]:
        own: ColumnElement[bool] = table.c.organization_id == self._organization_id
        return own
