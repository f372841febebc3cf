"""Teams: created, read, listed, changed and deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.rules import check_printable
from tokendance_server.domain.names import ANY_ORGANIZATION, organization_of, organization_or_id, team_of
from tokendance_server.domain.organizations import Member, Team
from tokendance_server.domain.people.audited import people_event
from tokendance_server.domain.people.records import CreateMark, Cursor, TeamDraft, TeamFilter
from tokendance_server.domain.people.rules import (
    Paging,
    already_there,
    check_etag,
    check_not_erased,
    check_repeat,
    check_team,
    failed,
    fingerprint,
    nothing_here,
)
from tokendance_server.domain.people.store import PeopleStore, Tenant
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, in_scope, is_platform_admin, member_id, reads_all


@dataclass(frozen=True, slots=True)
class CountedTeam:
    """A team, how many members it has, and how many of its keys work."""

    team: Team
    members: int
    keys: int


class TeamLife:
    """What is done with teams. Every method raises not_found for what is outside the caller's scope."""

    def __init__(self, store: PeopleStore, clock: Clock, paging: Paging) -> None:
        self._store = store
        self._clock = clock
        self._paging = paging

    async def create(
        self, caller: Principal, parent: str, draft: TeamDraft, request_id: str = "", *, origin: Origin = AUTOMATIC
    ) -> CountedTeam:
        """Make a team. Raises invalid_request, already_exists for its display name, and idempotency_conflict."""
        organization_id = organization_of(parent, "parent")
        if not changes_all(caller, organization_id):
            raise nothing_here("organization", "parent")
        check_team(draft)
        check_printable(request_id, "request_id")
        mark, now = fingerprint(draft), self._clock.now()
        made = Team(organization_id, new_id("team"), draft.display_name, now, draft.description, dict(draft.labels))
        async with self._store.tenant(organization_id) as tenant:
            organization = await tenant.organization()
            if organization is None:
                raise nothing_here("organization", "parent")
            check_not_erased(organization, "parent")
            earlier = await tenant.made_by("team", request_id) if request_id else None
            if earlier is not None:
                check_repeat(earlier.fingerprint, mark)
                kept = await tenant.team(earlier.made_id)
                if kept is None:
                    raise nothing_here("team")
                made = kept
            else:
                await _require_name_free(tenant, draft.display_name)
                if request_id:
                    await tenant.mark_made("team", request_id, CreateMark(made.id, mark))
                await tenant.put(made, now, people_event(caller, origin, "team.create", None, made, time=now))
        return await self._counted(made)

    async def get(self, caller: Principal, name: str) -> CountedTeam:
        """Return a team by its name or its id alone. Members who read not everything see their own teams."""
        organization_id, team_id = team_of(name, "name")
        team = await self._store.find_team(team_id)
        if team is None or organization_id not in ("", team.organization_id):
            raise nothing_here("team")
        if not reads_all(caller, team.organization_id):
            own = await own_teams(self._store, caller, team.organization_id)
            if team_id not in own:
                raise nothing_here("team")
        return await self._counted(team)

    async def page(
        self, caller: Principal, parent: str, *, page_size: int = 0, page_token: str = "", query: str = ""
    ) -> tuple[list[CountedTeam], str]:
        """Return a page by name, and the token of the next one: empty where this was the last."""
        organization_id = await organization_asked(self._store, caller, parent)
        only: frozenset[str] | None = None
        if not is_platform_admin(caller) and not reads_all(caller, organization_id):
            only = await own_teams(self._store, caller, organization_id)
        wanted = TeamFilter(organization_id, query.casefold(), only)
        binding = ("teams", caller.name, organization_id, wanted.query)
        size, after = self._paging.start(page_size, page_token, *binding)
        found = await self._store.teams(wanted, after, size)
        page, token = found, ""
        if len(found) == size:
            page = found[: size - 1]
            token = self._paging.next_token(Cursor(page[-1].organization_id, page[-1].id), *binding)
        return await self._count(page), token

    async def update(
        self,
        caller: Principal,
        name: str,
        wanted: TeamDraft,
        fields: frozenset[str],
        etag: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> CountedTeam:
        """Take over the named fields of a draft. Raises invalid_request, already_exists and version_conflict."""
        organization_id, team_id = await self._changeable(caller, name, "team.name")
        now = self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            before = await tenant.team(team_id)
            if before is None:
                raise nothing_here("team", "team.name")
            organization = await tenant.organization()
            if organization is not None:
                check_not_erased(organization, "team.name")
            check_etag(before, etag)
            former = TeamDraft(before.display_name, before.description, before.labels)
            draft = replace(former, **{field: getattr(wanted, field) for field in fields})
            check_team(draft)
            if draft.display_name != before.display_name:
                await _require_name_free(tenant, draft.display_name)
            after = replace(
                before, display_name=draft.display_name, description=draft.description, labels=dict(draft.labels)
            )
            if after != before:
                after = replace(after, update_time=now, version=before.version + 1)
                await tenant.put(after, now, people_event(caller, origin, "team.update", before, after, time=now))
        return await self._counted(after)

    async def delete(self, caller: Principal, name: str, etag: str = "", *, origin: Origin = AUTOMATIC) -> None:
        """Delete a team that nothing belongs to; one that is not there is deleted.

        Raises failed_precondition while a key, also one that ended, or a member belongs to it, and version_conflict.
        """
        organization_id, team_id = team_of(name, "name")
        team = await self._store.find_team(team_id)
        organization_id = organization_id or (team.organization_id if team else "")
        if not organization_id and is_platform_admin(caller):
            return
        if not changes_all(caller, organization_id):
            raise nothing_here("team")
        async with self._store.tenant(organization_id) as tenant:
            if await tenant.organization() is None:
                raise nothing_here("team")
            found = await tenant.team(team_id)
            if found is None:
                return
            check_etag(found, etag)
            if await tenant.team_in_use(team_id):
                raise failed("Keys or members belong to this team, also keys that ended; move them first.")
            now = self._clock.now()
            await tenant.delete_team(found, now, people_event(caller, origin, "team.delete", found, None, time=now))

    async def _changeable(self, caller: Principal, name: str, param: str) -> tuple[str, str]:
        organization_id, team_id = team_of(name, param)
        if not organization_id:
            team = await self._store.find_team(team_id)
            organization_id = team.organization_id if team else ""
        if not organization_id or not changes_all(caller, organization_id):
            raise nothing_here("team", param)
        return organization_id, team_id

    async def _counted(self, team: Team) -> CountedTeam:
        (counted,) = await self._count([team])
        return counted

    async def _count(self, teams: list[Team]) -> list[CountedTeam]:
        ids = [team.id for team in teams]
        members: Mapping[str, int] = await self._store.count_members(ids) if ids else {}
        keys: Mapping[str, int] = await self._store.count_keys("team", ids, self._clock.now()) if ids else {}
        return [CountedTeam(team, members.get(team.id, 0), keys.get(team.id, 0)) for team in teams]


async def organization_asked(store: PeopleStore, caller: Principal, parent: str) -> str:
    """Return the id of the organization that a list is of; empty: of every one. Raises not_found, invalid_request."""
    if parent == ANY_ORGANIZATION:
        if is_platform_admin(caller):
            return ""
        if not caller.organization:
            raise nothing_here("organization", "parent")
        return organization_or_id(caller.organization, "parent")
    organization_id = organization_of(parent, "parent")
    if not in_scope(caller, organization_id):
        raise nothing_here("organization", "parent")
    async with store.tenant(organization_id) as tenant:
        if await tenant.organization() is None:
            raise nothing_here("organization", "parent")
    return organization_id


async def own_teams(store: PeopleStore, caller: Principal, organization_id: str) -> frozenset[str]:
    """Return the ids of the teams that a caller belongs to in an organization; those of who is no member: none."""
    member = await own_record(store, caller, organization_id)
    return frozenset() if member is None else frozenset(member.team_ids)


async def own_record(store: PeopleStore, caller: Principal, organization_id: str) -> Member | None:
    """Return the member that a caller is in an organization, or None."""
    own_id = member_id(caller)
    if not own_id or not in_scope(caller, organization_id):
        return None
    async with store.tenant(organization_id) as tenant:
        member = await tenant.member(own_id)
    return member if member is not None and member.works else None


async def _require_name_free(tenant: Tenant, display_name: str) -> None:
    if await tenant.team_named(display_name) is not None:
        raise already_there("team.display_name", "Another team of this organization has this display name.")
