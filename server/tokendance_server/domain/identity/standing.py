"""Whether a caller whose stream runs may still come in: by its key, or by its record as a member."""

from __future__ import annotations

from typing import Protocol

from tokendance.errors import GatewayError
from tokendance_server.domain.identity.sign_ins import organization_stopped, require_working
from tokendance_server.domain.keys.running import Doubts
from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.organizations import Member
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import member_id


class Records(Protocol):
    """Tells of members and their organizations."""

    async def works(self, organization_id: str) -> bool:
        """Tell whether the organization is there and not suspended."""

    async def member(self, organization_id: str, member_id: str) -> Member | None:
        """Return a member in whichever state, or None where the organization has none of this id."""


class Standing:
    """Satisfies Doubts for keys and for members alike."""

    def __init__(self, keys: Doubts, records: Records) -> None:
        self._keys = keys
        self._records = records

    async def refusal(self, principal: Principal) -> GatewayError | None:
        """Return why a caller may come in no more, or None. Asks the store each time."""
        if principal.key_id:
            return await self._keys.refusal(principal)
        organization_id = tenant_of(principal.organization)
        if not await self._records.works(organization_id):
            return organization_stopped()
        member = await self._records.member(organization_id, member_id(principal))
        try:
            if member is not None:
                require_working(member)
        except GatewayError as error:
            return error
        return None
