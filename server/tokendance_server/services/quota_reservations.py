"""The part of the Quota servicer for internal services: decode, one call of the domain, encode."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.names import child_name
from tokendance_server.domain.quota.asks import LEASE_S, Ask
from tokendance_server.domain.quota.bills import Bill
from tokendance_server.domain.quota.kept_reservations import KeptReservation, ReservationState
from tokendance_server.domain.quota.service_reservations import ServiceReservations
from tokendance_server.services.call import call_of
from tokendance_server.services.key_messages import timestamp
from tokendance_server.services.usage import record_message

Context = grpc.aio.ServicerContext[Any, Any]
_STATES = {
    ReservationState.HELD: pb.RESERVATION_STATE_HELD,
    ReservationState.SETTLED: pb.RESERVATION_STATE_SETTLED,
    ReservationState.RELEASED: pb.RESERVATION_STATE_RELEASED,
    ReservationState.EXPIRED: pb.RESERVATION_STATE_EXPIRED,
}


class ReservationsService:
    """Serves ReserveQuota, RenewReservation, ReleaseReservation and SettleQuota."""

    def __init__(self, reservations: ServiceReservations) -> None:
        self._service_reservations = reservations

    async def ReserveQuota(self, request: pb.ReserveQuotaRequest, context: Context) -> pb.ReserveQuotaResponse:
        """Hold quota."""
        call = call_of(context)
        made = await self._service_reservations.reserve(
            call.identity,
            Ask(
                key=request.key,
                model=request.model,
                input_tokens=request.input_tokens,
                output_tokens=request.output_tokens,
                cost_micros=request.cost_micros if request.HasField("cost_micros") else None,
                lease_s=_lease(request),
                request_key=request.request_id,
                labels=dict(request.labels),
            ),
            request_id=call.request_id,
            surface=call.surface,
        )
        return pb.ReserveQuotaResponse(reservation=self._message(made))

    async def RenewReservation(
        self, request: pb.RenewReservationRequest, context: Context
    ) -> pb.RenewReservationResponse:
        """Prolong a reservation."""
        kept = await self._service_reservations.renew(
            call_of(context).identity,
            request.name,
            lease_s=_lease(request),
            output_tokens=request.output_tokens if request.HasField("output_tokens") else None,
            cost_micros=request.cost_micros if request.HasField("cost_micros") else None,
        )
        return pb.RenewReservationResponse(reservation=self._message(kept))

    async def ReleaseReservation(
        self, request: pb.ReleaseReservationRequest, context: Context
    ) -> pb.ReleaseReservationResponse:
        """Give a reservation back."""
        released = await self._service_reservations.release(call_of(context).identity, request.name)
        return pb.ReleaseReservationResponse(reservation=self._message(released))

    async def SettleQuota(self, request: pb.SettleQuotaRequest, context: Context) -> pb.SettleQuotaResponse:
        """Charge a reserved call."""
        bill = Bill(
            usage=request.usage,
            cost_micros=request.cost_micros if request.HasField("cost_micros") else None,
            reason=request.reason,
            start_us=_micros(request.start_time) if request.HasField("start_time") else None,
            end_us=_micros(request.end_time) if request.HasField("end_time") else None,
        )
        settled = await self._service_reservations.settle(call_of(context).identity, request.name, bill)
        return pb.SettleQuotaResponse(usage_record=record_message(settled.entry), already_settled=settled.before)

    def _message(self, reservation: KeptReservation) -> pb.Reservation:
        return reservation_message(reservation, self._service_reservations.now())


def reservation_message(reservation: KeptReservation, now: datetime) -> pb.Reservation:
    """Return a reservation as its service sees it at a time."""
    held = reservation.held
    return pb.Reservation(
        name=reservation.name,
        key=child_name(reservation.organization_id, "keys", held.key_id),
        model=held.model,
        request_id=held.request_id,
        input_tokens=held.input_tokens,
        output_tokens=held.output_tokens,
        cost_micros=held.cost_micros,
        expire_time=timestamp(reservation.expire_time),
        state=_STATES[reservation.state_at(now)],
        create_time=timestamp(reservation.create_time),
    )


def _lease(request: pb.ReserveQuotaRequest | pb.RenewReservationRequest) -> float:
    lease: Duration = request.lease
    return lease.ToMicroseconds() / 1_000_000 if request.HasField("lease") else LEASE_S


def _micros(time: Timestamp) -> int:
    return time.ToMicroseconds()
