"""What is asked for and kept of organizations, teams and members besides themselves: drafts, filters and policies."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.names import policy_name
from tokendance_server.domain.organizations import (
    Member,
    MemberRole,
    MemberState,
    Organization,
    OrganizationState,
    Team,
)

ERASED = "erased_"
"""How the pseudonyms of those who were erased begin in usage."""


class KeyFate(enum.StrEnum):
    """What happens to the keys of a member who is stopped or leaves."""

    SUSPEND = "suspend"
    REASSIGN = "reassign"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class OrganizationDraft:
    """An organization as asked for."""

    display_name: str
    contact: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TeamDraft:
    """A team as asked for."""

    display_name: str
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MemberDraft:
    """A member as asked for. `teams` are resource names."""

    subject: str = ""
    email: str = ""
    display_name: str = ""
    roles: tuple[MemberRole, ...] = ()
    teams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IssuanceRule:
    """Bounds inside which a request for a key is granted by itself; what is empty or None bounds nothing.

    `teams` are ids. Of `quota_ceiling` a key must have each limit of its own, at this height or lower.
    """

    display_name: str
    teams: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    quota_ceiling: tuple[LimitRule, ...] = ()
    max_key_lifetime_s: int | None = None
    max_keys_per_member: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """By which rules an organization governs itself. `update_time` is None until the first change."""

    organization_id: str
    self_approval: bool = False
    reveal_period_s: int | None = None
    orphaned_keys: KeyFate | None = None
    orphaned_keys_owner_id: str = ""
    update_time: datetime | None = None
    version: int = 1
    issuance_rules: tuple[IssuanceRule, ...] = ()
    max_rotation_period_s: int | None = None
    max_key_lifetime_s: int | None = None
    replay_disabled: bool = False
    excluded_route_tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`organizations/{organization}/policy`."""
        return policy_name(self.organization_id)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a person prefers in the console. `theme` is the number of a Theme of the schema."""

    theme: int = 0
    time_zone: str = ""
    default_organization: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in a list by name: behind the child, or behind the organization where there is no child."""

    organization_id: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class OrganizationFilter:
    """Which organizations a list holds; what is empty or None does not narrow it. `query` is in folded case."""

    organization_id: str = ""
    query: str = ""
    state: OrganizationState | None = None

    def matches(self, one: Organization) -> bool:
        """Tell whether an organization belongs into the list."""
        return (
            self.organization_id in ("", one.id) and self.state in (None, one.state) and self.query in search_text(one)
        )


@dataclass(frozen=True, slots=True)
class TeamFilter:
    """Which teams a list holds; what is empty or None does not narrow it. `query` is in folded case."""

    organization_id: str = ""
    query: str = ""
    only_ids: frozenset[str] | None = None

    def matches(self, one: Team) -> bool:
        """Tell whether a team belongs into the list."""
        return (
            self.organization_id in ("", one.organization_id)
            and (self.only_ids is None or one.id in self.only_ids)
            and self.query in search_text(one)
        )


@dataclass(frozen=True, slots=True)
class MemberFilter:
    """Which members a list holds; what is empty or None does not narrow it. `query` is in folded case.

    `seen_by` narrows it to one member and those who share a team of `seen_teams` with it.
    """

    organization_id: str = ""
    query: str = ""
    team_id: str = ""
    role: MemberRole | None = None
    state: MemberState | None = None
    seen_by: str = ""
    seen_teams: frozenset[str] = frozenset()

    def matches(self, one: Member) -> bool:
        """Tell whether a member belongs into the list."""
        return (
            self.organization_id in ("", one.organization_id)
            and (not self.team_id or self.team_id in one.team_ids)
            and (self.role is None or self.role in one.roles)
            and self.state in (None, one.state)
            and (not self.seen_by or one.id == self.seen_by or not self.seen_teams.isdisjoint(one.team_ids))
            and self.query in search_text(one)
        )


@dataclass(frozen=True, slots=True)
class Traces:
    """What is left of somebody.

    Keys that are not revoked, records of usage, events with personal data, and answers kept for replay.
    """

    keys: int = 0
    usage_records: int = 0
    audit_events: int = 0
    stored_answers: int = 0


@dataclass(frozen=True, slots=True)
class CreateMark:
    """What an earlier creation with a request id made: the id, and 32 bytes that tell its draft."""

    made_id: str
    fingerprint: bytes


def search_text(one: Organization | Team | Member) -> str:
    """Return the text in which lists look for words, in folded case."""
    words = f"{one.display_name}\n{one.email}" if isinstance(one, Member) else one.display_name
    return words.casefold()
