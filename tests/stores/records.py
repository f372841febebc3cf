"""Organizations, teams and members put into stores, each change recorded as everywhere."""

from __future__ import annotations

from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.domain.people.store import PeopleStore


async def keep(people: PeopleStore, *records: Organization | Team | Member) -> None:
    """Put records of one organization into a store, in one transaction."""
    first = records[0]
    async with people.tenant(first.id if isinstance(first, Organization) else first.organization_id) as tenant:
        for record in records:
            await tenant.put(record, record.create_time)
