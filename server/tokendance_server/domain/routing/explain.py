"""What would become of a call, route by route, for who asks before calling. Providers by their public labels only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2
from tokendance_server.domain.catalogue.parameters import overridden
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.quota.claims import Claim
from tokendance_server.domain.routing.caps import CapCounters
from tokendance_server.domain.routing.circuit import CircuitState
from tokendance_server.domain.routing.lanes import Lane
from tokendance_server.domain.routing.way import Way


@dataclass(frozen=True, slots=True)
class ExplainedRoute:
    """One route: whether the call would go there first, and why it would not, in one sentence."""

    label: str
    chosen: bool
    skipped_because: str
    warnings: Sequence[completion_pb2.Warning]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The routes in the order in which they are tried. `refusal` is what the call would get, None where it is sent."""

    model: str
    routes: Sequence[ExplainedRoute]
    refusal: GatewayError | None


async def explain(
    way: Way,
    request: completion_pb2.CompletionRequest,
    principal: Principal,
    caps: CapCounters | None,
    tokens: tuple[int, int],
) -> Explanation:
    """Look where a way would lead, and go nowhere. `tokens` are those of the prompt and of the answer."""
    lanes = way.lanes
    full: dict[int, float] = {}
    for lane in lanes:
        wait_s = None if caps is None else await _full_for_s(lane, caps, tokens)
        if wait_s is not None:
            full[id(lane)] = wait_s
            way.pass_over(lane, wait_s)
    refusal: GatewayError | None = None
    try:
        chosen = way.look()
    except GatewayError as error:
        chosen, refusal = None, error
    routes = []
    for lane in lanes:
        warnings: Sequence[completion_pb2.Warning] = ()
        why = "" if lane is chosen else _why_not(lane, principal, way.now(), full.get(id(lane)))
        try:
            warnings = [
                *lane.seats[0].upstream.warnings(request),
                *overridden(request, lane.route.forced_parameters),
            ]
        except GatewayError as error:
            why = error.message
        routes.append(ExplainedRoute(lane.label, lane is chosen, why, warnings))
    return Explanation(way.model.id, routes, refusal)


async def _full_for_s(lane: Lane, caps: CapCounters, tokens: tuple[int, int]) -> float | None:
    """Return for how many seconds a route is at its caps, with every credential; None where it has room."""
    waits: list[float] = []
    for seat in lane.seats:
        rows = lane.rows(seat)
        claim = Claim("", "", rows, *tokens)
        standings = await caps.standings(rows) if rows else ()
        over = [one for one in standings if one.left < claim.need(one.row.rule.metric, 0)]
        if not over:
            return None
        waits.append(max(one.wait_s or 1.0 for one in over))
    return min(waits)


def _why_not(lane: Lane, principal: Principal, now: float, full_for_s: float | None) -> str:
    tags = sorted(principal.excluded_route_tags & lane.tags)
    if tags:
        return f"The policy of the API key or of its organization excludes it by the tag {tags[0]!r}."
    if full_for_s is not None:
        return f"It is at its cap, for about {_seconds(full_for_s)} more."
    if not any(seat.credential.works(now) for seat in lane.seats):
        return "Its provider refuses the gateway's credential."
    if not any(seat.usable(now) for seat in lane.seats):
        wait_s = min(seat.rest_until for seat in lane.seats if seat.credential.works(now)) - now
        return f"Its provider limits the gateway's calls, for {_seconds(wait_s)} more."
    circuit = lane.track.circuit
    if circuit.state is CircuitState.OPEN:
        wait_s = circuit.rest_until - now
        return f"Its circuit is open, because calls failed there; it is tried again in {_seconds(wait_s)}."
    if circuit.state is CircuitState.HALF_OPEN:
        return "Its circuit is half open: one call at a time finds whether it works again."
    return "Another route of the model comes first."


def _seconds(wait_s: float) -> str:
    return f"{max(math.ceil(wait_s), 1)} s"
