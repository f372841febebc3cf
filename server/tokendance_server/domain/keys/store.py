"""What the rules of keys ask of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.keys.key import Key, KeyCursor, KeyFilter


@dataclass(frozen=True, slots=True)
class RotationMark:
    """What is kept of a rotation that came with a request id. `fingerprint` is 32 bytes that tell what was asked."""

    request_id: str
    key_id: str
    fingerprint: bytes
    old_secret_expire_time: datetime


class StoppedMemberError(Exception):
    """Somebody whom a key would belong to, or who would rotate it, is suspended or out by now."""

    def __init__(self, member_id: str) -> None:
        super().__init__(f"the member {member_id} is stopped")
        self.member_id = member_id


class GoneTeamError(Exception):
    """The team that a key would belong to is gone by now."""


class KeyStore(Protocol):
    """Keeps keys. Each method is one transaction; one that writes records the change of the key in it.

    It records the `event` too, where somebody did what is done, and none where nothing was changed.
    """

    async def add(
        self, key: Key, request_id: str, fingerprint: bytes, event: EventDraft | None = None
    ) -> tuple[Key, bytes]:
        """Add a key, unless the organization's `request_id` (if not empty) made one before.

        Return the key which that request id made, and the fingerprint it came with: the given ones where it is new.
        Raises StoppedMemberError, with nothing added, where its owner or who rotates it is stopped: whoever stops them
        at the same moment finds the key, or the key finds them stopped. Likewise GoneTeamError.
        """

    async def made_by(self, organization_id: str, request_id: str) -> tuple[Key, bytes] | None:
        """Return the key that a request id of the organization made, and the fingerprint it came with; or None."""

    async def replace(
        self, before: Key, after: Key, mark: RotationMark | None = None, event: EventDraft | None = None
    ) -> bool:
        """Put `after` in place of `before`, with its secrets, and keep the mark of a rotation.

        Return False, with nothing changed, where the key has another version than `before` by now, or where the
        organization's request id of the mark was used before. Ids and times of creation and last use stay as they are.
        Raises StoppedMemberError as `add`, for an owner or who rotates it that the key did not have before, and for the
        owner of a key that works again; and GoneTeamError.
        """

    async def rotation_of(self, organization_id: str, request_id: str) -> RotationMark | None:
        """Return the mark that a request id of the organization left, or None."""

    async def get(self, key_id: str) -> Key | None:
        """Return a key, or None where there is none."""

    async def find(self, digests: Sequence[bytes]) -> Key | None:
        """Return the key one of whose secrets has one of these digests, or None. Raises key_store_unavailable."""

    async def list(self, filter: KeyFilter, after: KeyCursor | None, limit: int) -> list[Key]:
        """Return at most `limit` keys behind the cursor, from the newest to the oldest."""
