"""Requests that never became an RPC: counted and logged here, and told to the server, which never saw them."""

from __future__ import annotations

import structlog
from prometheus_client import CollectorRegistry, Counter

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.exchange import Exchange
from tokendance_facade.refusal_reports import RefusalReports

_log = structlog.get_logger("tokendance_facade")


class Refusals:
    """Counts refusals by surface and code, and writes one line for each; never a path, a header or a body."""

    def __init__(self, registry: CollectorRegistry, reports: RefusalReports) -> None:
        self._reports = reports
        self._counter = Counter(
            "tokendance_facade_refusals",
            "Requests that the facade refused by itself, by surface and code.",
            ["surface", "code"],
            registry=registry,
        )

    def record(self, exchange: Exchange, error: GatewayError, status: int) -> None:
        """Record a refusal of a request."""
        surface = errors_pb2.Surface.Name(exchange.surface).removeprefix("SURFACE_").lower()
        self._counter.labels(surface, error.code).inc()
        _log.info(
            "refused",
            request_id=exchange.request_id,
            surface=surface,
            route=exchange.route,
            code=error.code,
            status=status,
            param=error.param,
        )
        self._reports.note(exchange, error, status)

    def record_malformed(self, error: GatewayError, request_id: str, status: int) -> None:
        """Record bytes that were no request."""
        self._counter.labels("gateway", error.code).inc()
        _log.info("refused", request_id=request_id, surface="gateway", code=error.code, status=status)
        self._reports.note_malformed(error, request_id, status)
