"""Organizations, teams and members in SQL, as keys and the first start ask for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.people_rows import (
    member_row,
    member_team_rows,
    organization_row,
    read_member,
    read_organization,
    read_team,
    team_row,
)
from tokendance_server.stores.sql.tables import member_teams, members, organizations, teams


class SqlOrganizationStore:
    """Satisfies OrganizationStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_first(self, organization: Organization, team: Team, member: Member) -> bool:
        async with self._database.transaction() as connection:
            await self._database.lock(connection, "first organization")
            if (await connection.execute(select(exists(select(organizations.c.id))))).scalar():
                return False
            await connection.execute(organizations.insert(), organization_row(organization))
            await connection.execute(teams.insert(), team_row(team))
            await _insert_member(connection, member)
        return True

    async def add(self, organization: Organization) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(organizations.insert(), organization_row(organization))

    async def add_team(self, team: Team) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(teams.insert(), team_row(team))

    async def add_member(self, member: Member) -> None:
        async with self._database.transaction() as connection:
            await _insert_member(connection, member)

    async def get(self, organization_id: str) -> Organization | None:
        query = select(organizations).where(organizations.c.id == organization_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else read_organization(row)

    async def get_team(self, organization_id: str, team_id: str) -> Team | None:
        query = select(teams).where(teams.c.organization_id == organization_id, teams.c.id == team_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else read_team(row)

    async def get_member(self, organization_id: str, member_id: str) -> Member | None:
        query = member_query(organization_id, member_id)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return read_member(rows[0], [row.team_id for row in rows if row.team_id]) if rows else None


def member_query(organization_id: str, member_id: str) -> Any:
    """Return the statement that reads a member, with one row for each team, or one without any."""
    joined = and_(member_teams.c.organization_id == members.c.organization_id, member_teams.c.member_id == members.c.id)
    return (
        select(members, member_teams.c.team_id)
        .join_from(members, member_teams, joined, isouter=True)
        .where(members.c.organization_id == organization_id, members.c.id == member_id)
    )


async def _insert_member(connection: AsyncConnection, member: Member) -> None:
    await connection.execute(members.insert(), member_row(member))
    if member.team_ids:
        await connection.execute(member_teams.insert(), member_team_rows(member))
