"""The quotas of a node, wired: their limits, what counts against them, and the reservations of running calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tokendance_server.domain.changes import ChangeKind, Watcher
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.quota.counters import Counters, SpentSource
from tokendance_server.domain.quota.limits import Limits
from tokendance_server.domain.quota.quotas import Quotas
from tokendance_server.domain.quota.reservations import Reservations
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
    *,
    spent: SpentSource | None = None,
    shared: SharedCounters | None = None,
) -> QuotaParts:
    """Wire it on a database; `spent` tells what was used before counters were there, `shared` is for many nodes."""
    store = SqlQuotaStore(database)
    limits = Limits(store)
    watcher.subscribe(ChangeKind.LIMIT, limits)
    watcher.subscribe(ChangeKind.KEY, limits)
    counters: Counters = MemoryCounters(clock, spent)
    if shared is not None:
        counters = RedisCounters(shared.url, shared.node_id, spent, live=shared.live)
    reservations = Reservations(limits, counters, clock, _tell)
    tokens = PageTokens(peppers.derive("page tokens of quotas"))
    return QuotaParts(Quotas(store, limits, reservations, tokens, clock), reservations)


def _tell(error: Exception) -> None:
    logger().error("counters_unavailable", error=type(error).__name__, detail=str(error))
