"""The Quota servicer, put together from its parts."""

from __future__ import annotations

from tokendance.gateway.v1 import quota_service_pb2_grpc
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.prices.desk import Prices
from tokendance_server.domain.quota.quotas import Quotas
from tokendance_server.domain.quota.service_reservations import ServiceReservations
from tokendance_server.domain.usage.queries import UsageQueries
from tokendance_server.domain.usage.reading import UsageReader
from tokendance_server.domain.webhooks.desk import Webhooks
from tokendance_server.services.prices import PricesService
from tokendance_server.services.quota_limits import LimitsService
from tokendance_server.services.quota_reservations import ReservationsService
from tokendance_server.services.usage import UsageService
from tokendance_server.services.usage_queries import UsageQueriesService
from tokendance_server.services.webhooks import WebhooksService


class QuotaService(
    LimitsService,
    ReservationsService,
    UsageService,
    UsageQueriesService,
    PricesService,
    WebhooksService,
    quota_service_pb2_grpc.QuotaServiceServicer,
):
    """Serves limits, reservations, what was used, prices, and webhooks."""

    def __init__(
        self,
        quotas: Quotas,
        clock: Clock,
        *,
        reservations: ServiceReservations,
        usage: UsageReader,
        queries: UsageQueries,
        prices: Prices,
        webhooks: Webhooks,
    ) -> None:
        LimitsService.__init__(self, quotas, clock)
        ReservationsService.__init__(self, reservations)
        UsageService.__init__(self, usage)
        UsageQueriesService.__init__(self, queries)
        PricesService.__init__(self, prices)
        WebhooksService.__init__(self, webhooks, clock)
