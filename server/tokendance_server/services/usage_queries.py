"""The part of the Quota servicer that sums up and lists usage: GetUsage and ListUsageRecords."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import spec_of
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.names import Collection, child_id
from tokendance_server.domain.usage.queries import MONTH_US, Question, UsageQueries
from tokendance_server.domain.usage.store import DAY_US, HOUR_US, Group, Grouping, Sums, UsageFilter
from tokendance_server.services.call import call_of
from tokendance_server.services.usage import record_message

Context = grpc.aio.ServicerContext[Any, Any]

_COLUMNS = {
    pb.USAGE_DIMENSION_KEY: "key_id",
    pb.USAGE_DIMENSION_MEMBER: "member_id",
    pb.USAGE_DIMENSION_TEAM: "team_id",
    pb.USAGE_DIMENSION_ORGANIZATION: "organization_id",
    pb.USAGE_DIMENSION_MODEL: "model",
    pb.USAGE_DIMENSION_CODE: "reason",
    pb.USAGE_DIMENSION_SURFACE: "surface",
    pb.USAGE_DIMENSION_USER: "user_name",
    pb.USAGE_DIMENSION_LABEL: "labels",
    pb.USAGE_DIMENSION_CLIENT: "client_kind",
    pb.USAGE_DIMENSION_PROVIDER: "provider_label",
    pb.USAGE_DIMENSION_OUTCOME: "outcome",
}
_INTERVALS = {
    pb.USAGE_INTERVAL_UNSPECIFIED: 0,
    pb.USAGE_INTERVAL_HOUR: HOUR_US,
    pb.USAGE_INTERVAL_DAY: DAY_US,
    pb.USAGE_INTERVAL_MONTH: MONTH_US,
}


class UsageQueriesService:
    """Serves GetUsage and ListUsageRecords."""

    def __init__(self, queries: UsageQueries) -> None:
        self._queries = queries

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:
        """Sum usage up."""
        groups = [Grouping(_COLUMNS[one.dimension], one.label) for one in request.group_by]
        report = await self._queries.sum_up(
            call_of(context).identity, _question(request), groups, _INTERVALS[request.interval]
        )
        return pb.GetUsageResponse(
            rows=[_row(one, groups, timed=bool(request.interval)) for one in report.rows],
            next_page_token=report.next_page_token,
            totals=_totals(report.totals),
            complete_until_time=_time(report.complete_until_us),
        )

    async def ListUsageRecords(
        self, request: pb.ListUsageRecordsRequest, context: Context
    ) -> pb.ListUsageRecordsResponse:
        """List requests, newest first."""
        page = await self._queries.list(call_of(context).identity, _question(request))
        return pb.ListUsageRecordsResponse(
            usage_records=[record_message(one) for one in page.entries],
            next_page_token=page.next_page_token,
            total_size=page.total,
        )


def _question(request: pb.GetUsageRequest | pb.ListUsageRecordsRequest) -> Question:
    bound = type(request)()
    bound.CopyFrom(request)  # type: ignore[arg-type]  # it is of this very type
    bound.ClearField("page_token")
    bound.ClearField("page_size")
    return Question(
        parent=request.parent,
        wanted=_filter(request.filter),
        start_us=request.start_time.ToMicroseconds() if request.HasField("start_time") else None,
        end_us=request.end_time.ToMicroseconds() if request.HasField("end_time") else None,
        page_size=request.page_size,
        page_token=request.page_token,
        binding=bound.SerializeToString(deterministic=True).hex(),
    )


def _filter(wanted: usage_pb2.UsageFilter) -> UsageFilter:
    return UsageFilter(
        keys=_ids(wanted.keys, "keys", "filter.keys"),
        members=_ids(wanted.members, "members", "filter.members"),
        teams=_ids(wanted.teams, "teams", "filter.teams"),
        models=tuple(wanted.models),
        outcomes=tuple(wanted.outcomes),
        surfaces=tuple(wanted.surfaces),
        users=tuple(wanted.users),
        labels=dict(wanted.labels),
    )


def _ids(names: Iterable[str], collection: Collection, param: str) -> tuple[str, ...]:
    """Return the ids of subjects, which are the same whatever organization they are in. Raises invalid_request."""
    return tuple(child_id(name, collection, f"{param}[{place}]") for place, name in enumerate(names))


def _row(group: Group, groups: Sequence[Grouping], *, timed: bool) -> pb.UsageRow:
    return pb.UsageRow(
        start_time=_time(group.bucket_us) if timed else None,
        values=[_value(one.column, value) for one, value in zip(groups, group.values, strict=True)],
        totals=_totals(group.sums),
    )


def _value(column: str, value: str | int) -> str:
    if isinstance(value, str):
        return value
    if not value:
        return ""
    if column == "reason":
        return spec_of(value).code  # type: ignore[arg-type]  # kept as a plain number, as those below
    if column == "surface":
        return errors_pb2.Surface.Name(value).removeprefix("SURFACE_").lower()  # type: ignore[arg-type]
    return usage_pb2.RequestOutcome.Name(value).removeprefix("REQUEST_OUTCOME_").lower()  # type: ignore[arg-type]


def _totals(sums: Sums) -> usage_pb2.UsageTotals:
    return usage_pb2.UsageTotals(
        requests=sums.requests,
        succeeded_requests=sums.succeeded,
        refused_requests=sums.refused,
        failed_requests=sums.failed,
        input_tokens=sums.input_tokens,
        cached_input_tokens=sums.cached_input_tokens,
        cache_write_tokens=sums.cache_write_tokens,
        output_tokens=sums.output_tokens,
        reasoning_tokens=sums.reasoning_tokens,
        cost_micros=sums.cost_micros,
        unpriced_requests=sums.unpriced,
        estimated_requests=sums.estimated,
        mean_first_byte_latency=_mean(sums.first_byte_us, sums.first_bytes),
        mean_total_latency=_mean(sums.total_us, sums.ended),
    )


def _mean(total_us: int, terms: int) -> Duration | None:
    if not terms:
        return None
    mean = Duration()
    mean.FromMicroseconds(total_us // terms)
    return mean


def _time(micros: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(micros)
    return stamp
