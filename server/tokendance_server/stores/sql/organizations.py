"""Organizations, teams and members in SQL, as keys and the first start ask for them."""

from __future__ import annotations

from sqlalchemy import exists, select

from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.people_rows import member_query, read_member, read_organization, read_team
from tokendance_server.stores.sql.tables import organizations, teams
from tokendance_server.stores.sql.tenant import SqlTenant


class SqlOrganizationStore:
    """Satisfies OrganizationStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_first(self, organization: Organization, team: Team, member: Member) -> bool:
        async with self._database.transaction() as connection:
            await self._database.lock(connection, "first organization")
            if (await connection.execute(select(exists(select(organizations.c.id))))).scalar():
                return False
            tenant = SqlTenant(connection, organization.id)
            for record in (organization, team, member):
                await tenant.put(record, record.create_time)
            await tenant.record_changes()
        return True

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
