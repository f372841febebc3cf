"""The part of the Quota servicer that tells what was used: GetRequest."""

from __future__ import annotations

from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import spec_of
from tokendance.gateway.v1 import completion_pb2, errors_pb2, quota_pb2, usage_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.names import child_name, organization_name
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import is_platform_admin, reads_all
from tokendance_server.domain.usage.counts import FIELDS, Counts
from tokendance_server.domain.usage.entries import Consulted, FinishedAttempt, FinishedEntry
from tokendance_server.domain.usage.reading import UsageReader
from tokendance_server.services.call import call_of

Context = grpc.aio.ServicerContext[Any, Any]
_OK = 200


class UsageService:
    """Serves GetRequest."""

    def __init__(self, reader: UsageReader) -> None:
        self._usage = reader

    async def GetRequest(self, request: pb.GetRequestRequest, context: Context) -> pb.GetRequestResponse:
        """Return the support record of one request."""
        caller = call_of(context).identity
        entry = await self._usage.request(caller, request.name)
        return pb.GetRequestResponse(request=request_message(entry, caller))


def request_message(entry: FinishedEntry, caller: Principal) -> usage_pb2.RequestRecord:
    """Return all that a reader may see of a request: providers, node and address are for administrators."""
    request, platform = entry.request, is_platform_admin(caller)
    administers = platform or (not caller.key_id and reads_all(caller, request.organization_id))
    return usage_pb2.RequestRecord(
        record=record_message(entry),
        message=entry.message,
        attempts=[_attempt(one, platform=platform) for one in entry.attempts],
        limits=[_limit(one) for one in entry.limits],
        warnings=[completion_pb2.Warning(field=field, why=why) for field, why in entry.warnings],
        credential_kind=request.credential_kind,  # type: ignore[arg-type]  # kept as a plain number
        host=request.host,
        route=request.route,
        address=request.address if administers else "",
        node=f"nodes/{entry.node}" if platform and entry.node else "",
    )


def record_message(entry: FinishedEntry) -> usage_pb2.UsageRecord:
    """Return the record of a request."""
    request = entry.request
    organization_id = request.organization_id
    record = usage_pb2.UsageRecord(
        # Who was turned away before anybody knew it is nobody's, and has no name.
        name=f"{organization_name(organization_id)}/requests/{entry.id}" if organization_id else "",
        request_id=request.request_id,
        start_time=_time(request.start_us),
        end_time=_time(entry.end_us),
        surface=request.surface,  # type: ignore[arg-type]  # kept as a plain number, as those below
        key=child_name(organization_id, "keys", request.key_id) if request.key_id else "",
        member=child_name(organization_id, "members", request.member_id) if request.member_id else "",
        team=child_name(organization_id, "teams", request.team_id) if request.team_id else "",
        requested_model=request.requested_model,
        served_model=entry.served_model if entry.attempts else "",
        streamed=request.streamed,
        outcome=entry.outcome,  # type: ignore[arg-type]
        reason=entry.reason,  # type: ignore[arg-type]
        http_status=_http_status(entry),
        usage=_usage(entry.counts, estimated=entry.estimated),
        cost_micros=entry.cost_micros,
        estimated=entry.estimated,
        replay_of=entry.replay_of,
        attempt_count=len(entry.attempts),
        delivery=entry.delivery,  # type: ignore[arg-type]
        client_kind=request.client_kind,
        client_version=request.client_version,
        user=request.user,
        metadata=request.metadata,
        labels=request.labels,
        first_byte_latency=_duration(entry.first_byte_us),
        added_latency=_duration(entry.added_us),
    )
    if entry.end_us is not None:
        record.total_latency.FromMicroseconds(max(entry.end_us - request.start_us, 0))
    return record


def _http_status(entry: FinishedEntry) -> int:
    if entry.request.surface in (errors_pb2.SURFACE_GRPC, errors_pb2.SURFACE_UNSPECIFIED):
        return 0
    if not entry.reason:
        return _OK if entry.outcome == usage_pb2.REQUEST_OUTCOME_SUCCEEDED else 0
    spec = spec_of(entry.reason)  # type: ignore[arg-type]
    own = next((one.http_status for one in spec.overrides if one.surface == entry.request.surface), 0)
    return own or spec.http_status


def _attempt(one: FinishedAttempt, *, platform: bool) -> usage_pb2.RequestAttempt:
    return usage_pb2.RequestAttempt(
        number=one.number,
        provider_label=one.provider_label,
        provider=f"providers/{one.provider}" if platform and one.provider else "",
        upstream_model=one.upstream_model if platform else "",
        model=one.model,
        start_time=_time(one.start_us),
        connect_latency=_duration(one.connect_us),
        first_byte_latency=_duration(one.first_byte_us),
        total_latency=_duration(one.total_us),
        outcome=one.outcome,  # type: ignore[arg-type]
        reason=one.reason,  # type: ignore[arg-type]
        upstream_status=one.upstream_status,
        upstream_request_id=one.upstream_request_id if platform else "",
        usage=_usage(one.counts, estimated=one.estimated),
        cost_micros=one.cost_micros,
    )


def _limit(one: Consulted) -> usage_pb2.ConsultedLimit:
    return usage_pb2.ConsultedLimit(
        subject=one.subject,
        rule=quota_pb2.LimitRule(
            metric=one.metric,  # type: ignore[arg-type]
            window=one.window,  # type: ignore[arg-type]
            limit=one.limit,
            soft=one.soft,
            model=one.model,
        ),
        spent=one.spent,
        held=one.held,
        asked=one.asked,
        refused=one.refused,
        reset_time=_time(one.reset_us),
    )


def _usage(counts: Counts, *, estimated: bool) -> completion_pb2.Usage:
    source = completion_pb2.USAGE_SOURCE_ESTIMATED if estimated else completion_pb2.USAGE_SOURCE_PROVIDER
    usage = completion_pb2.Usage(source=source)
    for name in FIELDS:
        setattr(usage, name, getattr(counts, name))
    return usage


def _time(micros: int | None) -> Timestamp | None:
    if micros is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(micros)
    return stamp


def _duration(micros: int | None) -> Duration | None:
    if micros is None:
        return None
    duration = Duration()
    duration.FromMicroseconds(micros)
    return duration
