"""Members in dicts as sign-ins look for them: in every organization at once."""

from __future__ import annotations

from tokendance_server.domain.organizations import Member, MemberState
from tokendance_server.stores.memory import MemoryOrganizationStore


class MemoryDirectory:
    """Satisfies Directory."""

    def __init__(self, records: MemoryOrganizationStore) -> None:
        self._records = records

    async def find_members(self, subject: str, email: str) -> list[Member]:
        found = [
            one
            for one in self._records.all_members()
            if one.subject == subject
            or (email and one.email.casefold() == email and not one.subject and one.state is MemberState.INVITED)
        ]
        return sorted(found, key=lambda one: (one.organization_id, one.id))

    async def get_member(self, organization_id: str, member_id: str) -> Member | None:
        return await self._records.get_member(organization_id, member_id)
