"""Members and organizations erased: personal data goes everywhere, and totals and the audit chain stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.rules import check_printable
from tokendance_server.domain.names import child_name, child_of, organization_or_id
from tokendance_server.domain.organizations import Member, MemberState, Organization, OrganizationState
from tokendance_server.domain.people.audited import Settled, erasure_event, key_fate_events
from tokendance_server.domain.people.members import require_another_admin
from tokendance_server.domain.people.records import ERASED, KeyFate, Traces
from tokendance_server.domain.people.rules import check_etag, failed, nothing_here
from tokendance_server.domain.people.store import PeopleStore, Tenant
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, is_platform_admin

_REQUESTER_GONE = "Who asked for it was erased."


class Pseudonyms(Protocol):
    """Keeps usage, in which somebody can get another name."""

    async def pseudonymise(self, organization_id: str, member_id: str, pseudonym: str) -> None:
        """Put a pseudonym in a member's place, in rows and sums, and remove what else tells who it was."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did, or would do. `audit_events` are those whose personal data goes."""

    members: int
    traces: Traces


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told on this node at once: of keys by their ids, of organizations by their names."""

    keys_changed: Callable[[str], None]
    organization_changed: Callable[[str], None]


class Erasure:
    """Erases members and organizations, each in one transaction; usage follows it, in pieces, before the answer.

    An erasure that was cut off in between is finished by its repeat. Every method raises not_found for what is outside
    the caller's scope.
    """

    def __init__(self, store: PeopleStore, usage: Pseudonyms, clock: Clock, listeners: Listeners) -> None:
        self._store = store
        self._usage = usage
        self._clock = clock
        self._listeners = listeners

    async def member(
        self, caller: Principal, name: str, *, reason: str, validate_only: bool = False, origin: Origin = AUTOMATIC
    ) -> Erased:
        """Erase a member, also one who is out; one who is erased stays so. With `validate_only`, check and count.

        Raises failed_precondition for the last administrator.
        """
        organization_id, wanted_id = child_of(name, "members", "name")
        if not changes_all(caller, organization_id):
            raise nothing_here("member")
        check_printable(reason, "reason")
        now, keys = self._clock.now(), list[str]()
        async with self._store.tenant(organization_id) as tenant:
            before = await tenant.member(wanted_id)
            if before is None:
                raise nothing_here("member")
            await require_another_admin(tenant, before)
            traces, after = await tenant.traces(before.id), _nobody(before)
            erased = Erased(int(after != before or bool(traces.audit_events)), traces)
            if validate_only:
                return erased
            if erased.members or traces.keys:
                after = replace(after, update_time=now, version=before.version + 1)
                keys = await _end_member(tenant, caller, after, origin, now)
                told = erasure_event(caller, _without_address(origin, caller, before.name), before, after, traces)
                tenant.tell(replace(told, time=now, reason=reason))
        for key_id in keys:
            self._listeners.keys_changed(key_id)
        # Also where nothing else was left: an earlier erasure may have been cut off before this.
        await self._usage.pseudonymise(organization_id, before.id, new_id(ERASED.rstrip("_")))
        return erased

    async def organization(
        self,
        caller: Principal,
        name: str,
        *,
        etag: str,
        reason: str,
        validate_only: bool = False,
        origin: Origin = AUTOMATIC,
    ) -> Erased:
        """Erase a suspended organization; one that is erased stays so. With `validate_only`, check and count.

        Raises failed_precondition for one that works, and version_conflict.
        """
        organization_id = organization_or_id(name, "name")
        if not is_platform_admin(caller):
            raise nothing_here("organization")
        check_printable(reason, "reason")
        now, keys = self._clock.now(), list[str]()
        async with self._store.tenant(organization_id) as tenant:
            before = await tenant.organization()
            if before is None:
                raise nothing_here("organization")
            members = await tenant.members()
            erased = Erased(sum(_nobody(one) != one for one in members), await tenant.traces())
            if before.state is not OrganizationState.ERASED:
                check_etag(before, etag)
                if before.state is not OrganizationState.SUSPENDED:
                    raise failed("Suspend the organization first; what works cannot be erased.")
                if validate_only:
                    return erased
                keys = await _end_organization(tenant, caller, members, origin, now)
                after = await _put_erased(tenant, before, now)
                own = _without_address(origin, caller, before.name)
                told = erasure_event(caller, own, before, after, erased.traces, members=erased.members)
                tenant.tell(replace(told, time=now, reason=reason))
        if not validate_only:
            for key_id in keys:
                self._listeners.keys_changed(key_id)
            self._listeners.organization_changed(before.name)
            for member in members:
                await self._usage.pseudonymise(organization_id, member.id, new_id(ERASED.rstrip("_")))
        return erased


async def _end_organization(
    tenant: Tenant, caller: Principal, members: list[Member], origin: Origin, now: datetime
) -> list[str]:
    keys: list[str] = []
    for member in members:
        gone = _nobody(member)
        if gone != member:
            gone = replace(gone, update_time=now, version=member.version + 1)
        keys += await _end_member(tenant, caller, gone, origin, now)
    return keys


async def _end_member(tenant: Tenant, caller: Principal, gone: Member, origin: Origin, now: datetime) -> list[str]:
    """Keep a member as nobody in particular, and end what it had; return the ids of the keys that ended."""
    await tenant.put(gone, now)
    keys = await tenant.settle_keys(gone.id, KeyFate.REVOKE, "", now)
    names = [child_name(gone.organization_id, "keys", key_id) for key_id in keys]
    tenant.tell(*key_fate_events(caller, origin, gone, names, Settled(KeyFate.REVOKE, ""), time=now))
    await tenant.deny_requests(gone.id, by=caller.name, reason=_REQUESTER_GONE, time=now)
    await tenant.forget(gone.id)
    return keys


async def _put_erased(tenant: Tenant, before: Organization, now: datetime) -> Organization:
    for team in await tenant.teams():
        # The name of a team is once in its organization, and its id is so too.
        bare = replace(team, display_name=team.id, description="", labels={}, update_time=now, version=team.version + 1)
        await tenant.put(bare, now)
    after = replace(before, display_name="", contact="", labels={}, state=OrganizationState.ERASED)
    after = replace(after, update_time=now, version=before.version + 1)
    await tenant.put(after, now)
    await tenant.forget()
    return after


def _nobody(member: Member) -> Member:
    return replace(member, subject="", email="", display_name="", roles=(), team_ids=(), state=MemberState.REMOVED)


def _without_address(origin: Origin, caller: Principal, erased: str) -> Origin:
    """Return where it came from; who erases itself, or its organization, leaves no address behind."""
    own = caller.name == erased or caller.name.startswith(f"{erased}/")
    return Origin(origin.request_id, origin.source) if own else origin
