"""What a service asks to be held, and what it is told where that cannot be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.kept_reservations import KeptReservation, ReservationState

LEASE_S = 60.0
"""How long a hold lasts where nobody says."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a service wants held: tokens, and micro-USD where it knows them better than the model's prices do."""

    key: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int | None = None
    lease_s: float = LEASE_S
    request_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> bytes:
        """Return what tells this ask from others of the same request key: 32 bytes."""
        told = [
            self.key,
            self.model,
            self.input_tokens,
            self.output_tokens,
            self.cost_micros,
            sorted(self.labels.items()),
        ]
        return hashlib.sha256(json.dumps(told).encode()).digest()


def require_scope(caller: Principal, organization_id: str, param: str) -> None:
    """Raise not_found where a caller of one organization names another's."""
    if caller.organization and tenant_of(caller.organization) != organization_id:
        raise nothing_here(param, "key")


def require_held(reservation: KeptReservation, now: datetime) -> None:
    """Raise failed_precondition where a reservation holds nothing any more."""
    state = reservation.state_at(now)
    if state is ReservationState.EXPIRED:
        raise failed("The lease of this reservation ran out and it holds nothing; reserve anew, or settle it.")
    if state is not ReservationState.HELD:
        raise failed(f"This reservation was {state.value}, and holds nothing that could be prolonged.")


def repeated(reservation: KeptReservation, ask: Ask) -> KeptReservation:
    """Return what was reserved before; raises idempotency_conflict where something else was asked."""
    if reservation.fingerprint != ask.fingerprint():
        raise GatewayError(
            errors_pb2.ERROR_REASON_IDEMPOTENCY_CONFLICT,
            "This request_id made a different reservation before; use a new one for another call.",
            param="request_id",
            origin="caller",
        )
    return reservation


def failed(sentence: str) -> GatewayError:
    """Return failed_precondition with a sentence."""
    return GatewayError(errors_pb2.ERROR_REASON_FAILED_PRECONDITION, sentence, param="name", origin="caller")


def changing(param: str) -> GatewayError:
    """Return what is told where others change the same reservation again and again."""
    return GatewayError(
        errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
        "This reservation is being changed by others all the time; try again.",
        param=param,
        origin="caller",
    )


def nothing_here(param: str, what: str) -> GatewayError:
    """Return not_found."""
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, f"There is no such {what}.", param=param, origin="caller")
