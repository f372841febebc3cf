"""The lists of organizations, teams and members in SQL, and the transactions in which they change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Table, and_, exists, func, or_, select

from tokendance_server.domain.keys.key import KeyState
from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.domain.people.records import (
    Cursor,
    MemberFilter,
    OrganizationFilter,
    Policy,
    Preferences,
    TeamFilter,
)
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.people_rows import read_member, read_organization, read_policy, read_team
from tokendance_server.stores.sql.tables import keys, member_teams, members, organizations, policies, preferences, teams
from tokendance_server.stores.sql.tenant import SqlTenant


class SqlPeopleStore:
    """Satisfies PeopleStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def tenant(self, organization_id: str) -> AsyncIterator[SqlTenant]:
        try:
            async with self._database.transaction() as connection:
                await self._database.lock(connection, f"organization {organization_id}")
                tenant = SqlTenant(connection, organization_id)
                yield tenant
                await tenant.record_changes()
        except ConflictError as exc:
            raise StoreUnavailableError("the change contradicts what is kept") from exc

    async def find_team(self, team_id: str) -> Team | None:
        async with self._database.read() as connection:
            row = (await connection.execute(select(teams).where(teams.c.id == team_id).limit(1))).first()
        return None if row is None else read_team(row)

    async def organizations(self, filter: OrganizationFilter, after: Cursor | None, limit: int) -> list[Organization]:
        wanted = _words(organizations, filter.query)
        if filter.organization_id:
            wanted.append(organizations.c.id == filter.organization_id)
        if filter.state is not None:
            wanted.append(organizations.c.state == filter.state.value)
        if after is not None:
            wanted.append(organizations.c.id > after.organization_id)
        query = select(organizations).where(and_(True, *wanted)).order_by(organizations.c.id).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [read_organization(row) for row in rows]

    async def teams(self, filter: TeamFilter, after: Cursor | None, limit: int) -> list[Team]:
        wanted = [*_words(teams, filter.query), *_place(teams, filter.organization_id, after)]
        if filter.only_ids is not None:
            wanted.append(teams.c.id.in_(filter.only_ids))
        query = select(teams).where(and_(True, *wanted)).order_by(teams.c.organization_id, teams.c.id).limit(limit)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [read_team(row) for row in rows]

    async def members(self, filter: MemberFilter, after: Cursor | None, limit: int) -> list[Member]:
        page = (
            select(members)
            .where(and_(True, *_member_conditions(filter, after)))
            .order_by(members.c.organization_id, members.c.id)
            .limit(limit)
            .subquery()
        )
        joined = and_(member_teams.c.organization_id == page.c.organization_id, member_teams.c.member_id == page.c.id)
        query = (
            select(page, member_teams.c.team_id)
            .join_from(page, member_teams, joined, isouter=True)
            .order_by(page.c.organization_id, page.c.id)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        grouped: dict[tuple[str, str], list[Any]] = {}
        for row in rows:
            grouped.setdefault((row.organization_id, row.id), []).append(row)
        return [read_member(of_one[0], [row.team_id for row in of_one if row.team_id]) for of_one in grouped.values()]

    async def policy(self, organization_id: str) -> Policy:
        async with self._database.read() as connection:
            query = select(policies).where(policies.c.organization_id == organization_id)
            row = (await connection.execute(query)).first()
        return Policy(organization_id) if row is None else read_policy(row)

    async def count_members(self, team_ids: Collection[str]) -> Mapping[str, int]:
        query = (
            select(member_teams.c.team_id, func.count().label("number"))
            .where(member_teams.c.team_id.in_(team_ids))
            .group_by(member_teams.c.team_id)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row.team_id: row.number for row in rows}

    async def count_keys(
        self, column: Literal["team", "owner"], ids: Collection[str], now: datetime
    ) -> Mapping[str, int]:
        counted = keys.c.team_id if column == "team" else keys.c.owner_id
        query = (
            select(counted.label("id"), func.count().label("number"))
            .where(
                counted.in_(ids),
                keys.c.state == KeyState.ACTIVE.value,
                or_(keys.c.expire_time.is_(None), keys.c.expire_time > now),
            )
            .group_by(counted)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return {row.id: row.number for row in rows}

    async def preferences(self, name: str) -> Preferences:
        query = select(preferences.c.document).where(preferences.c.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return Preferences() if row is None else Preferences(**row.document)

    async def set_preferences(self, name: str, wanted: Preferences) -> None:
        async with self._database.transaction() as connection:
            await self._database.lock(connection, f"preferences {name}")
            await connection.execute(preferences.delete().where(preferences.c.name == name))
            await connection.execute(preferences.insert(), {"name": name, "document": asdict(wanted)})


def _words(table: Table, query: str) -> list[ColumnElement[bool]]:
    return [table.c.search.contains(query, autoescape=True)] if query else []


def _place(table: Table, organization_id: str, after: Cursor | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if organization_id:
        wanted.append(table.c.organization_id == organization_id)
    if after is not None:
        same = and_(table.c.organization_id == after.organization_id, table.c.id > after.id)
        wanted.append(or_(table.c.organization_id > after.organization_id, same))
    return wanted


def _member_conditions(filter: MemberFilter, after: Cursor | None) -> list[ColumnElement[bool]]:
    """Say in SQL what MemberFilter.matches says."""
    wanted = [*_words(members, filter.query), *_place(members, filter.organization_id, after)]
    if filter.team_id:
        wanted.append(_in_teams({filter.team_id}))
    if filter.role is not None:
        # No name of a role is part of another.
        wanted.append(members.c.roles.contains(filter.role.value))
    if filter.state is not None:
        wanted.append(members.c.state == filter.state.value)
    if filter.seen_by:
        wanted.append(or_(members.c.id == filter.seen_by, _in_teams(filter.seen_teams)))
    return wanted


def _in_teams(team_ids: Collection[str]) -> ColumnElement[bool]:
    return exists(
        select(member_teams.c.team_id).where(
            member_teams.c.organization_id == members.c.organization_id,
            member_teams.c.member_id == members.c.id,
            member_teams.c.team_id.in_(team_ids),
        )
    )
