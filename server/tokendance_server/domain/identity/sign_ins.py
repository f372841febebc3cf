"""Which member of which organization somebody is who has signed in, and whether that member may still come in.

The identity provider says who somebody is, the records here say whether they are welcome. Both are looked at with
every call: the records from memory, where changes on whichever node make them be forgotten within a second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance_server.domain.changes import Change
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.roles import Grant, Person, Role, denied, principal_of
from tokendance_server.domain.keys.cache import TimedCache
from tokendance_server.domain.names import organization_name, tenant_of
from tokendance_server.domain.organizations import Member, MemberRole, MemberState
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import member_id

_ROLES: dict[MemberRole, Role] = {
    MemberRole.MEMBER: "member",
    MemberRole.ADMIN: "organization_admin",
    MemberRole.AUDITOR: "auditor",
}
_CACHE_SIZE = 10_000
# Changes are told; this bounds only how long an unchanged record is believed.
_CACHE_S = 60.0
_MOST_READS = 3


class Directory(Protocol):
    """Finds members, whichever organization they belong to."""

    async def find_members(self, subject: str, email: str) -> list[Member]:
        """Return those of this subject in whichever state, and who is invited by this address and has no subject.

        `email` is in folded case; empty stands for none.
        """

    async def get_member(self, organization_id: str, member_id: str) -> Member | None:
        """Return a member, or None where that organization has none of this id."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the records say of somebody: the members they may be, and which organizations are stopped."""

    members: tuple[Member, ...]
    stopped: frozenset[str]


