"""The routes of each model, ready to be taken: what is known of them stays when the catalogue changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tokendance_server.domain.catalogue.in_force import Seat as ServingSeat
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import NO_CAPS, Model, Route
from tokendance_server.domain.quota.claims import Row
from tokendance_server.domain.routing.caps import rows_of
from tokendance_server.domain.routing.circuit import CircuitRules, CircuitState
from tokendance_server.domain.routing.credentials import Credential, CredentialRules, Seat
from tokendance_server.domain.routing.track import Track


class Lane:
    """One route of one model, with what is known of its upstream model and its credentials. Satisfies Candidate."""

    __slots__ = ("_rows", "label", "route", "seats", "tags", "track", "turn", "weight")

    def __init__(self, route: Route, label: str, track: Track, seats: Sequence[Seat]) -> None:
        self.route = route
        self.label = label
        self.track = track
        self.seats = tuple(seats)
        self.tags = frozenset(route.tags)
        self.weight = route.weight
        self.turn = 0
        of_route = rows_of(f"routes/{route.provider}/{route.upstream_model}", route.caps)
        self._rows = [
            of_route + rows_of(f"credentials/{route.provider}/{seat.credential.mark}", seat.caps) for seat in seats
        ]

    @property
    def running(self) -> int:
        """The calls under way there."""
        return self.track.running

    @property
    def probes(self) -> bool:
        """True where a call would be the one probe of it."""
        return self.track.circuit.state is CircuitState.HALF_OPEN

    def latency(self, now: float, *, streamed: bool) -> float | None:
        """The decaying mean of its latency in seconds; None where nothing is known."""
        return self.track.latency(now, streamed=streamed)

    def rows(self, seat: Seat) -> tuple[Row, ...]:
        """Return what counts against the caps of the route and of a credential of it."""
        return self._rows[self.seats.index(seat)]

    def seat(self, now: float, spent: Sequence[Seat]) -> Seat | None:
        """Return the credential to use: of those that may be used and are not `spent` the least busy, in turn."""
        seats = self.seats
        if len(seats) == 1:
            only = seats[0]
            return only if only.usable(now) and only not in spent else None
        found: Seat | None = None
        # `turn` moves with each call that takes this route.
        for place in range(self.turn, self.turn + len(seats)):
            one = seats[place % len(seats)]
            if (found is None or one.running < found.running) and one.usable(now) and one not in spent:
                found = one
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """The lanes of one model, by priority. `only` is set where there is nothing to choose: one lane without caps."""

    model: Model
    groups: tuple[tuple[Lane, ...], ...]
    only: Lane | None

    @property
    def lanes(self) -> list[Lane]:
        """Every lane, in the order in which they are tried."""
        return [lane for group in self.groups for lane in group]


@dataclass(slots=True)
class Plans:
    """The plans of one catalogue, and what is known of its upstreams, by names that outlive it."""

    serving: Serving
    by_model: dict[str, Plan] = field(default_factory=dict)
    tracks: dict[tuple[str, str], Track] = field(default_factory=dict)
    credentials: dict[tuple[str, str], Credential] = field(default_factory=dict)
    seats: dict[tuple[str, str, str], Seat] = field(default_factory=dict)


def build_plans(
    serving: Serving, before: Plans | None, now: float, circuits: CircuitRules, credentials: CredentialRules
) -> Plans:
    """Return the plans of a catalogue; what was known before of the same upstreams and credentials is kept."""
    builder = _Builder(serving, before, now, circuits, credentials)
    for model in serving.catalog.models:
        builder.plans.by_model[model.id] = plan_of(model, [builder.lane(route) for route in model.routes])
    return builder.plans


def plan_of(model: Model, lanes: Sequence[Lane]) -> Plan:
    """Return the plan of a model over its lanes."""
    ordered = sorted(lanes, key=lambda lane: lane.route.priority)
    groups = tuple(tuple(group) for _, group in groupby(ordered, key=lambda lane: lane.route.priority))
    only = lanes[0] if len(lanes) == 1 and len(lanes[0].seats) == 1 and not lanes[0].rows(lanes[0].seats[0]) else None
    return Plan(model, groups, only)


class _Builder:
    """Makes the lanes of one catalogue, out of what was known before where that is there."""

    def __init__(
        self, serving: Serving, before: Plans | None, now: float, circuits: CircuitRules, credentials: CredentialRules
    ) -> None:
        self.plans = Plans(serving)
        self._known = before or self.plans
        self._now = now
        self._circuits = circuits
        self._credentials = credentials

    def lane(self, route: Route) -> Lane:
        serving, plans, provider = self.plans.serving, self.plans, route.provider
        key = (provider, route.upstream_model)
        track = plans.tracks.get(key) or self._known.tracks.get(key) or Track(key, self._circuits, self._now)
        plans.tracks[key] = track
        given = serving.seats.get(provider) or [ServingSeat("", serving.upstreams[provider])]
        return Lane(route, serving.labels[provider], track, [self._seat(key, one) for one in given])

    def _seat(self, key: tuple[str, str], given: ServingSeat) -> Seat:
        plans, known, provider = self.plans, self._known, key[0]
        place = (*key, given.id)
        seat = plans.seats.get(place)
        if seat is not None:
            return seat
        name = (provider, given.id)
        credential = plans.credentials.get(name) or known.credentials.get(name)
        if credential is None:
            credential = Credential(provider, given.id, self._credentials)
        plans.credentials[name] = credential
        seat = plans.seats[place] = Seat(
            credential, given.upstream, plans.serving.caps.get(provider, NO_CAPS), self._now
        )
        old: Mapping[tuple[str, str, str], Seat] = known.seats
        if place in old and old[place] is not seat:
            seat.rest_until = old[place].rest_until
        return seat
