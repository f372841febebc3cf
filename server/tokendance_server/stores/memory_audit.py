"""The audit trail in lists: for tests, and for trying the gateway without a disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tokendance_server.domain.audit.events import AuditEvent, ChainHead, EventDraft, KeptPersonalData, seal
from tokendance_server.domain.audit.store import EventCursor, EventFilter


class MemoryAuditStore:
    """The trail, and where the other stores record their events."""

    def __init__(self) -> None:
        self._chains: dict[str, list[AuditEvent]] = {}

    def write(self, draft: EventDraft | None) -> AuditEvent | None:
        """Put an event at the end of its chain; None is passed over."""
        if draft is None:
            return None
        chain = self._chains.setdefault(draft.organization_id, [])
        event = seal(draft, _end(chain))
        chain.append(event)
        return event

    async def record(self, draft: EventDraft) -> AuditEvent:
        event = self.write(draft)
        assert event is not None
        return event

    async def record_all(self, drafts: Sequence[EventDraft]) -> None:
        for draft in drafts:
            self.write(draft)

    async def head(self, organization_id: str) -> ChainHead:
        return _end(self._chains.get(organization_id, []))

    async def page(self, filter: EventFilter, after: EventCursor | None, limit: int) -> list[AuditEvent]:
        placed = [
            (EventCursor(event.time, event.organization_id, event.sequence), event)
            for chain in self._chains.values()
            for event in chain
            if filter.matches(event)
        ]
        behind = [(place, event) for place, event in placed if after is None or place < after]
        return [event for _, event in sorted(behind, key=lambda pair: pair[0], reverse=True)][:limit]

    async def chain(self, filter: EventFilter, after: int, limit: int) -> list[AuditEvent]:
        chain = self._chains.get(filter.organization_id or "", [])
        return [event for event in chain[after:] if filter.matches(event)][:limit]

    async def count(self, filter: EventFilter, after: int) -> int:
        return sum(map(filter.matches, self._chains.get(filter.organization_id or "", [])[after:]))

    async def has_digest(self, organization_id: str, digest: bytes) -> bool:
        return any(event.digest == digest for event in self._chains.get(organization_id, []))

    def count_personal(self, name: str) -> int:
        """Return how many events have personal data of a name, or of one below it."""
        events = [event for chain in self._chains.values() for event in chain]
        return sum(any(_is_of(kept, name) for kept in event.personal.values()) for event in events)

    def forget(self, name: str) -> None:
        """Erase the personal data of a name and of all below it."""
        for chain in self._chains.values():
            for place, event in enumerate(chain):
                kept = {part: data for part, data in event.personal.items() if not _is_of(data, name)}
                chain[place] = dataclasses.replace(event, personal=kept)

    async def erase(self, subject: str) -> int:
        erased = 0
        for chain in self._chains.values():
            for place, event in enumerate(chain):
                kept = {part: data for part, data in event.personal.items() if data.subject != subject}
                erased += len(event.personal) - len(kept)
                chain[place] = dataclasses.replace(event, personal=kept)
        return erased


def _is_of(kept: KeptPersonalData, name: str) -> bool:
    return kept.subject == name or kept.subject.startswith(f"{name}/")


def _end(chain: list[AuditEvent]) -> ChainHead:
    return ChainHead(chain[-1].sequence, chain[-1].digest) if chain else ChainHead()
