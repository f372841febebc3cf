"""A webhook as kept, what is on its way to it, and what keeps both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tokendance.gateway.v1.quota_service_pb2 import WebhookEvent
from tokendance_server.domain.audit.events import EventDraft


@dataclass(frozen=True, slots=True)
class Health:
    """How the last calls of a webhook fared. `last_failure` is one sentence, `failures` those since one was taken."""

    last_success_time: datetime | None = None
    last_failure_time: datetime | None = None
    last_failure: str = ""
    failures: int = 0


@dataclass(frozen=True, slots=True)
class WebhookDraft:
    """What administrators say of a webhook; see the message Webhook for the bounds."""

    display_name: str
    url: str
    events: tuple[WebhookEvent.ValueType, ...]
    percents: tuple[int, ...] = ()
    subjects: tuple[str, ...] = ()
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook. Its secrets are sealed; the old one signs too until `old_secret_expire_time`, where there is one."""

    organization_id: str
    id: str
    draft: WebhookDraft
    sealed_secret: str = field(repr=False)
    old_sealed_secret: str = field(default="", repr=False)
    old_secret_expire_time: datetime | None = None
    create_time: datetime
    update_time: datetime | None = None
    version: int = 1
    create_request_id: str = ""
    fingerprint: bytes = bytes(32)
    rotate_request_id: str = ""
    health: Health = Health()

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"organizations/{self.organization_id}/webhooks/{self.id}"

    @property
    def etag(self) -> str:
        """What tells this version from others."""
        return f'"{self.version}"'


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A body on its way to a webhook. `attempts` counts the tries, the one for which it was claimed included.

    `crossing` (32 bytes) is the same for the same limit, window and threshold, whichever node saw it.
    """

    organization_id: str
    webhook_id: str
    crossing: bytes
    id: str
    body: str
    create_time: datetime
    forget_time: datetime | None = None
    attempts: int = 0


class WebhookStore(Protocol):
    """Keeps webhooks and deliveries. Every method raises what the stores raise where the database is gone."""

    async def is_open(self, organization_id: str) -> bool:
        """Tell whether there is such an organization, and it was not erased."""

    async def get(self, organization_id: str, webhook_id: str) -> Webhook | None:
        """Return a webhook."""

    async def list(self, organization_id: str, after: tuple[str, str], limit: int) -> Sequence[Webhook]:
        """Return webhooks by organization and id, behind a pair of both; of all where the organization is empty."""

    async def made_by(self, organization_id: str, request_id: str) -> Webhook | None:
        """Return what a request made."""

    async def add(self, webhook: Webhook, event: EventDraft) -> bool:
        """Keep a new webhook; False where its request made one already or its organization is not there."""

    async def replace(self, webhook: Webhook, event: EventDraft | None) -> bool:
        """Put a webhook in the place of the version before it; False where that is not there any more."""

    async def delete(self, webhook: Webhook, event: EventDraft) -> bool:
        """Delete this version of a webhook, and what waits for it; False where it is not there any more."""

    async def percents(self) -> frozenset[int]:
        """Return the thresholds that any webhook asks for."""

    async def enqueue(self, deliveries: Sequence[Delivery]) -> int:
        """Keep what is not there yet, due at once; return how many were new."""

    async def claim(self, now: datetime, until: datetime, limit: int) -> Sequence[Delivery]:
        """Take deliveries that are due, so that nobody else does until then; each counts one try more."""

    async def ended(
        self, delivery: Delivery, state: DeliveryState, next_time: datetime, *, now: datetime, failure: str = ""
    ) -> bool:
        """Write down how a claimed try ended, also beside its webhook; False where another node took it meanwhile."""

    async def prune(self, before: datetime, limit: int) -> int:
        """Remove deliveries that nothing repeats any more; return how many."""


class PostFailedError(Exception):
    """A call was not taken; the message is one sentence for the administrators of the organization."""


class Post(Protocol):
    """Posts a body; returns where it was taken. Raises PostFailedError."""

    async def __call__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Post it."""
