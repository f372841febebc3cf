"""What a sign-in changes: an invited member has come, and one whom no group names any more is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.audit.events import AUTOMATIC
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.roles import denied
from tokendance_server.domain.organizations import Member, MemberState
from tokendance_server.domain.people.audited import people_event
from tokendance_server.domain.people.members import MemberLife
from tokendance_server.domain.people.store import PeopleStore
from tokendance_server.domain.principals import Principal

IDENTITY_PROVIDER = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="identity-provider")
"""In whose name the gateway acts on what a token says of its bearer."""


class Arrivals:
    """Keeps the members' records in step with what the identity provider says.

    `report` gets the name of a member who could not be stopped, and why.
    """

    def __init__(
        self, store: PeopleStore, members: MemberLife, clock: Clock, report: Callable[[str, GatewayError], None]
    ) -> None:
        self._store = store
        self._members = members
        self._clock = clock
        self._report = report

    async def activate(self, member: Member, subject: str) -> None:
        """Record that an invited member has come. Raises permission_denied where the invitation is gone meanwhile."""
        now = self._clock.now()
        async with self._store.tenant(member.organization_id) as tenant:
            kept = await tenant.member(member.id)
            if kept is None or not kept.works or kept.subject not in ("", subject):
                raise denied("The invitation was taken back or used meanwhile; ask an administrator.")
            if kept.state is MemberState.ACTIVE and kept.subject == subject:
                return
            holder = await tenant.member_with(subject=subject)
            if holder is not None and holder.id != kept.id:
                raise denied("Another member of this organization has your subject; ask an administrator.")
            came = replace(kept, state=MemberState.ACTIVE, subject=subject, update_time=now, version=kept.version + 1)
            told = people_event(IDENTITY_PROVIDER, AUTOMATIC, "member.join", kept, came, time=now)
            await tenant.put(came, now, told)

    async def stop(self, member: Member) -> None:
        """Suspend a member and let its keys fare as the policy says; the last administrator is only reported."""
        try:
            await self._members.suspend(
                IDENTITY_PROVIDER, member.name, reason="None of the groups at the identity provider names the member."
            )
        except GatewayError as error:
            # Their token is refused all the same; what remains is for a person to decide.
            self._report(member.name, error)
