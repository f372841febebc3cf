"""Organizations, teams and members in SQL."""

from __future__ import annotations

from sqlalchemy import exists, select

from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import members, organizations, teams


class SqlOrganizationStore:
    """Satisfies OrganizationStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_first(self, organization: Organization, team: Team, member: Member) -> bool:
        async with self._database.transaction() as connection:
            await self._database.lock(connection, "first organization")
            if (await connection.execute(select(exists(select(organizations.c.id))))).scalar():
                return False
            await connection.execute(organizations.insert(), _organization_row(organization))
            await connection.execute(teams.insert(), _child_row(team))
            await connection.execute(members.insert(), _child_row(member))
        return True

    async def add(self, organization: Organization) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(organizations.insert(), _organization_row(organization))

    async def add_team(self, team: Team) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(teams.insert(), _child_row(team))

    async def add_member(self, member: Member) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(members.insert(), _child_row(member))

    async def get(self, organization_id: str) -> Organization | None:
        query = select(organizations).where(organizations.c.id == organization_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else Organization(row.id, row.display_name, row.create_time)

    async def get_team(self, organization_id: str, team_id: str) -> Team | None:
        query = select(teams).where(teams.c.organization_id == organization_id, teams.c.id == team_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else Team(row.organization_id, row.id, row.display_name, row.create_time)

    async def get_member(self, organization_id: str, member_id: str) -> Member | None:
        query = select(members).where(members.c.organization_id == organization_id, members.c.id == member_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else Member(row.organization_id, row.id, row.display_name, row.create_time)


def _organization_row(organization: Organization) -> dict[str, object]:
    return {
        "id": organization.id,
        "display_name": organization.display_name,
        "create_time": organization.create_time,
    }


def _child_row(child: Team | Member) -> dict[str, object]:
    return {
        "organization_id": child.organization_id,
        "id": child.id,
        "display_name": child.display_name,
        "create_time": child.create_time,
    }
