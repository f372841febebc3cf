"""Members in SQL as sign-ins look for them: in every organization at once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, or_, select

from tokendance_server.domain.organizations import Member, MemberState
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.people_rows import member_query, read_member
from tokendance_server.stores.sql.tables import member_teams, members

# More organizations than anybody is a member of; whoever is, must say which one is meant.
_MOST = 200


class SqlDirectory:
    """Satisfies Directory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_members(self, subject: str, email: str) -> list[Member]:
        same = members.c.subject == subject
        if email:
            invited = and_(
                members.c.folded_email == email,
                members.c.subject == "",
                members.c.state == MemberState.INVITED.value,
            )
            same = or_(same, invited)
        page = select(members).where(same).order_by(members.c.organization_id, members.c.id).limit(_MOST).subquery()
        joined = and_(member_teams.c.organization_id == page.c.organization_id, member_teams.c.member_id == page.c.id)
        query = select(page, member_teams.c.team_id).join_from(page, member_teams, joined, isouter=True)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(page.c.organization_id, page.c.id))).all()
        grouped: dict[tuple[str, str], list[Any]] = {}
        for row in rows:
            grouped.setdefault((row.organization_id, row.id), []).append(row)
        return [read_member(of_one[0], [row.team_id for row in of_one if row.team_id]) for of_one in grouped.values()]

    async def get_member(self, organization_id: str, member_id: str) -> Member | None:
        async with self._database.read() as connection:
            rows = (await connection.execute(member_query(organization_id, member_id))).all()
        return read_member(rows[0], [row.team_id for row in rows if row.team_id]) if rows else None
