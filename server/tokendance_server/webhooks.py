"""The webhooks of a node, wired: who sets them up, and what sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.domain.webhooks.desk import Webhooks
from tokendance_server.domain.webhooks.seals import WebhookSeals
from tokendance_server.domain.webhooks.sender import Outcome, Pace, WebhookSender
from tokendance_server.providers.webhook_post import WebhookPost
from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.quotas import SqlQuotaStore
from tokendance_server.stores.sql.webhooks import SqlWebhookStore
from tokendance_server.telemetry import logger


@dataclass(frozen=True, slots=True)
class WebhookParts:
    """What sets webhooks up, and what sends. The sender must be started, and told of crossings."""

    desk: Webhooks
    sender: WebhookSender


async def open_webhooks(
    database: Database,
    ring: KeyRing,
    egress: EgressPolicy,
    peppers: PepperRing,
    *,
    clock: Clock,
    registry: CollectorRegistry,
    watch: Callable[[frozenset[int]], None],
    pace: Pace | None = None,
) -> WebhookParts:
    """Wire them, and seal under the key in force what is under another. `watch` gets the thresholds asked for.

    Raises StartupError.
    """
    store, seals = SqlWebhookStore(database), WebhookSeals(ring)
    desk = Webhooks(store, seals, egress, PageTokens(peppers.derive("page tokens of webhooks")), clock)
    try:
        if count := await desk.reseal():
            logger().info("webhook_secrets_resealed", count=count)
    except StoreUnavailableError as exc:
        raise StartupError(f"The secrets of webhooks cannot be read: {exc}.") from exc
    told = _CountedDeliveries(registry)
    sender = WebhookSender(
        store,
        seals,
        WebhookPost(egress),
        places=SqlQuotaStore(database),
        clock=clock,
        told=told,
        watch=watch,
        pace=pace,
    )
    return WebhookParts(desk, sender)


class _CountedDeliveries:
    """Counts tries, and logs when the database fails them. Satisfies Told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "tokendance_webhook_deliveries",
            "Calls of webhooks by how they ended: delivered, retried, failed, dropped or lost.",
            ["outcome"],
            registry=registry,
        )
        outcomes: tuple[Outcome, ...] = ("delivered", "retried", "failed", "dropped", "lost")
        self._counts = {outcome: counter.labels(outcome) for outcome in outcomes}

    def ended(self, outcome: Outcome) -> None:
        """Count one."""
        self._counts[outcome].inc()

    def failing(self, error: Exception | None) -> None:
        """Log it."""
        if error is None:
            logger().info("webhooks_sent_again")
        else:
            logger().error("webhooks_not_sent", error=type(error).__name__, detail=str(error))
