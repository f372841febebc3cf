"""What the audit trail asks of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tokendance.gateway.v1 import audit_service_pb2
from tokendance.gateway.v1.audit_service_pb2 import AuditOutcome
from tokendance_server.domain.audit.events import AuditEvent, ChainHead, EventDraft


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are meant; what is empty or None does not narrow it. `organization_id` None means every chain.

    An `action` that ends in a dot means all verbs of its noun; a `resource` includes those below it.
    """

    organization_id: str | None = None
    actor: str = ""
    action: str = ""
    resource: str = ""
    request_id: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    outcome: AuditOutcome.ValueType = audit_service_pb2.AUDIT_OUTCOME_UNSPECIFIED

    def matches(self, event: AuditEvent) -> bool:
        """Tell whether an event is meant."""
        return (
            self.organization_id in (None, event.organization_id)
            and self.actor in ("", event.actor)
            and (self.action in ("", event.action) or self._names_noun_of(event))
            and (self.resource in ("", event.resource) or event.resource.startswith(f"{self.resource}/"))
            and self.request_id in ("", event.request_id)
            and (self.start_time is None or event.time >= self.start_time)
            and (self.end_time is None or event.time < self.end_time)
            and self.outcome in (audit_service_pb2.AUDIT_OUTCOME_UNSPECIFIED, event.outcome)
        )

    def _names_noun_of(self, event: AuditEvent) -> bool:
        return self.action.endswith(".") and event.action.startswith(self.action)


@dataclass(frozen=True, slots=True, order=True)
class EventCursor:
    """A place in a list that runs from the newest event to the oldest, over all chains."""

    time: datetime
    organization_id: str
    sequence: int


class AuditStore(Protocol):
    """Reads the trail. What other stores change they record themselves, in the same transaction."""

    async def record(self, draft: EventDraft) -> AuditEvent:
        """Write down what changes nothing in any other store, in a transaction of its own."""

    async def record_all(self, drafts: Sequence[EventDraft]) -> None:
        """Write down several, all or none, in their order."""

    async def head(self, organization_id: str) -> ChainHead:
        """Return the end of a chain as it was last written."""

    async def page(self, filter: EventFilter, after: EventCursor | None, limit: int) -> list[AuditEvent]:
        """Return at most `limit` events behind the cursor, from the newest to the oldest."""

    async def chain(self, filter: EventFilter, after: int, limit: int) -> list[AuditEvent]:
        """Return at most `limit` events of the filter's one chain behind a place, from the oldest to the newest."""

    async def count(self, filter: EventFilter, after: int) -> int:
        """Return how many events `chain` has in all."""

    async def has_digest(self, organization_id: str, digest: bytes) -> bool:
        """Tell whether a chain has an event of this digest."""

    async def erase(self, subject: str) -> int:
        """Remove all personal data of a subject, a resource name; return of how many parts of events."""
