"""The audit trail of a node besides its changes, wired: what is told behind the calls."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from tokendance_server.domain.audit.asides import Asides, Fate
from tokendance_server.domain.clock import Clock
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.telemetry import logger


def open_asides(database: Database, clock: Clock, registry: CollectorRegistry) -> Asides:
    """Wire what tells sign-ins and refusals. It must be started, so that they reach the database."""
    return Asides(SqlAuditStore(database), clock, _CountedAsides(registry))


class _CountedAsides:
    """Counts the events, and logs when they cannot be written. Satisfies Told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "tokendance_audit_asides",
            "Sign-ins and refusals for the audit trail, by what became of them: written, alike, over_limit or lost.",
            ["fate"],
            registry=registry,
        )
        fates: tuple[Fate, ...] = ("written", "alike", "over_limit", "lost")
        self._counts = {fate: counter.labels(fate) for fate in fates}

    def ended(self, fate: Fate, count: int = 1) -> None:
        """Count events."""
        self._counts[fate].inc(count)

    def failing(self, error: Exception | None) -> None:
        """Log it."""
        if error is None:
            logger().info("audit_asides_written_again")
        else:
            logger().error("audit_asides_not_written", error=type(error).__name__, detail=str(error))
