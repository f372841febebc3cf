"""What a reserved call used, as its service tells it, and the usage record that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tokendance.gateway.v1 import completion_pb2, errors_pb2, usage_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.prices.tariff import Tariff
from tokendance_server.domain.quota.kept_reservations import KeptReservation
from tokendance_server.domain.usage.counts import Counts, believe
from tokendance_server.domain.usage.entries import FinishedAttempt, FinishedEntry, OpenRequest

_CLOCKS_DIFFER_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Bill:
    """What a reserved call used; `start_us` and `end_us` are microseconds since 1970, `cost_micros` micro-USD."""

    usage: completion_pb2.Usage
    cost_micros: int | None = None
    reason: ErrorReason.ValueType = errors_pb2.ERROR_REASON_UNSPECIFIED
    start_us: int | None = None
    end_us: int | None = None


def entry_of(reservation: KeptReservation, bill: Bill, tariff: Tariff | None, node: str, now_us: int) -> FinishedEntry:
    """Return the record of a reserved call. Counts that cannot be are taken for what was held, and flagged.

    `tariff` is the model's as at the reservation. Raises invalid_request for times that cannot be.
    """
    held = reservation.held
    end_us = now_us if bill.end_us is None else bill.end_us
    start_us = min(to_micros(reservation.create_time), end_us) if bill.start_us is None else bill.start_us
    if start_us > end_us:
        raise invalid("start_time", "must not be behind end_time")
    if end_us > now_us + _CLOCKS_DIFFER_US:
        raise invalid("end_time", "must not lie in the future")
    usage = completion_pb2.Usage()
    usage.CopyFrom(bill.usage)
    if usage.source == completion_pb2.USAGE_SOURCE_UNSPECIFIED:
        # The service called the provider, and knows.
        usage.source = completion_pb2.USAGE_SOURCE_PROVIDER
    counts, estimated = believe(usage, Counts(held.input_tokens, held.output_tokens))
    cost = bill.cost_micros
    if cost is None and tariff is not None:
        cost = tariff.cost(counts)
    outcome = usage_pb2.REQUEST_OUTCOME_FAILED if bill.reason else usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    attempt = FinishedAttempt(
        number=1,
        start_us=start_us,
        outcome=outcome,
        model=held.model,
        reason=bill.reason,
        total_us=end_us - start_us,
        counts=counts,
        estimated=estimated,
        cost_micros=cost,
    )
    return FinishedEntry(
        id=reservation.record_id,
        node=node,
        request=OpenRequest(
            request_id=held.request_id,
            start_us=start_us,
            organization_id=reservation.organization_id,
            key_id=held.key_id,
            member_id=held.member_id,
            team_id=held.team_id,
            requested_model=held.model,
            served_model=held.model,
            surface=held.surface,
            labels=held.labels,
            key_labels=held.key_labels,
            credential_kind=usage_pb2.CREDENTIAL_KIND_API_KEY,
        ),
        outcome=outcome,
        end_us=end_us,
        served_model=held.model,
        reason=bill.reason,
        counts=counts,
        estimated=estimated,
        cost_micros=cost,
        attempts=(attempt,),
    )


def to_micros(time: datetime) -> int:
    """Return a time as microseconds since 1970."""
    return int(time.timestamp() * 1_000_000)
