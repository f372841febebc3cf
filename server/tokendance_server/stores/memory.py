"""The stores in dicts: nothing survives the process. For tests, and for trying the gateway without a disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.catalogue.entries import CHANGES, AnyEntry, Edit, EntryKind, Rows
from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.domain.keys.key import Key, KeyCursor, KeyFilter, people_of
from tokendance_server.domain.keys.last_use import KeyUse, Redigest
from tokendance_server.domain.keys.store import GoneTeamError, RotationMark, StoppedMemberError
from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.stores.memory_audit import MemoryAuditStore


class MemoryOrganizationStore:
    """Organizations, teams and members. Changes go to the feed that is given, or to one of its own."""

    def __init__(self, changes: MemoryChangeFeed | None = None) -> None:
        self.changes = changes or MemoryChangeFeed()
        self._organizations: dict[str, Organization] = {}
        self._teams: dict[tuple[str, str], Team] = {}
        self._members: dict[tuple[str, str], Member] = {}

    async def add_first(self, organization: Organization, team: Team, member: Member) -> bool:
        if self._organizations:
            return False
        await self.add(organization)
        await self.add_team(team)
        await self.add_member(member)
        self.changes.record(ChangeKind.ORGANIZATION, organization.name, organization.create_time)
        self.changes.record(ChangeKind.TEAM, team.name, team.create_time)
        self.changes.record(ChangeKind.MEMBER, member.name, member.create_time)
        return True

    async def add(self, organization: Organization) -> None:
        self._organizations[organization.id] = organization

    async def add_team(self, team: Team) -> None:
        self._teams[team.organization_id, team.id] = team

    async def add_member(self, member: Member) -> None:
        self._members[member.organization_id, member.id] = member

    async def get(self, organization_id: str) -> Organization | None:
        return self._organizations.get(organization_id)

    async def get_team(self, organization_id: str, team_id: str) -> Team | None:
        return self._teams.get((organization_id, team_id))

    async def get_member(self, organization_id: str, member_id: str) -> Member | None:
        return self._members.get((organization_id, member_id))

    def all_organizations(self) -> list[Organization]:
        """Return every organization."""
        return [*self._organizations.values()]

    def all_teams(self) -> list[Team]:
        """Return the teams of every organization."""
        return [*self._teams.values()]

    def all_members(self) -> list[Member]:
        """Return the members of every organization."""
        return [*self._members.values()]

    def drop_team(self, team: Team) -> None:
        """Remove a team."""
        del self._teams[team.organization_id, team.id]


class MemoryChangeFeed:
    """The feed of changes, and where the other stores record them."""

    def __init__(self) -> None:
        self._changes: list[Change] = []

    def record(self, kind: ChangeKind, name: str, time: datetime) -> None:
        """Write down that `name`, a resource name, changed."""
        number = self._changes[-1].number + 1 if self._changes else 1
        self._changes.append(Change(number, kind, name, tenant_of(name), time))

    async def latest(self) -> Change | None:
        return self._changes[-1] if self._changes else None

    async def since(self, number: int, limit: int) -> list[Change]:
        first = self._changes[0].number if self._changes else 1
        start = max(0, number + 1 - first)
        return self._changes[start : start + limit]

    async def prune(self, before: datetime, limit: int) -> int:
        old = [change for change in self._changes[:-1][:limit] if change.time < before]
        del self._changes[: len(old)]
        return len(old)


class MemoryKeyStore:
    """Keys, by id and by the digests of their secrets.

    Changes and events go to the feed and the trail that are given, or to some of its own. `people` tells who is
    stopped; without it nobody is.
    """

    def __init__(
        self,
        changes: MemoryChangeFeed | None = None,
        audit: MemoryAuditStore | None = None,
        people: MemoryOrganizationStore | None = None,
    ) -> None:
        self.changes = changes or MemoryChangeFeed()
        self.audit = audit or MemoryAuditStore()
        self._people = people
        self._rotations: dict[tuple[str, str], RotationMark] = {}
        self._keys: dict[str, Key] = {}
        self._by_digest: dict[bytes, str] = {}
        self._creates: dict[tuple[str, str], tuple[str, bytes]] = {}

    async def add(
        self, key: Key, request_id: str, fingerprint: bytes, event: EventDraft | None = None
    ) -> tuple[Key, bytes]:
        if request_id and (made := await self.made_by(key.organization_id, request_id)):
            return made
        await self._require_working(key.organization_id, people_of(key))
        await self._require_team(key)
        if request_id:
            self._creates[key.organization_id, request_id] = (key.id, fingerprint)
        self._keys[key.id] = key
        for secret in key.secrets:
            self._by_digest[secret.digest] = key.id
        self.audit.write(event)
        self.changes.record(ChangeKind.KEY, key.name, key.create_time)
        return key, fingerprint

    async def made_by(self, organization_id: str, request_id: str) -> tuple[Key, bytes] | None:
        made = self._creates.get((organization_id, request_id))
        return None if made is None else (self._keys[made[0]], made[1])

    async def replace(
        self, before: Key, after: Key, mark: RotationMark | None = None, event: EventDraft | None = None
    ) -> bool:
        kept = self._keys.get(before.id)
        if kept is None or kept.version != before.version:
            return False
        await self._require_working(before.organization_id, people_of(after, before))
        if after.team_id != before.team_id:
            await self._require_team(after)
        if mark is not None:
            asked = (before.organization_id, mark.request_id)
            if self._rotations.setdefault(asked, mark) is not mark:
                return False
        self._keys[before.id] = dataclasses.replace(
            after, create_time=kept.create_time, last_used_time=kept.last_used_time
        )
        for secret in kept.secrets:
            del self._by_digest[secret.digest]
        for secret in after.secrets:
            self._by_digest[secret.digest] = before.id
        self.audit.write(event)
        self.changes.record(ChangeKind.KEY, after.name, after.update_time)
        return True

    async def rotation_of(self, organization_id: str, request_id: str) -> RotationMark | None:
        return self._rotations.get((organization_id, request_id))

    async def get(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    async def find(self, digests: Sequence[bytes]) -> Key | None:
        found = next((self._by_digest[digest] for digest in digests if digest in self._by_digest), None)
        return None if found is None else self._keys[found]

    async def _require_working(self, organization_id: str, member_ids: Collection[str]) -> None:
        for member_id in sorted(member_ids):
            member = None if self._people is None else await self._people.get_member(organization_id, member_id)
            if member is not None and not member.works:
                raise StoppedMemberError(member_id)

    async def redigest(self, redigests: Sequence[Redigest]) -> None:
        for one in redigests:
            key_id = self._by_digest.pop(one.digest, None)
            if key_id is not None:
                self._by_digest[one.fresh] = key_id
                key = self._keys[key_id]
                secrets = tuple(
                    dataclasses.replace(kept, digest=one.fresh, pepper_id=one.pepper_id)
                    if kept.digest == one.digest
                    else kept
                    for kept in key.secrets
                )
                self._keys[key_id] = dataclasses.replace(key, secrets=secrets)

    async def _require_team(self, key: Key) -> None:
        if self._people is not None and await self._people.get_team(key.organization_id, key.team_id) is None:
            raise GoneTeamError(key.team_id)

    async def mark_used(self, uses: Sequence[KeyUse]) -> None:
        for use in uses:
            key = self._keys.get(use.key_id)
            if key is not None and (key.last_used_time is None or key.last_used_time < use.time):
                self._keys[key.id] = dataclasses.replace(key, last_used_time=use.time)

    def all_keys(self) -> list[Key]:
        """Return every key."""
        return [*self._keys.values()]

    async def list(self, filter: KeyFilter, after: KeyCursor | None, limit: int) -> list[Key]:
        keys = [key for key in self._keys.values() if filter.matches(key)]
        places = {key.id: KeyCursor(key.create_time, key.id) for key in keys}
        if after is not None:
            keys = [key for key in keys if places[key.id] < after]
        return sorted(keys, key=lambda key: places[key.id], reverse=True)[:limit]


class MemoryCatalogueStore:
    """Providers and models. Changes and events go to the feed and the trail that are given, or to some of its own."""

    def __init__(self, changes: MemoryChangeFeed | None = None, audit: MemoryAuditStore | None = None) -> None:
        self.changes = changes or MemoryChangeFeed()
        self.audit = audit or MemoryAuditStore()
        self._rows = Rows()

    async def load(self) -> Rows:
        return self._rows

    async def edit(self, decide: Callable[[Rows], Edit]) -> AnyEntry | None:
        rows = self._rows
        edit = decide(rows)
        if rows.find(edit.kind, edit.name) == edit.entry:
            return edit.entry
        kept: dict[str, Any] = dict(rows.providers if edit.kind is EntryKind.PROVIDER else rows.models)
        kept.pop(edit.name, None)
        if edit.entry is not None:
            kept[edit.name] = edit.entry
        kept = dict(sorted(kept.items()))
        if edit.kind is EntryKind.PROVIDER:
            self._rows = Rows(rows.version + 1, kept, rows.models)
        else:
            self._rows = Rows(rows.version + 1, rows.providers, kept)
        self.audit.write(edit.event)
        self.changes.record(CHANGES[edit.kind], edit.resource_name, edit.time)
        return edit.entry
