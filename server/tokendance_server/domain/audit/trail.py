"""The audit trail as its readers get it: listed, checked and exported, each within the caller's scope."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, astuple, dataclass, replace
from datetime import datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance_server.domain.audit.events import PLATFORM, AuditEvent, ChainHead, EventDraft, Origin, event
from tokendance_server.domain.audit.heads import HeadVerifier, SignedHead
from tokendance_server.domain.audit.store import AuditStore, EventCursor, EventFilter
from tokendance_server.domain.audit.verify import ChainReport, bad_signature, verify_chain
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.names import ANY_ORGANIZATION, organization_name, organization_of
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal

PLATFORM_PARENT = "platform"
"""What stands for the platform's own chain where an organization could be named."""

_PAGE_SIZE = 100
_EXPORTED_AT_ONCE = 500
_READERS = frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN, access_pb2.CALLER_KIND_AUDITOR})


@dataclass(frozen=True, slots=True)
class EventQuery:
    """A list as asked for. `page_size` is 0 to 1,000; 0 means 100."""

    parent: str
    filter: EventFilter
    page_size: int = 0
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class ExportPart:
    """A part of an export: at most 500 events, how many there are in all, and, in the last part, the chain's end."""

    events: list[AuditEvent]
    total: int
    head: ChainHead | None


class Trail:
    """Reads the trail. Platform administrators see every chain; an organization's administrators and auditors its own.

    Every method raises not_found for what is outside the caller's scope, and invalid_request.
    """

    def __init__(
        self, store: AuditStore, clock: Clock, tokens: PageTokens, signing_key: HeadVerifier | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._tokens = tokens
        self._signing_key = signing_key

    async def list(self, caller: Principal, query: EventQuery) -> tuple[list[AuditEvent], str]:
        """Return a page of events, newest first, and the token of the next page: empty where this was the last."""
        narrowed = replace(query.filter, organization_id=self._chain_or_all(caller, query.parent))
        binding = json.dumps(["audit events", caller.name, *map(str, astuple(narrowed))])
        after = _cursor(self._tokens.open(query.page_token, binding)) if query.page_token else None
        size = query.page_size or _PAGE_SIZE
        found = await self._store.page(narrowed, after, size + 1)
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        place = json.dumps([last.time.isoformat(), last.organization_id, last.sequence])
        return found[:size], self._tokens.seal(place, binding)

    async def verify(
        self,
        caller: Principal,
        parent: str,
        *,
        first: int,
        last: int,
        expected: ChainHead | None,
        signed: SignedHead | None = None,
    ) -> ChainReport:
        """Check a chain from a place (0: the first) to a place (0: the last), and that it has a kept head.

        Where `signed` has that head's signature and names this node's key, it must be good, whatever chain it names.
        """
        chain = self._chain(caller, parent)
        report = await verify_chain(self._store, chain, first=first or 1, last=last, expected=expected)
        if report.broken is None and signed is not None and self._is_forged(replace(signed, organization_id=chain)):
            return replace(report, broken=bad_signature(signed.head.sequence))
        return report

    async def export(
        self, caller: Principal, parent: str, filter: EventFilter, after: int, *, origin: Origin
    ) -> AsyncIterator[ExportPart]:
        """Yield the events of a chain behind a place, oldest first. The export is an event itself, and the last one."""
        narrowed = replace(filter, organization_id=self._chain(caller, parent))
        recorded = await self._store.record(self._told(caller, narrowed, after, origin))
        head = ChainHead(recorded.sequence, recorded.digest)
        total = await self._store.count(narrowed, after)
        place, done = after, False
        while not done:
            batch = await self._store.chain(narrowed, place, _EXPORTED_AT_ONCE)
            events = [one for one in batch if one.sequence <= head.sequence]
            done = len(events) < _EXPORTED_AT_ONCE
            place = events[-1].sequence if events else place
            yield ExportPart(events, total, head if done else None)

    def _told(self, caller: Principal, narrowed: EventFilter, after: int, origin: Origin) -> EventDraft:
        """Return the event of an export: what was asked for."""
        chain = narrowed.organization_id or PLATFORM
        asked = {name: value for name, value in asdict(narrowed).items() if value and name != "organization_id"}
        return event(
            caller,
            origin,
            organization_id=chain,
            time=self._clock.now(),
            action="audit.export",
            resource=organization_name(chain) if chain else PLATFORM_PARENT,
            after={**asked, "after_sequence": after},
        )

    def _is_forged(self, signed: SignedHead) -> bool:
        key = self._signing_key
        return key is not None and signed.signing_key_id == key.key_id and not key.signed(signed)

    def _chain(self, caller: Principal, parent: str) -> str:
        chain = PLATFORM if parent == PLATFORM_PARENT else organization_of(parent, "parent")
        if not _sees(caller, chain):
            raise GatewayError(
                errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such audit trail.", param="parent", origin="caller"
            )
        return chain

    def _chain_or_all(self, caller: Principal, parent: str) -> str | None:
        if parent != ANY_ORGANIZATION:
            return self._chain(caller, parent)
        if access_pb2.CALLER_KIND_PLATFORM_ADMIN in caller.kinds:
            return None
        return self._chain(caller, caller.organization)


def _sees(caller: Principal, organization_id: str) -> bool:
    if access_pb2.CALLER_KIND_PLATFORM_ADMIN in caller.kinds:
        return True
    own = bool(organization_id) and caller.organization == organization_name(organization_id)
    return own and not caller.kinds.isdisjoint(_READERS)


def _cursor(place: str) -> EventCursor:
    time, organization_id, sequence = json.loads(place)
    return EventCursor(datetime.fromisoformat(time), organization_id, sequence)
