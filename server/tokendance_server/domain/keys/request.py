"""Requests for keys: what is kept of one, and how lists of them are narrowed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from tokendance_server.domain.keys.key import KeyDraft
from tokendance_server.domain.names import child_name

BY_POLICY = "policy"
"""Stands for who decided where the policy of the organization did."""


class RequestState(enum.StrEnum):
    """Where a request stands. EXPIRED is never stored: it follows from the time."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    REVEALED = "revealed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """One request for a key. `draft` is what is wanted or, once granted, what was granted. Times are aware, UTC.

    `key_id` is empty until the request is granted, `decided_by` a resource name or BY_POLICY.
    """

    organization_id: str
    id: str
    requester_id: str
    draft: KeyDraft
    create_time: datetime
    state: RequestState = RequestState.PENDING
    key_id: str = ""
    decision_reason: str = ""
    decided_by: str = ""
    decide_time: datetime | None = None
    reveal_expire_time: datetime | None = None
    version: int = 1

    @property
    def name(self) -> str:
        """`organizations/{organization}/keyRequests/{request}`."""
        return child_name(self.organization_id, "keyRequests", self.id)

    @property
    def requester(self) -> str:
        """The resource name of who asks."""
        return child_name(self.organization_id, "members", self.requester_id)

    @property
    def etag(self) -> str:
        """The version, as callers see it."""
        return f'"{self.version}"'

    def state_at(self, now: datetime) -> RequestState:
        """Return where the request stands at a time."""
        lapsed = self.reveal_expire_time is not None and self.reveal_expire_time <= now
        return RequestState.EXPIRED if self.state is RequestState.APPROVED and lapsed else self.state


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests a list holds; what is empty or None does not narrow it. `now` decides what has expired."""

    now: datetime
    organization_id: str = ""
    requester_id: str = ""
    state: RequestState | None = None

    def matches(self, request: KeyRequest) -> bool:
        """Tell whether a request belongs into the list."""
        return (
            self.organization_id in ("", request.organization_id)
            and self.requester_id in ("", request.requester_id)
            and self.state in (None, request.state_at(self.now))
        )
