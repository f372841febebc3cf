"""The router of a node: ways for calls, and the health of routes and models. Satisfies HealthSource."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from tokendance.gateway.v1 import completion_pb2
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.routing.budget import RetryBudget
from tokendance_server.domain.routing.circuit import Cause, CircuitRules, CircuitState
from tokendance_server.domain.routing.credentials import Credential, CredentialRules
from tokendance_server.domain.routing.health import ModelHealth, RouteHealth
from tokendance_server.domain.routing.lanes import Lane, Plan, Plans, build_plans
from tokendance_server.domain.routing.track import Track
from tokendance_server.domain.routing.traffic import Traffic
from tokendance_server.domain.routing.way import Way


class Report(Protocol):
    """Is told what operators should know of."""

    def circuit_opened(self, track: Track, cause: Cause, rest_s: float) -> None:
        """A route is out for a while."""

    def circuit_closed(self, track: Track) -> None:
        """It is used again."""

    def credential_refused(self, credential: Credential) -> None:
        """A provider refuses a credential, which is used no more: an alarm."""

    def credential_restored(self, credential: Credential) -> None:
        """A credential that was refused works again."""


class Shared(Protocol):
    """Tells other nodes of circuits that opened here."""

    def opened(self, key: tuple[str, str], rest_s: float) -> None:
        """Tell that a route is out for so many seconds; never waits."""


@dataclass(frozen=True, slots=True)
class RoutingRules:
    """What circuits and credentials are judged by. The budget of retries is made of the last three."""

    circuits: CircuitRules = field(default_factory=CircuitRules)
    credentials: CredentialRules = field(default_factory=CredentialRules)
    retry_share: float = 0.2
    least_retries: int = 10
    retry_window_s: float = 10.0


class Router:
    """Finds ways over the routes of the catalogue in force, which `serving` returns.

    `random` returns numbers from 0 up to but not including 1.
    """

    def __init__(
        self,
        serving: Callable[[], Serving],
        clock: Clock,
        random: Callable[[], float],
        report: Report,
        rules: RoutingRules | None = None,
    ) -> None:
        rules = rules or RoutingRules()
        self._serving = serving
        self._clock = clock
        self._plans: Plans | None = None
        self._traffic: dict[str, Traffic] = {}
        self._rules = rules
        self.random = random
        self.report = report
        self.now = clock.monotonic
        self.credential_rules = rules.credentials
        self.budget = RetryBudget(rules.retry_share, rules.least_retries, rules.retry_window_s)
        self.shared: Shared | None = None

    def way(
        self,
        model: Model,
        principal: Principal,
        request: completion_pb2.CompletionRequest | None,
        *,
        streamed: bool = False,
    ) -> Way:
        """Return the way of a call of a model that the catalogue in force has; `request` is None for vectors."""
        self.budget.called(self.now())
        return Way(self, self._current().by_model[model.id], principal, request, streamed=streamed)

    def look(self, model: Model, principal: Principal, request: completion_pb2.CompletionRequest) -> Way:
        """Return a way that nobody will go, to see where it leads."""
        return Way(self, self._current().by_model[model.id], principal, request, streamed=False)

    def plan_for(self, name: str, principal: Principal) -> Plan | None:
        """Return the plan of a model to fall back to; None where there is none, or where the caller may not call it."""
        plan = self._current().by_model.get(name)
        catalog = self._current().serving.catalog
        return plan if plan is not None and catalog.allows(plan.model, principal) else None

    def plans(self) -> Plans:
        """Return the plans in force."""
        return self._current()

    def take_retry(self) -> bool:
        """Take a retry out of the budget; False where nothing is left of it."""
        return self.budget.take(self.now())

    def opened(self, track: Track, now: float) -> None:
        """Take that a circuit opened here, and tell of it."""
        circuit = track.circuit
        rest_s = circuit.rest_until - now
        self.report.circuit_opened(track, circuit.cause or Cause.DEAD, rest_s)
        if self.shared is not None:
            self.shared.opened(track.key, rest_s)

    def told(self, key: tuple[str, str], rest_s: float) -> None:
        """Take that another node found a route to be out."""
        track = self._current().tracks.get(key)
        if track is not None and track.circuit.told(rest_s, self.now()):
            self.report.circuit_opened(track, Cause.TOLD, rest_s)

    def answered(self, way: Way, first_byte_s: float) -> None:
        """Take a call that was answered, for the health of the model that it asked for."""
        self._of(way.asked.id).answered(first_byte_s, self.now(), degraded=way.degraded)

    def failed(self, model_id: str, *, midway: bool = False) -> None:
        """Take a call that failed by no fault of its caller; `midway` where it counts as answered already."""
        traffic = self._of(model_id)
        (traffic.broke_off if midway else traffic.failed)(self.now())

    def route_health(self) -> Sequence[RouteHealth]:
        """Return every route of the catalogue in force: by model, then in the order of the model."""
        plans, now, wall = self._current(), self.now(), self._clock.now()
        return [
            _health_of(plan.model.id, lane, now, wall)
            for _, plan in sorted(plans.by_model.items())
            for lane in plan.lanes
        ]

    def model_health(self) -> Sequence[ModelHealth]:
        """Return every model of the catalogue in force, by id, also where nobody called it."""
        now = self.now()
        return [self._of(model_id).health(model_id, now) for model_id in sorted(self._current().by_model)]

    def _of(self, model_id: str) -> Traffic:
        traffic = self._traffic.get(model_id)
        if traffic is None:
            traffic = self._traffic[model_id] = Traffic()
        return traffic

    def _current(self) -> Plans:
        serving = self._serving()
        plans = self._plans
        if plans is None or plans.serving is not serving:
            rules = self._rules
            plans = self._plans = build_plans(serving, plans, self.now(), rules.circuits, rules.credentials)
            self._traffic = {name: one for name, one in self._traffic.items() if name in plans.by_model}
        return plans


def _health_of(model_id: str, lane: Lane, now: float, wall: datetime) -> RouteHealth:
    track = lane.track
    circuit = track.circuit
    calls, failures = track.recent(now)
    out = [seat for seat in lane.seats if seat.credential.out_until is not None]
    rests = [seat.rest_until for seat in lane.seats if seat.rest_until > now]
    rejected = len(out) == len(lane.seats)
    retry: float | None = None
    reason = ""
    if rejected:
        retry = min(seat.credential.out_until or now for seat in out)
        reason = "The provider refuses the credential; change it, or settle what it is about."
    elif circuit.state is not CircuitState.CLOSED:
        retry = circuit.rest_until if circuit.state is CircuitState.OPEN else None
        reason = _WORDS[circuit.cause or Cause.DEAD]
    elif len(rests) == len(lane.seats):
        retry = min(rests)
        reason = "The provider limits the calls of every credential at the moment."
    return RouteHealth(
        model=model_id,
        provider=lane.route.provider,
        label=lane.label,
        upstream_model=lane.route.upstream_model,
        state=CircuitState.OPEN if rejected else circuit.state,
        since=wall - timedelta(seconds=now - circuit.since),
        reason=reason,
        last_error=track.last_error,
        retry_time=None if retry is None else wall + timedelta(seconds=retry - now),
        recent_calls=calls,
        recent_failures=failures,
        running_calls=track.running,
        mean_first_byte_s=track.mean_first_byte(),
        last_success_time=_wall(track.last_success, now, wall),
        last_failure_time=_wall(track.last_failure, now, wall),
        credential_rejected=rejected,
    )


_WORDS = {
    Cause.DEAD: "Calls failed one after the other.",
    Cause.OUTLIER: "Many calls failed.",
    Cause.ASKED: "The provider asked not to be called for a while.",
    Cause.TOLD: "Calls failed on another node.",
}


def _wall(moment: float | None, now: float, wall: datetime) -> datetime | None:
    return None if moment is None else wall - timedelta(seconds=now - moment)
