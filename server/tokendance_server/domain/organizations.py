"""Organizations, their teams and their members: who a key can belong to."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tokendance.ids import new_id
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.names import child_name, organization_name


class OrganizationState(enum.StrEnum):
    """Whether an organization works."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    ERASED = "erased"


class MemberRole(enum.StrEnum):
    """What a member may do."""

    MEMBER = "member"
    ADMIN = "admin"
    AUDITOR = "auditor"


class MemberState(enum.StrEnum):
    """Whether a member may sign in. INVITED: may, and has not yet."""

    INVITED = "invited"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant. Everything else belongs to exactly one. `update_time` is None until the first change."""

    id: str
    display_name: str
    create_time: datetime
    state: OrganizationState = OrganizationState.ACTIVE
    contact: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    update_time: datetime | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """`organizations/{organization}`."""
        return organization_name(self.id)


@dataclass(frozen=True, slots=True)
class Team:
    """A part of an organization, to which keys and members belong."""

    organization_id: str
    id: str
    display_name: str
    create_time: datetime
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    update_time: datetime | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """`organizations/{organization}/teams/{team}`."""
        return child_name(self.organization_id, "teams", self.id)


@dataclass(frozen=True, slots=True)
class Member:
    """A person within one organization, who may own keys and be responsible for them.

    `team_ids` are sorted, and `roles` in the order of MemberRole. A member that was removed stays, because keys and
    records name it.
    """

    organization_id: str
    id: str
    display_name: str
    create_time: datetime
    subject: str = ""
    email: str = ""
    roles: tuple[MemberRole, ...] = (MemberRole.MEMBER,)
    team_ids: tuple[str, ...] = ()
    state: MemberState = MemberState.INVITED
    update_time: datetime | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """`organizations/{organization}/members/{user}`."""
        return child_name(self.organization_id, "members", self.id)

    @property
    def works(self) -> bool:
        """True while the member may sign in and own keys."""
        return self.state in (MemberState.INVITED, MemberState.ACTIVE)


@dataclass(frozen=True, slots=True)
class FirstNames:
    """The resource names of what the first start made."""

    organization: str
    team: str
    member: str
    display_name: str


class OrganizationStore(Protocol):
    """Keeps organizations. Each method is one transaction; what comes after the first start, PeopleStore changes."""

    async def add_first(self, organization: Organization, team: Team, member: Member) -> bool:
        """Add the three together, and their changes, where there is no organization; return whether they were added."""

    async def get(self, organization_id: str) -> Organization | None:
        """Return an organization, or None where there is none."""

    async def get_team(self, organization_id: str, team_id: str) -> Team | None:
        """Return a team, or None where that organization has none of this id."""

    async def get_member(self, organization_id: str, member_id: str) -> Member | None:
        """Return a member, or None where that organization has none of this id."""


class Organizations:
    """What is done with organizations."""

    def __init__(self, store: OrganizationStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def bootstrap(self) -> FirstNames | None:
        """Make an organization, a team and a member where there are none yet; None where there were some."""
        now = self._clock.now()
        organization = Organization(new_id("org"), "Default organization", now)
        team = Team(organization.id, new_id("team"), "Default team", now)
        member = Member(organization.id, new_id("user"), "Local operator", now)
        if not await self._store.add_first(organization, team, member):
            return None
        return FirstNames(
            organization=organization_name(organization.id),
            team=child_name(organization.id, "teams", team.id),
            member=child_name(organization.id, "members", member.id),
            display_name=organization.display_name,
        )

    async def exists(self, organization_id: str) -> bool:
        """Tell whether there is such an organization."""
        return await self._store.get(organization_id) is not None

    async def has_team(self, organization_id: str, team_id: str) -> bool:
        """Tell whether the organization has such a team."""
        return await self._store.get_team(organization_id, team_id) is not None

    async def has_member(self, organization_id: str, member_id: str) -> bool:
        """Tell whether the organization has such a member, neither suspended nor removed."""
        member = await self._store.get_member(organization_id, member_id)
        return member is not None and member.works

    async def works(self, organization_id: str) -> bool:
        """Tell whether the organization is there and not suspended."""
        organization = await self._store.get(organization_id)
        return organization is not None and organization.state is OrganizationState.ACTIVE

    async def member(self, organization_id: str, member_id: str) -> Member | None:
        """Return a member in whichever state, or None where the organization has none of this id."""
        return await self._store.get_member(organization_id, member_id)
