"""The records of API keys: what is kept of a key, what is asked for in a new one, and how lists are narrowed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tokendance.gateway.v1.quota_pb2 import LimitMetric, LimitWindow
from tokendance_server.domain.names import child_name


class KeyState(enum.StrEnum):
    """Whether a key works. EXPIRED is never stored: it follows from the time."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    EXPIRED = "expired"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class LimitRule:
    """One limit of a key's own: at most `limit` of the metric in a window, for one public model or, empty, for all."""

    metric: LimitMetric.ValueType
    window: LimitWindow.ValueType
    limit: int
    soft: bool = False
    model: str = ""


@dataclass(frozen=True, slots=True)
class KeyQuota:
    """Where a key's quota comes from: a subject's resource name, or limits of its own; exactly one of them."""

    inherited_from: str = ""
    limits: tuple[LimitRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Rotation:
    """Who rotates a key, how often (in seconds), and when the next time is due."""

    period_s: int
    responsible_id: str
    due_time: datetime


@dataclass(frozen=True, slots=True)
class KeySecret:
    """What is kept of one secret: its digest (32 bytes), the pepper under which it was made, and its own end."""

    digest: bytes = field(repr=False)
    pepper_id: str
    create_time: datetime
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One API key, without its secret. Times are aware, UTC; `version` counts its changes from 1.

    `secrets` holds the newest first; during a rotation's overlap there are two. `rotate_time` is None until the first
    secret is minted. `last_used_time` is exact to a minute.
    """

    organization_id: str
    id: str
    purpose: str
    owner_id: str
    team_id: str
    quota: KeyQuota
    rotation: Rotation
    create_time: datetime
    update_time: datetime
    state: KeyState = KeyState.ACTIVE
    secrets: tuple[KeySecret, ...] = ()
    secret_prefix: str = ""
    secret_suffix: str = ""
    expire_time: datetime | None = None
    allowed_models: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    excluded_route_tags: tuple[str, ...] = ()
    rotate_time: datetime | None = None
    last_used_time: datetime | None = None
    revoke_time: datetime | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """`organizations/{organization}/keys/{key}`."""
        return child_name(self.organization_id, "keys", self.id)

    @property
    def etag(self) -> str:
        """The version, as callers see it."""
        return f'"{self.version}"'

    def state_at(self, now: datetime) -> KeyState:
        """Return whether the key works at a time: what ended for good counts before what ended by time."""
        if self.state is not KeyState.REVOKED and self.expire_time is not None and self.expire_time <= now:
            return KeyState.EXPIRED
        return self.state


@dataclass(frozen=True, slots=True)
class KeyDraft:
    """A key as asked for. Owner, team, responsible person and the quota's subject are resource names."""

    purpose: str
    owner: str
    team: str
    quota: KeyQuota
    rotation_period_s: int
    responsible: str
    expire_time: datetime | None = None
    allowed_models: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    excluded_route_tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Which keys a list holds; what is empty or None does not narrow it. `now` decides what expired and is overdue.

    `seen_by` narrows it to the keys that one member owns or rotates, and to those of `seen_teams`.
    """

    now: datetime
    organization_id: str = ""
    team_id: str = ""
    owner_id: str = ""
    state: KeyState | None = None
    rotation_overdue: bool = False
    seen_by: str = ""
    seen_teams: frozenset[str] = frozenset()

    def matches(self, key: Key) -> bool:
        """Tell whether a key belongs into the list."""
        state = key.state_at(self.now)
        return (
            self.organization_id in ("", key.organization_id)
            and self.team_id in ("", key.team_id)
            and self.owner_id in ("", key.owner_id)
            and self.state in (None, state)
            and (not self.rotation_overdue or _overdue(key, state, self.now))
            and (not self.seen_by or is_seen_by(key, self.seen_by, self.seen_teams))
        )


@dataclass(frozen=True, slots=True, order=True)
class KeyCursor:
    """A place in a list that runs from the newest key to the oldest."""

    create_time: datetime
    id: str


def people_of(key: Key, before: Key | None = None) -> frozenset[str]:
    """Return the ids of the members who must not be stopped for a key to be as it is.

    Where it changes, these are those that it did not name as such before, and the owner of one that works again.
    """
    now = {("owner", key.owner_id), ("responsible", key.rotation.responsible_id)}
    if before is not None:
        now -= {("owner", before.owner_id), ("responsible", before.rotation.responsible_id)}
        if key.state is KeyState.ACTIVE and before.state is not KeyState.ACTIVE:
            now.add(("owner", key.owner_id))
    return frozenset(member_id for _, member_id in now)


def is_seen_by(key: Key, member_id: str, team_ids: frozenset[str]) -> bool:
    """Tell whether a key is a member's own, one that it rotates, or one of its teams."""
    return member_id in (key.owner_id, key.rotation.responsible_id) or key.team_id in team_ids


def _overdue(key: Key, state: KeyState, now: datetime) -> bool:
    return key.rotation.due_time <= now and state not in (KeyState.REVOKED, KeyState.EXPIRED)
