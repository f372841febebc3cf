"""Members: created, read, listed, changed, suspended, resumed and taken out, with what becomes of their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, EventDraft, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.rules import check_printable, invalid, missing
from tokendance_server.domain.names import child_name, child_of, organization_of
from tokendance_server.domain.organizations import Member, MemberRole, MemberState
from tokendance_server.domain.people.audited import Settled, key_fate_events, people_event
from tokendance_server.domain.people.records import CreateMark, Cursor, KeyFate, MemberDraft, MemberFilter
from tokendance_server.domain.people.rules import (
    Paging,
    already_there,
    check_etag,
    check_identified,
    check_member,
    check_not_erased,
    check_repeat,
    failed,
    fingerprint,
    nothing_here,
)
from tokendance_server.domain.people.store import PeopleStore, Tenant
from tokendance_server.domain.people.teams import organization_asked, own_teams
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, is_platform_admin, member_id, reads_all

_ROLE_ORDER = list(MemberRole)


@dataclass(frozen=True, slots=True)
class CountedMember:
    """A member, and how many of the keys that it owns work."""

    member: Member
    keys: int


@dataclass(frozen=True, slots=True)
class MemberQuery:
    """A list as asked for. `page_size` is 0 to 1,000; 0 means 100."""

    parent: str
    page_size: int = 0
    page_token: str = ""
    team: str = ""
    role: MemberRole | None = None
    state: MemberState | None = None
    query: str = ""


@dataclass(frozen=True, slots=True)
class _Stop:
    """Who stops a member, how far, and what the trail says of it."""

    caller: Principal
    origin: Origin
    reason: str
    to: MemberState
    action: str


class MemberLife:
    """What is done with members. `keys_changed` is called with the id of each key that changed with its owner.

    Every method raises not_found for what is outside the caller's scope.
    """

    def __init__(self, store: PeopleStore, clock: Clock, paging: Paging, keys_changed: Callable[[str], None]) -> None:
        self._store = store
        self._clock = clock
        self._paging = paging
        self._keys_changed = keys_changed

    async def create(
        self, caller: Principal, parent: str, draft: MemberDraft, request_id: str = "", *, origin: Origin = AUTOMATIC
    ) -> CountedMember:
        """Make a member, who has yet to sign in.

        Raises invalid_request, not_found for a team, already_exists for a subject or address that another member of
        the organization has, and idempotency_conflict.
        """
        organization_id = organization_of(parent, "parent")
        if not changes_all(caller, organization_id):
            raise nothing_here("organization", "parent")
        check_member(draft)
        check_identified(draft)
        check_printable(request_id, "request_id")
        mark, now = fingerprint(draft), self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            organization = await tenant.organization()
            if organization is None:
                raise nothing_here("organization", "parent")
            check_not_erased(organization, "parent")
            earlier = await tenant.made_by("member", request_id) if request_id else None
            if earlier is not None:
                check_repeat(earlier.fingerprint, mark)
                made = await tenant.member(earlier.made_id)
                if made is None:
                    raise nothing_here("member")
            else:
                blank = Member(organization_id, new_id("user"), draft.display_name, now)
                made = await _filled(tenant, blank, draft, MemberDraft())
                if request_id:
                    await tenant.mark_made("member", request_id, CreateMark(made.id, mark))
                await tenant.put(made, now, people_event(caller, origin, "member.create", None, made, time=now))
        return await self._counted(made)

    async def get(self, caller: Principal, name: str) -> CountedMember:
        """Return a member. Members who read not everything see themselves and those who share a team with them."""
        organization_id, wanted_id = child_of(name, "members", "name")
        async with self._store.tenant(organization_id) as tenant:
            member = await tenant.member(wanted_id)
        if member is None:
            raise nothing_here("member")
        if not reads_all(caller, organization_id):
            teams = await own_teams(self._store, caller, organization_id)
            own_name = child_name(organization_id, "members", wanted_id)
            if caller.name != own_name and teams.isdisjoint(member.team_ids):
                raise nothing_here("member")
        return await self._counted(member)

    async def page(self, caller: Principal, query: MemberQuery) -> tuple[list[CountedMember], str]:
        """Return a page by name, and the token of the next one: empty where this was the last."""
        organization_id = await organization_asked(self._store, caller, query.parent)
        team_organization, team_id = child_of(query.team, "teams", "team") if query.team else ("", "")
        if organization_id and team_organization not in ("", organization_id):
            raise invalid("team", "must be of the organization in parent")
        wanted = MemberFilter(
            organization_id or team_organization, query.query.casefold(), team_id, query.role, query.state
        )
        if not is_platform_admin(caller) and not reads_all(caller, organization_id):
            own_id = member_id(caller)
            if not own_id:
                return [], ""
            teams = await own_teams(self._store, caller, organization_id)
            wanted = replace(wanted, seen_by=own_id, seen_teams=teams)
        binding = (
            *("members", caller.name, wanted.organization_id, wanted.query),
            *(wanted.team_id, wanted.role, wanted.state),
        )
        size, after = self._paging.start(query.page_size, query.page_token, *binding)
        found = await self._store.members(wanted, after, size)
        page, token = found, ""
        if len(found) == size:
            page = found[: size - 1]
            token = self._paging.next_token(Cursor(page[-1].organization_id, page[-1].id), *binding)
        return await self._count(page), token

    async def update(
        self,
        caller: Principal,
        name: str,
        wanted: MemberDraft,
        fields: frozenset[str],
        etag: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> CountedMember:
        """Take over the named fields of a draft.

        Raises as `create`; also version_conflict, and failed_precondition for a member who is out, and for taking its
        role from the last administrator.
        """
        organization_id, wanted_id = child_of(name, "members", "member.name")
        if not changes_all(caller, organization_id):
            raise nothing_here("member", "member.name")
        now = self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            before = await tenant.member(wanted_id)
            if before is None:
                raise nothing_here("member", "member.name")
            check_etag(before, etag)
            if before.state is MemberState.REMOVED:
                raise failed("This member is out of the organization for good; create another one.")
            former = _draft_of(before)
            draft = replace(former, **{field: getattr(wanted, field) for field in fields})
            check_member(draft)
            after = await _filled(tenant, before, draft, former)
            if MemberRole.ADMIN not in after.roles:
                await require_another_admin(tenant, before)
            if after != before:
                after = replace(after, update_time=now, version=before.version + 1)
                await tenant.put(after, now, people_event(caller, origin, "member.update", before, after, time=now))
        return await self._counted(after)

    async def suspend(
        self,
        caller: Principal,
        name: str,
        *,
        fate: KeyFate | None = None,
        keys_owner: str = "",
        reason: str = "",
        origin: Origin = AUTOMATIC,
    ) -> tuple[CountedMember, list[str]]:
        """Stop a member; return it and the names of the keys that changed. One who is stopped stays as it is.

        What becomes of the keys is told by `fate` and `keys_owner`, or by the policy. Raises failed_precondition for
        the last administrator and for a member who is out, and invalid_request or not_found for `keys_owner`.
        """
        deed = _Stop(caller, origin, reason, MemberState.SUSPENDED, "member.suspend")
        member, keys = await self._stop(deed, name, fate=fate, keys_owner=keys_owner)
        return await self._counted(member), keys

    async def delete(
        self,
        caller: Principal,
        name: str,
        *,
        fate: KeyFate | None = None,
        keys_owner: str = "",
        etag: str = "",
        reason: str = "",
        origin: Origin = AUTOMATIC,
    ) -> list[str]:
        """Take a member out, as `suspend`; return the names of the keys that changed. Raises version_conflict too."""
        deed = _Stop(caller, origin, reason, MemberState.REMOVED, "member.delete")
        return (await self._stop(deed, name, fate=fate, keys_owner=keys_owner, etag=etag))[1]

    async def resume(self, caller: Principal, name: str, *, origin: Origin = AUTOMATIC) -> CountedMember:
        """Let a suspended member sign in again; its keys stay as they are. Raises failed_precondition."""
        organization_id, wanted_id = child_of(name, "members", "name")
        if not changes_all(caller, organization_id):
            raise nothing_here("member")
        now = self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            member = await tenant.member(wanted_id)
            if member is None:
                raise nothing_here("member")
            if member.state is MemberState.REMOVED:
                raise failed("This member is out of the organization for good; create another one.")
            if member.state is MemberState.SUSPENDED:
                state = MemberState.ACTIVE if member.subject else MemberState.INVITED
                before = member
                member = replace(member, state=state, update_time=now, version=member.version + 1)
                await tenant.put(member, now, people_event(caller, origin, "member.resume", before, member, time=now))
        return await self._counted(member)

    async def _stop(
        self, deed: _Stop, name: str, *, fate: KeyFate | None, keys_owner: str, etag: str = ""
    ) -> tuple[Member, list[str]]:
        organization_id, wanted_id = child_of(name, "members", "name")
        if not changes_all(deed.caller, organization_id):
            raise nothing_here("member")
        check_printable(deed.reason, "reason")
        now = self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            member = await tenant.member(wanted_id)
            if member is None:
                raise nothing_here("member")
            if member.state is deed.to:
                return member, []
            check_etag(member, etag)
            if member.state is MemberState.REMOVED:
                raise failed("This member is out of the organization for good.")
            await require_another_admin(tenant, member)
            fate, owner_id = await _fate_of(tenant, member, fate, keys_owner)
            before, member = member, await _put_stopped(tenant, member, deed.to, now)
            changed = await tenant.settle_keys(member.id, fate, owner_id, now)
            names = [child_name(organization_id, "keys", key_id) for key_id in changed]
            tenant.tell(*_stop_events(deed, now, (before, member), names, Settled(fate, owner_id)))
        for key_id in changed:
            self._keys_changed(key_id)
        return member, names

    async def _counted(self, member: Member) -> CountedMember:
        (counted,) = await self._count([member])
        return counted

    async def _count(self, members: list[Member]) -> list[CountedMember]:
        ids = [member.id for member in members]
        keys: Mapping[str, int] = await self._store.count_keys("owner", ids, self._clock.now()) if ids else {}
        return [CountedMember(member, keys.get(member.id, 0)) for member in members]


def _stop_events(
    deed: _Stop, now: datetime, members: tuple[Member, Member], keys: list[str], settled: Settled
) -> list[EventDraft]:
    """Return the event of who was stopped (before, after), and one for each key that fared with it."""
    caller, origin = deed.caller, deed.origin
    told = people_event(caller, origin, deed.action, *members, time=now, reason=deed.reason, changed_keys=keys)
    return [told, *key_fate_events(caller, origin, members[1], keys, settled, time=now)]


async def _put_stopped(tenant: Tenant, member: Member, to: MemberState, now: datetime) -> Member:
    # Who is out counts in no team, so that the team can be deleted.
    team_ids = () if to is MemberState.REMOVED else member.team_ids
    stopped = replace(member, state=to, team_ids=team_ids, update_time=now, version=member.version + 1)
    await tenant.put(stopped, now)
    return stopped


async def _filled(tenant: Tenant, member: Member, draft: MemberDraft, former: MemberDraft) -> Member:
    """Return a member with the values of a draft; what is as in `former` is not looked up again."""
    if draft.subject and draft.subject != former.subject and await tenant.member_with(subject=draft.subject):
        raise already_there("member.subject", "Another member of this organization has this subject.")
    new_email = draft.email.casefold() != former.email.casefold()
    if draft.email and new_email and await tenant.member_with(email=draft.email):
        raise already_there("member.email", "Another member of this organization has this address.")
    team_ids = []
    for index, name in enumerate(draft.teams):
        param = f"member.teams[{index}]"
        team_organization, team_id = child_of(name, "teams", param)
        if team_organization != member.organization_id:
            raise missing(param, "team")
        if name not in former.teams and await tenant.team(team_id) is None:
            raise missing(param, "team")
        team_ids.append(team_id)
    return replace(
        member,
        subject=draft.subject,
        email=draft.email,
        display_name=draft.display_name,
        roles=tuple(sorted(set(draft.roles), key=_ROLE_ORDER.index)),
        team_ids=tuple(sorted(set(team_ids))),
    )


def _draft_of(member: Member) -> MemberDraft:
    teams = tuple(child_name(member.organization_id, "teams", team_id) for team_id in member.team_ids)
    return MemberDraft(member.subject, member.email, member.display_name, member.roles, teams)


async def require_another_admin(tenant: Tenant, member: Member) -> None:
    """Raise failed_precondition where a member is the only administrator who may sign in."""
    if MemberRole.ADMIN in member.roles and member.works and not await tenant.other_admins(member.id):
        raise failed("This is the organization's last administrator; make another one first.")


async def _fate_of(tenant: Tenant, member: Member, fate: KeyFate | None, keys_owner: str) -> tuple[KeyFate, str]:
    """Return what becomes of a member's keys, and who gets them: as asked for, or as the policy says."""
    if keys_owner and fate is not KeyFate.REASSIGN:
        raise invalid("keys_owner", "goes with reassigning the keys only")
    policy = await tenant.policy()
    fate = fate or policy.orphaned_keys or KeyFate.SUSPEND
    if fate is not KeyFate.REASSIGN:
        return fate, ""
    owner_id = policy.orphaned_keys_owner_id
    if keys_owner:
        owner_organization, owner_id = child_of(keys_owner, "members", "keys_owner")
        if owner_organization != member.organization_id:
            raise missing("keys_owner", "member")
    if not owner_id:
        raise invalid("keys_owner", "is required, because the policy names nobody who gets the keys")
    owner = await tenant.member(owner_id)
    if owner is None:
        raise missing("keys_owner", "member")
    if owner.id == member.id or not owner.works:
        raise failed("Keys go to another member, who is neither suspended nor out.", "keys_owner")
    return fate, owner_id
