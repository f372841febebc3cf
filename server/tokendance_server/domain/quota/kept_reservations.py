"""Reservations that outlive the process that made them: what is kept of each, and who keeps it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import msgspec

from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.names import organization_name
from tokendance_server.domain.quota.claims import Claim, Grant, Hold, row_of
from tokendance_server.domain.usage.entries import FinishedEntry


class ReservationState(enum.StrEnum):
    """Where a reservation stands. EXPIRED is never stored: it follows from the time."""

    HELD = "held"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class Part(msgspec.Struct, frozen=True):
    """One lease and what it holds: the place of a limit among `limits`, its window, the amount."""

    lease: str
    holds: tuple[tuple[int, int, int], ...]


class Held(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a reservation is for and what it holds, as it is stored: fields may be added, with a default.

    Subjects are ids, but for those of `limits`: subject (a resource name), metric, window, limit, soft, model. Tokens
    and micro-USD are what is held in all; `cost_micros` is None for a model without a price.
    """

    request_id: str
    key_id: str
    member_id: str
    team_id: str
    model: str
    surface: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int | None = None
    labels: dict[str, str] = {}
    key_labels: dict[str, str] = {}
    limits: tuple[tuple[str, int, int, int, bool, str], ...] = ()
    parts: tuple[Part, ...] = ()
    charged: FinishedEntry | None = None


@dataclass(frozen=True, slots=True)
class KeptReservation:
    """One reservation. `maker` is the resource name of the service that may end it; `version` counts from 1.

    `record_id` is the billing id under which its usage is recorded. `request_key` is the caller's own, None where a
    repeat reserves anew, and `fingerprint` (32 bytes) tells what was asked for with it.
    """

    organization_id: str
    id: str
    record_id: str
    maker: str
    request_key: str | None
    fingerprint: bytes
    create_time: datetime
    expire_time: datetime
    held: Held
    state: ReservationState = ReservationState.HELD
    version: int = 1

    @property
    def name(self) -> str:
        """`organizations/{organization}/reservations/{reservation}`."""
        return f"{organization_name(self.organization_id)}/reservations/{self.id}"

    def state_at(self, now: datetime) -> ReservationState:
        """Return where it stands at a time."""
        if self.state is ReservationState.HELD and self.expire_time <= now:
            return ReservationState.EXPIRED
        return self.state

    def grants(self) -> list[Grant]:
        """Return what its leases hold, the first one first, as counters know it."""
        rows = [row_of(one[0], LimitRule(*one[1:])) for one in self.held.limits]  # type: ignore[arg-type]
        grants = []
        for part in self.held.parts:
            holds = [Hold(rows[place], window, amount) for place, window, amount in part.holds]
            claim = Claim(
                self.id, organization_name(self.organization_id), [one.row for one in holds], lease=part.lease
            )
            grants.append(Grant(claim, 0, holds, lease=part.lease))
        return grants


class ReservationStore(Protocol):
    """Keeps reservations. Each method is one transaction."""

    async def get(self, organization_id: str, reservation_id: str) -> KeptReservation | None:
        """Return a reservation, or None where there is none."""

    async def made_by(self, maker: str, request_key: str) -> KeptReservation | None:
        """Return what a service made with a key of its own, or None."""

    async def add(self, reservation: KeptReservation) -> bool:
        """Keep a new one; False where its maker used the request key before."""

    async def replace(self, reservation: KeptReservation, entry: FinishedEntry | None = None) -> bool:
        """Put it in place of the version before, and write its usage down with it.

        False, with nothing changed, where it has another version by now.
        """

    async def prune(self, before: datetime, limit: int) -> int:
        """Remove at most `limit` reservations whose leases ended before a time; return how many."""
