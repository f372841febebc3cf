"""The routing of a node, wired: what it is judged by, who is told of it, and what counts against caps."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tokendance.errors import spec_of
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.config import ServerConfig
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.quota.counters import Counters
from tokendance_server.domain.routing.caps import CapCounters
from tokendance_server.domain.routing.circuit import Cause, CircuitState
from tokendance_server.domain.routing.credentials import Credential
from tokendance_server.domain.routing.probes import Probes
from tokendance_server.domain.routing.router import Router, RoutingRules
from tokendance_server.domain.routing.track import Track
from tokendance_server.stores.memory_counters import MemoryCounters
from tokendance_server.stores.redis_counters import RedisCounters
from tokendance_server.stores.redis_health import SharedHealth
from tokendance_server.telemetry import logger


@dataclass(frozen=True, slots=True)
class RoutingParts:
    """What chooses routes. The caps must run, so that what long calls hold of them is kept.

    `shared` tells other nodes of open circuits, where there is a Redis, and `probes` find which work again; they must
    run, too.
    """

    router: Router
    caps: CapCounters
    shared: SharedHealth | None
    probes: Probes


def build_routing(
    config: ServerConfig, serving: Callable[[], Serving], clock: Clock, registry: CollectorRegistry, node_id: str
) -> RoutingParts:
    """Wire it over the catalogue in force; with a Redis, nodes count caps together."""
    told = config.routing
    rules = RoutingRules(retry_share=told.retry_share, least_retries=told.least_retries)
    # A die for sharing load, not for secrets.
    router = Router(serving, clock, random.random, RoutingLog(), rules)
    registry.register(RoutingFigures(router))
    counters: Counters = MemoryCounters(clock)
    shared: SharedHealth | None = None
    if config.redis_url is not None:
        url = config.redis_url.get_secret_value()
        counters = RedisCounters(url, f"{node_id}-routes")
        shared = SharedHealth(url, node_id, router.told, _tell_shared)
        router.shared = shared
    return RoutingParts(router, CapCounters(counters, _tell_caps), shared, Probes(router, told.probe_s))


class RoutingLog:
    """Logs what happens to routes and credentials. Satisfies Report."""

    def circuit_opened(self, track: Track, cause: Cause, rest_s: float) -> None:
        """Log a route that is out for a while."""
        provider, model = track.key
        code = spec_of(track.last_error).code if track.last_error else ""
        logger().warning(
            "route_out", provider=provider, upstream_model=model, cause=str(cause), code=code, rest_s=round(rest_s, 1)
        )

    def circuit_closed(self, track: Track) -> None:
        """Log a route that works again."""
        provider, model = track.key
        logger().info("route_back", provider=provider, upstream_model=model)

    def credential_refused(self, credential: Credential) -> None:
        """Log a credential that is used no more."""
        logger().error(
            "credential_refused", provider=credential.provider, credential=credential.mark, status=credential.status
        )

    def credential_restored(self, credential: Credential) -> None:
        """Log one that works again."""
        logger().info("credential_restored", provider=credential.provider, credential=credential.mark)


class RoutingFigures(Collector):
    """The figures of routes, read when somebody looks: a call costs nothing for them."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without asking the router, which may not be there yet."""
        return iter(self._families())

    def collect(self) -> Iterator[Metric]:
        """Return the figures of now."""
        attempts, circuits, running, refused, unpaid = self._families()
        plans = self._router.plans()
        for (provider, model), track in plans.tracks.items():
            for reason, count in track.ended.items():
                code = spec_of(ErrorReason.ValueType(reason)).code if reason else "ok"
                attempts.add_metric([provider, model, code], count)
            circuits.add_metric([provider, model], _OPENNESS[track.circuit.state])
            running.add_metric([provider, model], track.running)
        out: dict[str, int] = {}
        for credential in plans.credentials.values():
            out[credential.provider] = out.get(credential.provider, 0) + (credential.out_until is not None)
        for provider, count in out.items():
            refused.add_metric([provider], count)
        unpaid.add_metric([], self._router.budget.refused)
        return iter((attempts, circuits, running, refused, unpaid))

    @staticmethod
    def _families() -> tuple[
        CounterMetricFamily, GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily
    ]:
        route = ["provider", "upstream_model"]
        return (
            CounterMetricFamily(
                "tokendance_upstream_attempts", "Calls to upstreams that ended.", labels=[*route, "code"]
            ),
            GaugeMetricFamily("tokendance_route_circuit", "0 closed, 1 half open, 2 open.", labels=route),
            GaugeMetricFamily("tokendance_route_running", "Calls to an upstream running now.", labels=route),
            GaugeMetricFamily(
                "tokendance_credentials_refused", "Credentials that a provider refuses.", labels=["provider"]
            ),
            CounterMetricFamily("tokendance_retries_refused", "Retries for which the budget had nothing left."),
        )


_OPENNESS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


def _tell_shared(error: Exception | None) -> None:
    if error is None:
        logger().info("health_shared_again")
    else:
        logger().warning("health_not_shared", error=type(error).__name__, detail=str(error))


def _tell_caps(error: Exception) -> None:
    logger().error("caps_unavailable", error=type(error).__name__, detail=str(error))
