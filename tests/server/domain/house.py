"""The house of the tests of keys: one organization, its keys, and time that moves when told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from tokendance.gateway.v1 import access_pb2
from tokendance.ids import new_id
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import Key, KeyDraft, KeyQuota
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.names import child_name, organization_name
from tokendance_server.domain.organizations import FirstNames, Member, Organization, Organizations, Team
from tokendance_server.domain.principals import Principal
from tokendance_server.stores.memory import MemoryKeyStore, MemoryOrganizationStore

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
PEPPERS = PepperRing.of(bytes(range(32)))


class CountingStore(MemoryKeyStore):
    """A store that counts reads by digest, can be made slow, and can change keys behind the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def find(self, digests: Sequence[bytes]) -> Key | None:
        self.reads += 1
        found = await super().find(digests)
        await self.gate.wait()
        return found

    def put(self, key: Key) -> None:
        self._keys[key.id] = key
        for secret in key.secrets:
            self._by_digest[secret.digest] = key.id


class House:
    """One organization with its keys, and a second one next door."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.store = CountingStore()
        self.organization_store = MemoryOrganizationStore()
        self.organizations = Organizations(self.organization_store, self.clock)
        self.sighted = True
        self.verifier = Verifier(self.store, PEPPERS, self.clock, lambda: self.sighted, cache_size=4, cache_s=60)
        changed = self.verifier.forget
        self.keys = Keys(self.store, self.organizations, PEPPERS, self.clock, changed)
        self.life = KeyLife(self.keys, self.store, self.organizations, PEPPERS, self.clock, changed=changed)

    async def open(self) -> FirstNames:
        names = await self.organizations.bootstrap()
        assert names is not None
        return names

    async def open_next_door(self) -> FirstNames:
        organization, team, member = new_id("org"), new_id("team"), new_id("user")
        await self.organization_store.add(Organization(organization, "Next door", START))
        await self.organization_store.add_team(Team(organization, team, "T", START))
        await self.organization_store.add_member(Member(organization, member, "M", START))
        return FirstNames(
            organization_name(organization),
            child_name(organization, "teams", team),
            child_name(organization, "members", member),
            "Next door",
        )


def draft_for(names: FirstNames, purpose: str = "Reports") -> KeyDraft:
    """A key that keeps every rule."""
    return KeyDraft(
        purpose=purpose,
        owner=names.member,
        team=names.team,
        quota=KeyQuota(inherited_from=names.organization),
        rotation_period_s=90 * 86_400,
        responsible=names.member,
    )


def admin_of(names: FirstNames) -> Principal:
    """An administrator of one organization."""
    kinds = frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN})
    return Principal(kinds=kinds, name=names.member, organization=names.organization)