class SignIns:
    """Makes callers of people who have signed in.

    `governed` are the organizations (`organizations/{o}`) whose people are told by groups. `works` tells whether the
    organization of an id is not suspended, `sighted` whether changes made on other nodes are seen. `activate` records
    that an invited member has come, with the subject; `stop` that one is in no group any more.
    """

    def __init__(
        self,
        directory: Directory,
        clock: Clock,
        *,
        governed: Collection[str],
        works: Callable[[str], Awaitable[bool]],
        sighted: Callable[[], bool],
        activate: Callable[[Member, str], Awaitable[None]],
        stop: Callable[[Member], Awaitable[None]],
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._governed = frozenset(governed)
        self._works = works
        self._sighted = sighted
        self._activate = activate
        self._stop = stop
        self._seen: TimedCache[_Seen] = TimedCache(_CACHE_SIZE, _CACHE_S)
        self._changes = 0

    def changed(self, change: Change) -> None:
        """Forget everybody: who an invitation is for is not told by its name, and records are few."""
        self.everything_changed()

    def everything_changed(self) -> None:
        """Forget everybody."""
        self._changes += 1
        self._seen.clear()

    async def principal(self, person: Person) -> Principal:
        """Return the caller that somebody is, with the roles of their groups and those of their record.

        Raises permission_denied for who has no role, is suspended or out, or whose organization is suspended.
        """
        if any(not grant.organization for grant in person.grants):
            # Of the whole platform: no organization has a say in it.
            return principal_of(person.subject, person.grants)
        seen = await self._look(person)
        await self._stop_those_gone(person, seen.members)
        if person.grants:
            principal_of(person.subject, person.grants)  # raises where roles of two organizations would meet
            organization = next(iter(person.grants)).organization
            member = _best(one for one in seen.members if organization_name(one.organization_id) == organization)
        else:
            member = self._member_by_record(seen.members)
            organization = organization_name(member.organization_id)
        if organization in seen.stopped:
            raise organization_stopped()
        if member is None:
            return principal_of(person.subject, person.grants)
        require_working(member)
        if member.state is MemberState.INVITED or not member.subject:
            await self._activate(member, person.subject)
            self.everything_changed()
        own = {_grant(role, organization) for role in member.roles}
        return principal_of(person.subject, person.grants | own, member.name)

    async def vouch(self, principal: Principal) -> Principal:
        """Return a caller whom the development issuer names, if the member or organization that it names works.

        Raises permission_denied.
        """
        own_id, organization_id = member_id(principal), tenant_of(principal.organization)
        if not organization_id:
            return principal
        person = Person(principal.name, "", frozenset())
        seen = await self._read_through(person, lambda: self._read_named(organization_id, own_id))
        if principal.organization in seen.stopped:
            raise organization_stopped()
        for member in seen.members:
            require_working(member)
        return principal

    def _member_by_record(self, members: tuple[Member, ...]) -> Member:
        """Return the one member that somebody is whom no group gives a role. Raises permission_denied."""
        # Where groups tell who belongs to an organization, a record alone opens nothing.
        own = [one for one in members if organization_name(one.organization_id) not in self._governed]
        working = [one for one in own if one.state is MemberState.ACTIVE]
        # An invitation by somebody else must not shut out who is a member already.
        working = working or [one for one in own if one.state is MemberState.INVITED]
        if len(working) > 1:
            raise denied("You are a member of more than one organization; ask for an account in one of them.")
        member = working[0] if working else _best(own)
        if member is None:
            raise denied(
                "Your sign-in is good, but you have no role here: none of your groups carries one, and no member has "
                "your subject or verified address; ask an administrator to invite you."
            )
        return member

    async def _stop_those_gone(self, person: Person, members: tuple[Member, ...]) -> None:
        """Stop the members that somebody was by groups that the identity provider no longer says they are in."""
        if not person.told_groups:
            return
        granted = {grant.organization for grant in person.grants}
        for one in members:
            organization = organization_name(one.organization_id)
            gone = organization in self._governed and organization not in granted
            if gone and one.state is MemberState.ACTIVE and one.subject == person.subject:
                await self._stop(one)
                self.everything_changed()

    async def _look(self, person: Person) -> _Seen:
        return await self._read_through(person, lambda: self._read(person))

    async def _read(self, person: Person) -> _Seen:
        members = await self._directory.find_members(person.subject, person.email)
        ids = {one.organization_id for one in members}
        ids |= {tenant_of(grant.organization) for grant in person.grants}
        return _Seen(tuple(members), await self._stopped(ids))

    async def _read_named(self, organization_id: str, own_id: str) -> _Seen:
        member = await self._directory.get_member(organization_id, own_id) if own_id else None
        return _Seen(() if member is None else (member,), await self._stopped({organization_id}))

    async def _stopped(self, organization_ids: Iterable[str]) -> frozenset[str]:
        return frozenset([organization_name(one) for one in organization_ids if not await self._works(one)])

    async def _read_through(self, person: Person, read: Callable[[], Awaitable[_Seen]]) -> _Seen:
        """Return what is remembered, or what `read` returns; what a change overtook is read again."""
        if not self._sighted():
            return await read()
        asked = self._clock.monotonic()
        parts = [person.subject, person.email, sorted({grant.organization for grant in person.grants})]
        key = hashlib.sha256(json.dumps(parts).encode()).digest()
        seen = self._seen.get(key, asked)
        if seen is not None:
            return seen
        for _ in range(_MOST_READS):
            asked, before = self._clock.monotonic(), self._changes
            seen = await read()
            if self._changes == before:
                self._seen.put(key, seen, asked)
                return seen
        return await read()


def _best(members: Iterable[Member]) -> Member | None:
    """Return the member that counts where there are several: one that works, then one that may work again."""
    order = (MemberState.ACTIVE, MemberState.INVITED, MemberState.SUSPENDED, MemberState.REMOVED)
    return min(members, key=lambda one: order.index(one.state), default=None)


def organization_stopped() -> GatewayError:
    """Return permission_denied for people of an organization that does not work."""
    return denied("Your organization is suspended, or there is none of its name; ask a platform administrator.")


def require_working(member: Member) -> None:
    """Raise permission_denied for a member who is suspended or out."""
    if member.state is MemberState.SUSPENDED:
        error = denied("You are suspended in your organization; ask its administrator.")
    elif member.state is MemberState.REMOVED:
        error = denied("You are no longer a member of this organization; ask its administrator.")
    else:
        return
    error.metadata["member_state"] = member.state.value
    raise error


def _grant(role: MemberRole, organization: str) -> Grant:
    return Grant(_ROLES[role], organization)
