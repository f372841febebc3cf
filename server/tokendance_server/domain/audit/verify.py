"""Checks a chain, and names the first row that was removed, changed or moved."""

from __future__ import annotations

from dataclasses import dataclass

from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance.gateway.v1.audit_service_pb2 import AuditChainDefect
from tokendance_server.domain.audit.events import NO_DIGEST, AuditEvent, ChainHead
from tokendance_server.domain.audit.store import AuditStore, EventFilter

_BATCH = 500


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """The first place that is wrong, what is wrong there, and the event there, if there is one."""

    sequence: int
    defect: AuditChainDefect.ValueType
    event: AuditEvent | None
    message: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a check found: `broken` is None where nothing is wrong. `head` is the end of what is there."""

    checked: int
    broken: ChainBreak | None
    head: ChainHead


async def verify_chain(
    store: AuditStore, organization_id: str, *, first: int = 1, last: int = 0, expected: ChainHead | None = None
) -> ChainReport:
    """Check the places from `first` to `last` (0: to the end), and that `expected` is in the chain."""
    # Before the rows: what is written meanwhile comes behind it.
    head = await store.head(organization_id)
    check = _Check(store, organization_id)
    checked, broken = await check.run(first, min(last, head.sequence) if last else head.sequence, head)
    if broken is None and expected is not None and expected.sequence:
        broken = await check.find(expected, head)
    return ChainReport(checked, broken, head)


def bad_signature(sequence: int) -> ChainBreak:
    """Return what is wrong where a kept head has a signature that is not the gateway's."""
    sentence = f"The signature of the kept head at {sequence} is not the gateway's."
    return ChainBreak(sequence, pb.AUDIT_CHAIN_DEFECT_BAD_SIGNATURE, None, sentence)


class _Check:
    def __init__(self, store: AuditStore, organization_id: str) -> None:
        self._store = store
        self._organization_id = organization_id

    async def run(self, first: int, last: int, head: ChainHead) -> tuple[int, ChainBreak | None]:
        """Check the places from `first` to `last`, both included; return how many were whole, and the first break."""
        before: AuditEvent | None = None
        digest, place = NO_DIGEST, first
        if first > 1:
            before = await self._at(first - 1)
            if before is None:
                return 0, _removed(first - 1, None)
            digest = before.digest
        while place <= last:
            batch = await self._read(place - 1, min(_BATCH, last - place + 1))
            for event in batch:
                if event.sequence > last:
                    break
                if event.sequence != place:
                    return place - first, _removed(place, None)
                if broken := await self._check(event, before, digest, head):
                    return place - first, broken
                before, digest, place = event, event.digest, place + 1
            if not batch:
                return place - first, _removed(place, None)
        if last == head.sequence and before is not None and digest != head.digest:
            return place - first - 1, _changed(before)
        return place - first, await self._beyond(last, head)

    async def find(self, expected: ChainHead, head: ChainHead) -> ChainBreak | None:
        """Return what is wrong where a head that was kept elsewhere is not in the chain."""
        if expected.sequence > head.sequence:
            sentence = f"The chain ends at {head.sequence}, before the kept head at {expected.sequence}."
            return ChainBreak(head.sequence + 1, pb.AUDIT_CHAIN_DEFECT_CUT_SHORT, None, sentence)
        event = await self._at(expected.sequence)
        if event is None:
            return _removed(expected.sequence, None)
        return None if event.digest == expected.digest else _changed(event)

    async def _check(
        self, event: AuditEvent, before: AuditEvent | None, digest: bytes, head: ChainHead
    ) -> ChainBreak | None:
        if not event.is_intact():
            return _changed(event)
        if event.previous == digest:
            return None
        # As it was written, but it follows another event than the one that is before it.
        if event.previous == NO_DIGEST or await self._store.has_digest(self._organization_id, event.previous):
            sentence = f"The event {event.id} was moved to place {event.sequence} from another one."
            return ChainBreak(event.sequence, pb.AUDIT_CHAIN_DEFECT_MOVED, event, sentence)
        # The event that it follows is nowhere: where no place is missing, it was written anew, digest and all.
        if before is not None and await self._at(head.sequence) is not None:
            return _changed(before)
        return _removed(event.sequence, event)

    async def _beyond(self, last: int, head: ChainHead) -> ChainBreak | None:
        """Return what is wrong with the first event behind the head; what was written since the head is not."""
        if last != head.sequence:
            return None
        event = await self._at(last + 1)
        if event is None:
            return None
        now = await self._store.head(self._organization_id)
        if now.sequence >= event.sequence and event.is_intact() and event.previous == head.digest:
            return None
        return _changed(event)

    async def _read(self, after: int, limit: int) -> list[AuditEvent]:
        return await self._store.chain(EventFilter(self._organization_id), after, limit)

    async def _at(self, sequence: int) -> AuditEvent | None:
        found = await self._read(sequence - 1, 1)
        return found[0] if found and found[0].sequence == sequence else None


def _removed(sequence: int, event: AuditEvent | None) -> ChainBreak:
    sentence = f"The event at place {sequence} was removed."
    return ChainBreak(sequence, pb.AUDIT_CHAIN_DEFECT_REMOVED, event, sentence)


def _changed(event: AuditEvent) -> ChainBreak:
    sentence = f"The event {event.id} at place {event.sequence} was changed."
    return ChainBreak(event.sequence, pb.AUDIT_CHAIN_DEFECT_CHANGED, event, sentence)
