"""The way of one call: which route it takes, and where it goes where that one fails before an answer has begun."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2
from tokendance_server.domain.catalogue.models import FallbackCause, Model, Route
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.claims import Row
from tokendance_server.domain.routing import refusals
from tokendance_server.domain.routing.choice import choose
from tokendance_server.domain.routing.circuit import Cause, CircuitState
from tokendance_server.domain.routing.credentials import Seat
from tokendance_server.domain.routing.lanes import Lane, Plan
from tokendance_server.domain.routing.verdicts import Verdict, verdict_of
from tokendance_server.domain.upstream import Seen, Upstream

if TYPE_CHECKING:
    from tokendance_server.domain.routing.router import Router

MOST_ATTEMPTS = 4
"""How many upstreams one call asks at most, of all models together."""
LEAST_LEFT_S = 0.1
"""With less time left a call is not tried again."""
_PAUSE_S = 0.05
# A call that may be judged by none of the generations that a circuit has.
_NOT_JUDGED = -1
_CAUSES = {
    errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED: FallbackCause.CONTEXT_LENGTH,
    errors_pb2.ERROR_REASON_CONTENT_FILTERED: FallbackCause.CONTENT_FILTER,
}


class Way:
    """One call on its way. `choose`, `begin`, one of `succeed`, `fail` and `leave`, and `end`; and perhaps again.

    `model` is the one that is asked now, `lane` and `seat` the route and the credential. `retries` counts the calls to
    upstreams that failed before the one that is asked now; `warnings` tell what that one leaves out of the request.
    """

    __slots__ = (
        "_asked",
        "_excluded",
        "_failure",
        "_generation",
        "_last_resort",
        "_plan",
        "_principal",
        "_refusals",
        "_repeated",
        "_request",
        "_router",
        "_running",
        "_spent",
        "_spent_seats",
        "_streamed",
        "_tried_models",
        "_wait_s",
        "lane",
        "model",
        "pause_s",
        "retries",
        "seat",
        "warnings",
    )

    def __init__(
        self,
        router: Router,
        plan: Plan,
        principal: Principal,
        request: completion_pb2.CompletionRequest | None,
        *,
        streamed: bool,
    ) -> None:
        self._router = router
        self._asked = self._plan = plan
        self._principal = principal
        self._request = request
        self._streamed = streamed
        self._excluded = principal.excluded_route_tags
        self._spent: list[Lane] = []
        self._spent_seats: list[Seat] = []
        self._refusals: list[GatewayError] = []
        self._tried_models: Collection[str] = ()
        self._repeated = self._running = self._last_resort = False
        self._generation = _NOT_JUDGED
        self._failure: GatewayError | None = None
        self._wait_s: float | None = None
        self.model: Model = plan.model
        self.lane: Lane = plan.groups[0][0]
        self.seat: Seat = self.lane.seats[0]
        self.warnings: Sequence[completion_pb2.Warning] = ()
        self.retries = 0
        self.pause_s = 0.0
        """How long to wait before the next attempt."""

    @property
    def route(self) -> Route:
        """The route that was chosen."""
        return self.lane.route

    @property
    def upstream(self) -> Upstream:
        """The upstream that was chosen."""
        return self.seat.upstream

    @property
    def asked(self) -> Model:
        """The model that the caller asked for."""
        return self._asked.model

    @property
    def fell_back(self) -> bool:
        """True where `model` answers in the place of the one that was asked for."""
        return self._plan is not self._asked

    @property
    def degraded(self) -> bool:
        """True where the call is not answered as it was meant to be at first."""
        return self.retries > 0 or self._plan is not self._asked

    @property
    def rows(self) -> tuple[Row, ...]:
        """What the call counts against at the route and the credential that were chosen; mostly nothing."""
        return () if self._plan.only is not None else self.lane.rows(self.seat)

    @property
    def lanes(self) -> Sequence[Lane]:
        """The routes of the model that is asked now, in the order in which they are tried."""
        return self._plan.lanes

    def now(self) -> float:
        """Return the time in monotonic seconds."""
        return self._router.now()

    def look(self) -> Lane:
        """Return the route that a call would take now, and take it for none. Raises as `choose`."""
        self._find(self._router.now())
        return self.lane

    def pass_over(self, lane: Lane, wait_s: float) -> None:
        """Leave a route out that has no room for so many seconds."""
        self._spent_seats.extend(lane.seats)
        self._wait_s = wait_s if self._wait_s is None else min(self._wait_s, wait_s)

    def choose(self) -> None:
        """Choose where to go now, also a model to fall back to where this one has no route that can be taken.

        Raises what is wrong where there is none: unsupported_parameter, model_not_allowed, provider_rate_limited,
        provider_unavailable, or the error of the last attempt.
        """
        now = self._router.now()
        only = self._plan.only
        if only is not None and not self.retries and not self._excluded:
            seat = only.seats[0]
            if only.track.circuit.state is CircuitState.CLOSED and seat.usable(now):
                # The usual case, with nothing to choose.
                self.lane, self.seat, self._generation = only, seat, only.track.circuit.generation
                self.warnings = () if self._request is None else seat.upstream.warnings(self._request)
                return
        self._find(now)
        self.lane.turn += 1
        # From here on a half-open route has its one probe, and a credential that is looked at again its one call.
        self._generation = _NOT_JUDGED if self._last_resort else self.lane.track.circuit.begin()
        if self.seat.credential.out_until is not None:
            self.seat.credential.begin(now)

    def _find(self, now: float) -> None:
        while not self._choose(now):
            if self._cannot_carry():
                raise self._refusals[0]
            if not self._fall_back(FallbackCause.UNAVAILABLE):
                break
        else:
            return
        if self._failure is not None:
            raise self._failure
        self._go_back()
        if not self._choose_open(now):
            raise self._nowhere(now)

    def begin(self) -> None:
        """Take that the upstream is asked now."""
        self.lane.track.running += 1
        self.seat.running += 1
        self._running = True

    def succeed(self, waited_s: float) -> None:
        """Take that something of an answer came, after so many seconds: from here on there is no other way."""
        now, track = self._router.now(), self.lane.track
        probed = track.circuit.state is not CircuitState.CLOSED
        track.succeed(self._generation, waited_s, now, streamed=self._streamed)
        if probed and track.circuit.state is CircuitState.CLOSED:
            self._router.report.circuit_closed(track)
        credential = self.seat.credential
        if credential.succeed():
            self._router.report.credential_restored(credential)

    def fail(self, error: GatewayError, seen: Seen) -> None:
        """Take that it failed, before or after something of an answer came."""
        router, seat, track, status = self._router, self.seat, self.lane.track, seen.status
        now = router.now()
        match verdict_of(error, status):
            case Verdict.FAILED:
                if track.fail(self._generation, error.reason, now, error.retry_after_s if status >= 500 else None):
                    router.opened(track, now)
            case Verdict.ALIVE:
                track.circuit.succeed(self._generation, now)
                track.count(error.reason, now, failed=False)
            case Verdict.LIMITED:
                track.circuit.leave(self._generation, now)
                track.count(error.reason, now)
                seat.rest(error.retry_after_s, router.credential_rules, now)
            case Verdict.REFUSED:
                track.circuit.leave(self._generation, now)
                track.count(error.reason, now)
                if seat.credential.refuse(402 if status == 429 else status, self._principal.organization, now):
                    router.report.credential_refused(seat.credential)
            case Verdict.NOTHING:
                track.circuit.leave(self._generation, now)

    def leave(self) -> None:
        """Take that nothing is learnt of it, such as where the caller left; harmless after anything else."""
        self.lane.track.circuit.leave(self._generation, self._router.now())

    def end(self) -> None:
        """Take that the call to the upstream is over; a repeat changes nothing."""
        if self._running:
            self._running = False
            self.lane.track.running -= 1
            self.seat.running -= 1

    def full(self, wait_s: float) -> None:
        """Take that the caps of what was chosen have no room, for so many seconds."""
        self.leave()
        self._spent_seats.append(self.seat)
        self._wait_s = wait_s if self._wait_s is None else min(self._wait_s, wait_s)

    def again(self, error: GatewayError, seen: Seen, left_s: float) -> bool:
        """Tell whether the call goes on after an attempt that gave nothing of an answer; `choose` then says where.

        It does for what the error table calls retryable, or where a model to fall back to is configured, while
        `left_s` seconds of its deadline and the budget of retries allow it.
        """
        self._failure = error
        if error.origin != "provider" or left_s < LEAST_LEFT_S or self.retries + 1 >= MOST_ATTEMPTS:
            return False
        cause = _CAUSES.get(error.reason)
        if cause is not None:
            # It is the request that does not fit: what fits is asked beyond the budget, which is for what fails.
            return self._fall_back(cause) and self._count()
        if not error.retryable:
            return False
        self.pause_s = 0.0
        self._spend(error, seen)
        if not self._has_way() or not self._router.take_retry():
            return False
        return self._count()

    def _count(self) -> bool:
        self.retries += 1
        return True

    def _spend(self, error: GatewayError, seen: Seen) -> None:
        """Put aside what just failed: the credential where it was at fault, or else the route."""
        if seen.status in (401, 402, 403, 429) and len(self.lane.seats) > 1:
            self._spent_seats.append(self.seat)
            return
        quick = seen.status == 0 or seen.status >= 500
        timeout = error.reason == errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT
        if quick and not timeout and not self._repeated and self._is_alone():
            # There is no other: what never got to an answer may be asked once more, after a moment.
            self._repeated = True
            self.pause_s = _PAUSE_S * (0.5 + self._router.random())
            return
        self._spent.append(self.lane)

    def _is_alone(self) -> bool:
        return not any(lane is not self.lane and self._may_take(lane) for lane in self._plan.lanes)

    def _has_way(self) -> bool:
        now = self._router.now()
        if any(self._is_up(lane, now) for lane in self._plan.lanes):
            return True
        return self._next_model(FallbackCause.UNAVAILABLE) is not None

    def _is_up(self, lane: Lane, now: float) -> bool:
        return self._may_take(lane) and lane.seat(now, self._spent_seats) is not None and lane.track.circuit.admits(now)

    def _may_take(self, lane: Lane) -> bool:
        return lane not in self._spent and self._excluded.isdisjoint(lane.tags)

    def _choose(self, now: float) -> bool:
        """Choose among the routes of the model that are up; False where none is, or none can carry the request."""
        for group in self._plan.groups:
            up = [lane for lane in group if self._is_up(lane, now)]
            while up:
                lane = up.pop(choose(up, self._router.random, now, streamed=self._streamed))
                if self._take(lane, now):
                    self._last_resort = False
                    return True
        return False

    def _choose_open(self, now: float) -> bool:
        """Choose a route whose circuit is open: the last ones are never taken out, unless they asked for patience."""
        opened = [
            lane for lane in self._plan.lanes if self._may_take(lane) and lane.track.circuit.cause is not Cause.ASKED
        ]
        for lane in sorted(opened, key=lambda one: one.track.circuit.rest_until):
            if self._take(lane, now):
                self._last_resort = True
                return True
        return False

    def _take(self, lane: Lane, now: float) -> bool:
        seat = lane.seat(now, self._spent_seats)
        if seat is None:
            return False
        try:
            self.warnings = () if self._request is None else seat.upstream.warnings(self._request)
        except GatewayError as refusal:
            self._refusals.append(refusal)
            self._spent.append(lane)
            return False
        self.lane, self.seat = lane, seat
        return True

    def _cannot_carry(self) -> bool:
        """Tell whether it is the request alone that no route of the model takes."""
        return bool(self._refusals) and self._failure is None and not any(map(self._may_take, self._plan.lanes))

    def _go_back(self) -> None:
        """Return to the model that was asked for, where none that stands in for it can be asked either."""
        if self.fell_back:
            self._plan, self.model, self._spent = self._asked, self._asked.model, []

    def _nowhere(self, now: float) -> GatewayError:
        if self._refusals:
            return self._refusals[0]
        permitted = [lane for lane in self._plan.lanes if self._excluded.isdisjoint(lane.tags)]
        if not permitted:
            return refusals.not_permitted(self.model.id)
        waits = [
            seat.rest_until - now
            for lane in permitted
            for seat in lane.seats
            if seat.rest_until > now and seat.credential.works(now)
        ]
        if self._wait_s is not None:
            waits.append(self._wait_s)
        if waits:
            return refusals.limited(min(waits))
        asked = [lane.track.circuit.rest_until - now for lane in permitted if lane.track.circuit.cause is Cause.ASKED]
        return refusals.unavailable(min(asked, default=1.0))

    def _next_model(self, cause: FallbackCause) -> Plan | None:
        if self._request is None:
            # Vectors of two models cannot be compared, so none stands in for another.
            return None
        for fallback in self._asked.model.fallbacks:
            if fallback.causes and cause not in fallback.causes:
                continue
            if fallback.model in self._tried_models:
                continue
            plan = self._router.plan_for(fallback.model, self._principal)
            if plan is not None and plan is not self._asked:
                return plan
        return None

    def _fall_back(self, cause: FallbackCause) -> bool:
        plan = self._next_model(cause)
        if plan is None:
            return False
        self._tried_models = [*self._tried_models, plan.model.id]
        self._plan, self.model = plan, plan.model
        self._spent, self._spent_seats, self._refusals, self._repeated = [], [], [], False
        return True
