"""What the rules of quotas keep of limits, and ask of whoever keeps them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.limits import LimitReader


class SubjectKind(enum.StrEnum):
    """Whose limits; the value is the collection in a resource name."""

    KEY = "keys"
    MEMBER = "members"
    TEAM = "teams"
    ORGANIZATION = "organizations"


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of one subject, a resource name. Version 0: none were ever set, or they are those a key was made with.

    `display_name` is what people read of the subject; it is not kept here.
    """

    subject: str
    limits: tuple[LimitRule, ...] = ()
    update_time: datetime | None = None
    version: int = 0
    display_name: str = ""

    @property
    def etag(self) -> str:
        """The version, as callers see it."""
        return f'"{self.version}"'


class Place(NamedTuple):
    """What is known of a subject itself: what people read, and whose it is (ids; empty where it does not apply)."""

    display_name: str
    owner_id: str = ""
    team_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class QuotaFilter:
    """Which quotas a list holds; what is empty or None does not narrow it. `subjects` are all that a caller may see."""

    organization_id: str = ""
    kind: SubjectKind | None = None
    subjects: frozenset[str] | None = None
    unlimited: bool = False


class QuotaStore(LimitReader, Protocol):
    """Keeps limits. Each method is one transaction; one that writes records the change and the event in it."""

    async def place(self, subject: str) -> Place | None:
        """Return what is known of a subject, or None where there is none."""

    async def name_of(self, kind: SubjectKind, identity: str) -> str:
        """Return the resource name of a subject in whichever organization, or an empty text where there is none."""

    async def get(self, subject: str) -> Quota:
        """Return the limits of a subject, those that a key was made with included."""

    async def put(self, before: Quota, after: Quota, event: EventDraft | None) -> bool:
        """Put `after` in place of `before`; False, with nothing changed, where it has another version by now."""

    async def list(self, filter: QuotaFilter, after: str, limit: int) -> Sequence[Quota]:
        """Return at most `limit` quotas behind a subject, in the order of their subjects."""
