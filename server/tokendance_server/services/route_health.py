"""The part of the Status servicer that tells of routes, as this node sees them."""

from __future__ import annotations

import json
from typing import Any

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.routing.circuit import CircuitState
from tokendance_server.domain.routing.health import HealthSource, RouteHealth
from tokendance_server.services.call import call_of
from tokendance_server.services.key_messages import timestamp

Context = grpc.aio.ServicerContext[Any, Any]

_PAGE_SIZE = 100
_CIRCUITS = {
    CircuitState.CLOSED: pb.CIRCUIT_STATE_CLOSED,
    CircuitState.OPEN: pb.CIRCUIT_STATE_OPEN,
    CircuitState.HALF_OPEN: pb.CIRCUIT_STATE_HALF_OPEN,
}


class RouteHealthService:
    """Serves ListRouteHealth."""

    def __init__(self, health: HealthSource, tokens: PageTokens, run_id: str) -> None:
        self._health = health
        self._route_tokens = tokens
        self._run_id = run_id

    async def ListRouteHealth(self, request: pb.ListRouteHealthRequest, context: Context) -> pb.ListRouteHealthResponse:
        """Return a page of routes with their health."""
        provider = request.provider.removeprefix("providers/")
        routes = [
            one
            for one in self._health.route_health()
            if (not request.model or one.model == request.model) and (not provider or one.provider == provider)
        ]
        if request.model and not routes:
            raise GatewayError(
                errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
                f"There is no model {request.model!r} with such a route; name it by its id.",
                param="model",
                metadata={"model": request.model},
                origin="caller",
            )
        binding = json.dumps(["route health", call_of(context).identity.name, request.model, provider])
        first = int(self._route_tokens.open(request.page_token, binding)) if request.page_token else 0
        end = first + (request.page_size or _PAGE_SIZE)
        return pb.ListRouteHealthResponse(
            route_health=map(_message, routes[first:end]),
            next_page_token=self._route_tokens.seal(str(end), binding) if end < len(routes) else "",
            node=f"nodes/{self._run_id}",
        )


def _message(one: RouteHealth) -> pb.RouteHealth:
    message = pb.RouteHealth(
        model=one.model,
        provider=f"providers/{one.provider}",
        upstream_model=one.upstream_model,
        circuit=_CIRCUITS[one.state],
        reason=one.reason,
        retry_time=timestamp(one.retry_time),
        recent_calls=one.recent_calls,
        recent_failures=one.recent_failures,
        running_calls=one.running_calls,
        last_success_time=timestamp(one.last_success_time),
        last_failure_time=timestamp(one.last_failure_time),
        credential_rejected=one.credential_rejected,
    )
    if one.mean_first_byte_s is not None:
        message.mean_first_byte_latency.FromNanoseconds(round(one.mean_first_byte_s * 1e9))
    return message
