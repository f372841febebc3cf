"""The quotas of a node, wired: their limits, what counts against them, and the reservations of running calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter

from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.quota.counters import Counters, KeptHolds, SpentSource
from tokendance_server.domain.quota.limits import Limits
from tokendance_server.domain.quota.quotas import Quotas
from tokendance_server.domain.quota.refusals import metric_name, window_name
from tokendance_server.domain.quota.reservations import Reservations
from tokendance_server.domain.quota.thresholds import PERCENTS, Crossing, Thresholds
from tokendance_server.stores.memory_counters import MemoryCounters
from tokendance_server.stores.redis_counters import RedisCounters
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.quotas import SqlQuotaStore
from tokendance_server.telemetry import logger


@dataclass(frozen=True, slots=True)
class QuotaParts:
    """What bounds calls. The reservations must run, so that those of long calls are kept."""

    quotas: Quotas
    reservations: Reservations
    limits: Limits
    counters: Counters
    crossings: CountedCrossings
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class SharedCounters:
    """Where many nodes count together: the URL of Redis, this node's id, and what tells the ids of all that serve."""

    url: str = field(repr=False)
    node_id: str
    live: Callable[[], Sequence[str]]


def build_quota(
    database: Database,
    watcher: Watcher,
    peppers: PepperRing,
    clock: Clock,
    registry: CollectorRegistry,
    *,
    spent: SpentSource | None = None,
    kept: KeptHolds | None = None,
    shared: SharedCounters | None = None,
) -> QuotaParts:
    """Wire it on a database; `spent` and `kept` tell what was used and held before, `shared` is for many nodes."""
    store = SqlQuotaStore(database)
    limits = Limits(store)
    watcher.subscribe(ChangeKind.LIMIT, limits)
    watcher.subscribe(ChangeKind.KEY, limits)
    counters: Counters = MemoryCounters(clock, spent, kept)
    if shared is not None:
        counters = RedisCounters(shared.url, shared.node_id, spent, kept=kept, live=shared.live)
    crossings = CountedCrossings(registry)
    thresholds = Thresholds(crossings)
    reservations = Reservations(limits, counters, clock, tell_counters, thresholds=thresholds)
    tokens = PageTokens(peppers.derive("page tokens of quotas"))
    quotas = Quotas(store, limits, reservations, tokens, clock)
    return QuotaParts(quotas, reservations, limits, counters, crossings, thresholds)


def tell_counters(error: Exception) -> None:
    """Log what goes wrong with counters."""
    logger().error("counters_unavailable", error=type(error).__name__, detail=str(error))


class CountedCrossings:
    """Counts the thresholds that limits reached; to `then` go those, too, that only webhooks ask for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "tokendance_quota_warnings",
            "Limits of which a threshold was reached, each once in its window and on each node.",
            ["metric", "window", "threshold"],
            registry=registry,
        )
        self.then: Callable[[Crossing], None] | None = None

    def __call__(self, crossing: Crossing) -> None:
        """Count one."""
        if self.then is not None:
            self.then(crossing)
        if crossing.percent not in PERCENTS:
            return
        rule = crossing.row.rule
        self._counter.labels(metric_name(rule.metric), window_name(rule.window), str(crossing.percent)).inc()
