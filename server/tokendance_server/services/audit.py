"""The Audit servicer: decode, one call of the domain, encode."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance.gateway.v1 import audit_service_pb2_grpc as pb_grpc
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.audit.events import AuditEvent, ChainHead
from tokendance_server.domain.audit.heads import SignedHead
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.audit.trail import EventQuery, Trail
from tokendance_server.domain.audit.verify import ChainBreak
from tokendance_server.domain.names import organization_name
from tokendance_server.services.call import call_of
from tokendance_server.services.origins import origin_of

Context = grpc.aio.ServicerContext[Any, Any]


class AuditService(pb_grpc.AuditServiceServicer):
    """Serves the audit trail to those who may read it."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Context) -> pb.ListAuditEventsResponse:
        query = EventQuery(request.parent, _filter(request.filter), request.page_size, request.page_token)
        events, token = await self._trail.list(call_of(context).identity, query)
        return pb.ListAuditEventsResponse(audit_events=map(event_message, events), next_page_token=token)

    async def VerifyAuditChain(
        self, request: pb.VerifyAuditChainRequest, context: Context
    ) -> pb.VerifyAuditChainResponse:
        kept = request.expected_head
        report = await self._trail.verify(
            call_of(context).identity,
            request.parent,
            first=request.first_sequence,
            last=request.last_sequence,
            expected=ChainHead(kept.sequence, kept.digest) if request.HasField("expected_head") else None,
            signed=_signed(kept) if kept.signature else None,
        )
        return pb.VerifyAuditChainResponse(
            valid=report.broken is None,
            checked_count=report.checked,
            first_break=None if report.broken is None else _break(report.broken),
            head=_head(report.head),
        )

    async def ExportAuditEvents(
        self, request: pb.ExportAuditEventsRequest, context: Context
    ) -> AsyncIterator[pb.ExportAuditEventsResponse]:
        call = call_of(context)
        parts = self._trail.export(
            call.identity, request.parent, _filter(request.filter), request.after_sequence, origin=origin_of(call)
        )
        async for part in parts:
            yield pb.ExportAuditEventsResponse(
                audit_events=map(event_message, part.events),
                total_size=part.total,
                head=None if part.head is None else _head(part.head),
            )


def event_message(event: AuditEvent) -> pb.AuditEvent:
    """Return an event as its readers see it."""
    personal = event.shown("actor")
    parent = f"{organization_name(event.organization_id)}/" if event.organization_id else ""
    return pb.AuditEvent(
        name=f"{parent}auditEvents/{event.id}",
        sequence=event.sequence,
        time=_timestamp(event.time),
        actor=pb.AuditActor(
            kind=event.actor_kind,
            name=event.actor,
            display_name=personal.get("display_name", ""),
            address=personal.get("address", ""),
            user_agent=personal.get("user_agent", ""),
        ),
        action=event.action,
        resource=event.resource,
        outcome=event.outcome,
        code=event.code,
        before_json=_json(event.shown("before")),
        after_json=_json(event.shown("after")),
        reason=event.reason,
        request_id=event.request_id,
        source=event.source,
        digest=event.digest,
    )


def _filter(wanted: pb.AuditFilter) -> EventFilter:
    return EventFilter(
        actor=wanted.actor,
        action=wanted.action,
        resource=wanted.resource,
        request_id=wanted.request_id,
        start_time=_instant(wanted.start_time, "filter.start_time") if wanted.HasField("start_time") else None,
        end_time=_instant(wanted.end_time, "filter.end_time") if wanted.HasField("end_time") else None,
        outcome=wanted.outcome,
    )


def _signed(kept: pb.AuditChainHead) -> SignedHead:
    """Return a kept head as signed; which chain it is of is for the trail to say."""
    time = _instant(kept.time, "expected_head.time")
    return SignedHead("", ChainHead(kept.sequence, kept.digest), time, kept.signature, kept.signing_key_id)


def _break(broken: ChainBreak) -> pb.AuditChainBreak:
    name = "" if broken.event is None else event_message(broken.event).name
    return pb.AuditChainBreak(sequence=broken.sequence, event=name, defect=broken.defect, message=broken.message)


def _head(head: ChainHead) -> pb.AuditChainHead:
    return pb.AuditChainHead(sequence=head.sequence, digest=head.digest)


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True) if fields else ""


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _instant(stamp: Timestamp, param: str) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as exc:
        raise GatewayError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST, f"{param} is out of range.", param=param, origin="caller"
        ) from exc
