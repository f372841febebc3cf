"""Organizations, teams and members in dicts, beside the keys that they own."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.keys.key import Key, KeyState
from tokendance_server.domain.keys.request import KeyRequest, RequestState
from tokendance_server.domain.names import child_name, organization_name
from tokendance_server.domain.organizations import Member, MemberRole, MemberState, Organization, Team
from tokendance_server.domain.people.records import (
    CreateMark,
    Cursor,
    KeyFate,
    MemberFilter,
    OrganizationFilter,
    Policy,
    Preferences,
    TeamFilter,
    Traces,
)
from tokendance_server.domain.people.store import Made, Record
from tokendance_server.stores.memory import MemoryKeyStore, MemoryOrganizationStore


class MemoryPeopleStore:
    """Satisfies PeopleStore. Changes go to the feed of the keys."""

    def __init__(self, records: MemoryOrganizationStore, keys: MemoryKeyStore) -> None:
        self.records = records
        self.keys = keys
        self.policies: dict[str, Policy] = {}
        self.creates: dict[tuple[str, Made, str], CreateMark] = {}
        self._preferences: dict[str, Preferences] = {}
        self.requests: dict[str, KeyRequest] = {}

    @asynccontextmanager
    async def tenant(self, organization_id: str) -> AsyncIterator[MemoryTenant]:
        # Nothing here waits, so that one runs to its end before the next.
        yield MemoryTenant(self, organization_id)

    async def find_team(self, team_id: str) -> Team | None:
        return next((team for team in self.records.all_teams() if team.id == team_id), None)

    async def organizations(self, filter: OrganizationFilter, after: Cursor | None, limit: int) -> list[Organization]:
        found = [one for one in self.records.all_organizations() if filter.matches(one)]
        placed = sorted(found, key=lambda one: one.id)
        return [one for one in placed if after is None or Cursor(one.id) > after][:limit]

    async def teams(self, filter: TeamFilter, after: Cursor | None, limit: int) -> list[Team]:
        placed = sorted((one for one in self.records.all_teams() if filter.matches(one)), key=_cursor)
        return [one for one in placed if after is None or _cursor(one) > after][:limit]

    async def members(self, filter: MemberFilter, after: Cursor | None, limit: int) -> list[Member]:
        placed = sorted((one for one in self.records.all_members() if filter.matches(one)), key=_cursor)
        return [one for one in placed if after is None or _cursor(one) > after][:limit]

    async def policy(self, organization_id: str) -> Policy:
        return self.policies.get(organization_id, Policy(organization_id))

    async def count_members(self, team_ids: Collection[str]) -> Mapping[str, int]:
        everybody = self.records.all_members()
        return {team_id: sum(team_id in one.team_ids for one in everybody) for team_id in team_ids}

    async def count_keys(
        self, column: Literal["team", "owner"], ids: Collection[str], now: datetime
    ) -> Mapping[str, int]:
        working = [key for key in self.keys.all_keys() if key.state_at(now) is KeyState.ACTIVE]
        counted = [key.team_id if column == "team" else key.owner_id for key in working]
        return {one: counted.count(one) for one in ids}

    async def preferences(self, name: str) -> Preferences:
        return self._preferences.get(name, Preferences())

    async def set_preferences(self, name: str, preferences: Preferences) -> None:
        self._preferences[name] = preferences

    def forget_preferences(self, name: str) -> None:
        """Drop the preferences of a name and of all names below it."""
        for kept in [one for one in self._preferences if one == name or one.startswith(f"{name}/")]:
            del self._preferences[kept]


class MemoryTenant:
    """Satisfies Tenant."""

    def __init__(self, store: MemoryPeopleStore, organization_id: str) -> None:
        self._store = store
        self._records = store.records
        self._organization_id = organization_id

    async def organization(self) -> Organization | None:
        return await self._records.get(self._organization_id)

    async def team(self, team_id: str) -> Team | None:
        return await self._records.get_team(self._organization_id, team_id)

    async def member(self, member_id: str) -> Member | None:
        return await self._records.get_member(self._organization_id, member_id)

    async def policy(self) -> Policy:
        return await self._store.policy(self._organization_id)

    async def team_named(self, display_name: str) -> Team | None:
        own = [team for team in self._records.all_teams() if team.organization_id == self._organization_id]
        return next((team for team in own if team.display_name == display_name), None)

    async def member_with(self, *, subject: str = "", email: str = "") -> Member | None:
        for member in self._own_members():
            same = member.subject == subject if subject else member.email.casefold() == email.casefold()
            if same and member.state is not MemberState.REMOVED:
                return member
        return None

    async def other_admins(self, member_id: str) -> int:
        others = [one for one in self._own_members() if one.id != member_id and one.works]
        return sum(MemberRole.ADMIN in one.roles for one in others)

    async def team_in_use(self, team_id: str) -> bool:
        return any(team_id in one.team_ids for one in self._own_members()) or any(
            key.team_id == team_id and key.organization_id == self._organization_id
            for key in self._store.keys.all_keys()
        )

    async def made_by(self, kind: Made, request_id: str) -> CreateMark | None:
        return self._store.creates.get((self._organization_id, kind, request_id))

    async def mark_made(self, kind: Made, request_id: str, mark: CreateMark) -> None:
        self._store.creates[self._organization_id, kind, request_id] = mark

    async def put(self, record: Record, time: datetime, event: EventDraft | None = None) -> None:
        self._store.keys.audit.write(event)
        match record:
            case Organization():
                await self._records.add(record)
                self._record(ChangeKind.ORGANIZATION, record.name, time)
            case Team():
                await self._records.add_team(record)
                self._record(ChangeKind.TEAM, record.name, time)
            case Member():
                await self._records.add_member(record)
                self._record(ChangeKind.MEMBER, record.name, time)
            case Policy():
                self._store.policies[record.organization_id] = record
                self._record(ChangeKind.POLICY, record.name, time)

    async def delete_team(self, team: Team, time: datetime, event: EventDraft | None = None) -> None:
        self._store.keys.audit.write(event)
        self._records.drop_team(team)
        self._record(ChangeKind.TEAM, team.name, time)

    def tell(self, *events: EventDraft) -> None:
        for event in events:
            self._store.keys.audit.write(event)

    async def settle_keys(self, member_id: str, fate: KeyFate, owner_id: str, time: datetime) -> list[str]:
        changed = []
        for key in sorted(self._store.keys.all_keys(), key=lambda one: one.id):
            if key.organization_id != self._organization_id or key.owner_id != member_id:
                continue
            if key.state is KeyState.REVOKED or (fate is KeyFate.SUSPEND and key.state is not KeyState.ACTIVE):
                continue
            after = _settled(key, fate, owner_id, time)
            await self._store.keys.replace(key, after)
            changed.append(key.id)
        return changed

    async def members(self) -> list[Member]:
        return sorted(self._own_members(), key=lambda one: one.id)

    async def teams(self) -> list[Team]:
        own = [one for one in self._records.all_teams() if one.organization_id == self._organization_id]
        return sorted(own, key=lambda one: one.id)

    async def traces(self, member_id: str = "") -> Traces:
        own = [key for key in self._store.keys.all_keys() if key.organization_id == self._organization_id]
        alive = [key for key in own if member_id in ("", key.owner_id) and key.state is not KeyState.REVOKED]
        return Traces(len(alive), 0, self._store.keys.audit.count_personal(self._name(member_id)))

    async def deny_requests(self, member_id: str, *, by: str, reason: str, time: datetime) -> None:
        for one in list(self._store.requests.values()):
            waits = one.state in (RequestState.PENDING, RequestState.APPROVED)
            if waits and (one.organization_id, one.requester_id) == (self._organization_id, member_id):
                self._store.requests[one.id] = dataclasses.replace(
                    one,
                    state=RequestState.DENIED,
                    decided_by=by,
                    decision_reason=reason,
                    decide_time=time,
                    version=one.version + 1,
                )

    async def forget(self, member_id: str = "") -> None:
        name = self._name(member_id)
        self._store.keys.audit.forget(name)
        self._store.forget_preferences(name)
        for place, mark in self._store.creates.items():
            of_all = place[0] == self._organization_id or mark.made_id == self._organization_id
            if mark.made_id == member_id or (not member_id and of_all):
                self._store.creates[place] = CreateMark(mark.made_id, bytes(32))
        if not member_id:
            self._store.policies.pop(self._organization_id, None)
            for key in self._store.keys.all_keys():
                if key.organization_id == self._organization_id:
                    await self._store.keys.replace(key, dataclasses.replace(key, purpose="Erased", labels={}))

    def _name(self, member_id: str) -> str:
        organization = organization_name(self._organization_id)
        return child_name(self._organization_id, "members", member_id) if member_id else organization

    def _own_members(self) -> list[Member]:
        return [one for one in self._records.all_members() if one.organization_id == self._organization_id]

    def _record(self, kind: ChangeKind, name: str, time: datetime) -> None:
        self._store.keys.changes.record(kind, name, time)


def _settled(key: Key, fate: KeyFate, owner_id: str, time: datetime) -> Key:
    after = dataclasses.replace(key, update_time=time, version=key.version + 1)
    if fate is KeyFate.SUSPEND:
        return dataclasses.replace(after, state=KeyState.SUSPENDED)
    if fate is KeyFate.REVOKE:
        return dataclasses.replace(after, state=KeyState.REVOKED, revoke_time=time)
    rotation = key.rotation
    if rotation.responsible_id == key.owner_id:
        rotation = dataclasses.replace(rotation, responsible_id=owner_id)
    return dataclasses.replace(after, owner_id=owner_id, rotation=rotation)


def _cursor(one: Team | Member) -> Cursor:
    return Cursor(one.organization_id, one.id)
