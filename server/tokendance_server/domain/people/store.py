"""What keeps organizations, teams, members and policies: one organization changes in one transaction at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal, Protocol

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.organizations import Member, Organization, Team
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

Record = Organization | Team | Member | Policy
Made = Literal["organization", "team", "member"]


class Tenant(Protocol):
    """One organization within one transaction: nobody else changes it meanwhile. Raising undoes everything.

    Each `put`, `delete_team` and `settle_keys` records its changes with it. Check everything before the first of them.
    """

    async def organization(self) -> Organization | None:
        """Return the organization, or None where there is none."""

    async def team(self, team_id: str) -> Team | None:
        """Return a team, or None."""

    async def member(self, member_id: str) -> Member | None:
        """Return a member, or None."""

    async def policy(self) -> Policy:
        """Return the policy; the default one where none was set."""

    async def team_named(self, display_name: str) -> Team | None:
        """Return the team of exactly this display name, or None."""

    async def member_with(self, *, subject: str = "", email: str = "") -> Member | None:
        """Return who is not removed and has this subject, or this address in whichever case; or None."""

    async def other_admins(self, member_id: str) -> int:
        """Return how many other members are administrators and may sign in."""

    async def team_in_use(self, team_id: str) -> bool:
        """Tell whether a key, also one that ended, or a member belongs to a team."""

    async def made_by(self, kind: Made, request_id: str) -> CreateMark | None:
        """Return what an earlier creation with this request id made, or None."""

    async def mark_made(self, kind: Made, request_id: str, mark: CreateMark) -> None:
        """Keep what a creation made."""

    async def put(self, record: Record, time: datetime, event: EventDraft | None = None) -> None:
        """Keep a record in the place of the one of the same name, if any, and the event that tells of it."""

    async def delete_team(self, team: Team, time: datetime, event: EventDraft | None = None) -> None:
        """Remove a team that nothing belongs to."""

    def tell(self, *events: EventDraft) -> None:
        """Write down events in this transaction, behind what it changes."""

    async def settle_keys(self, member_id: str, fate: KeyFate, owner_id: str, time: datetime) -> list[str]:
        """Let the keys that a member owns and that are not revoked fare so; return the ids of those that changed.

        `owner_id` is who gets them, for REASSIGN; it also becomes responsible where the member was.
        """

    async def members(self) -> list[Member]:
        """Return every member, also those who are out, by id."""

    async def teams(self) -> list[Team]:
        """Return every team by id."""

    async def traces(self, member_id: str = "") -> Traces:
        """Count what is left of a member, or of the whole organization where no id is given."""

    async def deny_requests(self, member_id: str, *, by: str, reason: str, time: datetime) -> None:
        """Deny the requests of a member for keys that are neither denied nor revealed."""

    async def forget(self, member_id: str = "") -> None:
        """Remove what lies beside the records of a member, or of the organization and everybody in it.

        That is personal data of audit events, preferences, answers kept for replay, and marks of creations that could
        be guessed from; of an organization also its policy, and what its keys say of their purpose.
        """


class PeopleStore(Protocol):
    """Keeps organizations, teams and members. Each read sees one moment."""

    def tenant(self, organization_id: str) -> AbstractAsyncContextManager[Tenant]:
        """Open a transaction on one organization; an empty id stands for where organizations are created."""

    async def find_team(self, team_id: str) -> Team | None:
        """Return a team of whichever organization by its id alone, or None."""

    async def organizations(self, filter: OrganizationFilter, after: Cursor | None, limit: int) -> list[Organization]:
        """Return at most `limit` organizations by name, those behind `after`."""

    async def teams(self, filter: TeamFilter, after: Cursor | None, limit: int) -> list[Team]:
        """Return at most `limit` teams by name, those behind `after`."""

    async def members(self, filter: MemberFilter, after: Cursor | None, limit: int) -> list[Member]:
        """Return at most `limit` members by name, those behind `after`."""

    async def policy(self, organization_id: str) -> Policy:
        """Return a policy; the default one where none was set."""

    async def count_members(self, team_ids: Collection[str]) -> Mapping[str, int]:
        """Return how many members, none of them removed, each team has; a team without any may be left out."""

    async def count_keys(
        self, column: Literal["team", "owner"], ids: Collection[str], now: datetime
    ) -> Mapping[str, int]:
        """Return how many keys that work each team or owner has; those without any may be left out."""

    async def preferences(self, name: str) -> Preferences:
        """Return the preferences of a caller; the default ones where none were set."""

    async def set_preferences(self, name: str, preferences: Preferences) -> None:
        """Keep the preferences of a caller."""
