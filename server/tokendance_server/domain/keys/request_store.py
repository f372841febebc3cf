"""What the rules of requests for keys ask of a store."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.keys.key import Key, KeyCursor
from tokendance_server.domain.keys.request import KeyRequest, RequestFilter
from tokendance_server.domain.organizations import Member, Team
from tokendance_server.domain.people.records import CreateMark, Policy


class RequestDesk(Protocol):
    """One organization within one transaction: nobody else decides or changes its people meanwhile.

    Raising undoes everything. Check everything before the first `put`, `put_key`, `mark_made` or `record`.
    """

    async def policy(self) -> Policy:
        """Return the policy; the default one where none was set."""

    async def member(self, member_id: str) -> Member | None:
        """Return a member in whichever state, or None."""

    async def team(self, team_id: str) -> Team | None:
        """Return a team, or None."""

    async def request(self, request_id: str) -> KeyRequest | None:
        """Return a request for a key by its id, or None."""

    async def key(self, key_id: str) -> Key | None:
        """Return a key, which nobody else changes until the end, or None."""

    async def made_by(self, request_id: str) -> CreateMark | None:
        """Return what an earlier call with this id asked for, or None."""

    async def undecided(self, requester_id: str) -> int:
        """Return how many requests of a member wait for a decision."""

    async def owned_keys(self, owner_id: str, now: datetime) -> int:
        """Return how many keys of a member work, or will once they are revealed."""

    async def mark_made(self, request_id: str, mark: CreateMark) -> None:
        """Keep what a call with this id asked for."""

    async def put(self, request: KeyRequest) -> None:
        """Keep a request in the place of the one of the same id, if any."""

    async def put_key(self, key: Key) -> None:
        """Keep a key and its secrets in the place of the one of the same id, if any; its change is recorded."""

    async def record(self, event: EventDraft) -> None:
        """Write down what somebody did."""


class KeyRequestStore(Protocol):
    """Keeps requests for keys."""

    def desk(self, organization_id: str) -> AbstractAsyncContextManager[RequestDesk]:
        """Open a transaction on one organization."""

    async def page(self, filter: RequestFilter, after: KeyCursor | None, limit: int) -> list[KeyRequest]:
        """Return at most `limit` requests behind the cursor, from the newest to the oldest."""
