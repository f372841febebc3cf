"""The internal listener: metrics, health, administration. Speaks to operators and machines; takes no API key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import orjson
import structlog
from aiohttp.web import BaseRequest
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.ids import new_id
from tokendance_facade.admin.bindings import PREFIX
from tokendance_facade.answers import Answer, Reply
from tokendance_facade.config import FacadeConfig
from tokendance_facade.credentials import refuse_keys
from tokendance_facade.errors import error_headers, error_object, internal_error, shape_of
from tokendance_facade.exchange import Exchange
from tokendance_facade.hosts import check_host
from tokendance_facade.listener import Listener
from tokendance_facade.routes import Handler, Route, RouteTable

_log = structlog.get_logger("tokendance_facade")
_SURFACE = errors_pb2.SURFACE_ADMIN
NOT_READY = "The server is not ready to take calls: it is starting, stopping, or cannot be reached."
"""What `/readyz` says where nobody knows it better."""


class Console(Protocol):
    """Answers people with pages."""

    def owns(self, path: str) -> bool:
        """Tell whether a path is one of its own."""

    async def handle(self, exchange: Exchange) -> Reply:
        """Answer one request."""


class InternalSite:
    """`/metrics`, `/livez` and `/readyz` of one process, at `address`; `admin` answers what lies below `/admin/v1/`.

    `console` answers the paths that are its own: pages for people. What it says of errors is a page, too.

    `ready` tells whether calls can be served, and `why_not` what is wrong while they cannot.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        *,
        why_not: Callable[[], str] = lambda: NOT_READY,
        config: FacadeConfig | None = None,
        admin: Handler | None = None,
        console: Console | None = None,
    ) -> None:
        self._registry = registry
        self._ready = ready
        self._why_not = why_not
        self._stopping = False
        settings = config or FacadeConfig()
        self._listener = Listener(address, settings, self._handle, self._refuse, tls=settings.internal_tls)
        self._routes = RouteTable(
            Route("GET", path, _SURFACE, handler)
            for path, handler in (
                ("/metrics", self._metrics),
                ("/livez", self._livez),
                ("/readyz", self._readyz),
            )
        )
        self._admin = admin
        self._console = console

    @property
    def url(self) -> str:
        """Where it listens, as really bound."""
        return self._listener.url

    async def start(self) -> None:
        """Bind and listen. Raises OSError where the address is taken."""
        await self._listener.start()

    async def stop(self, grace_s: float = 1) -> None:
        """Stop listening."""
        self._stopping = True
        await self._listener.stop(grace_s)

    async def _handle(self, request: BaseRequest) -> Reply:
        exchange = Exchange(request, new_id("req"))
        exchange.surface = _SURFACE
        try:
            check_host(request.headers)
            refuse_keys(request.headers, exchange.query)
            if self._admin is not None and exchange.path.startswith(PREFIX):
                return await self._admin(exchange)
            if self._console is not None and self._console.owns(exchange.path):
                return await self._console.handle(exchange)
            route = self._routes.find(exchange)
            if route is None:
                return exchange.answer(204, b"")
            return await route.handler(exchange)
        except GatewayError as error:
            return self._fail(error, exchange.request_id, exchange)
        except Exception:  # noqa: BLE001 - the edge: whatever it is, the caller gets an answer and the log the cause
            _log.exception("request_crashed", request_id=exchange.request_id)
            return self._fail(internal_error(), exchange.request_id, exchange)

    def _refuse(self, error: GatewayError) -> Answer:
        return self._fail(error, new_id("req"), None)

    def _fail(self, error: GatewayError, request_id: str, exchange: Exchange | None) -> Answer:
        status = shape_of(error.reason, _SURFACE).status
        headers = error_headers(error, status)
        if "allow" in error.metadata:
            headers.append(("allow", error.metadata["allow"]))
        close = exchange is None or not exchange.request.content.is_eof()
        body = error_object(error, _SURFACE, request_id)
        return Answer(status, body, request_id, headers=headers, close=close)

    async def _metrics(self, exchange: Exchange) -> Reply:
        # Formatting a few thousand series takes milliseconds, which open streams would feel.
        body = await asyncio.to_thread(generate_latest, self._registry)
        return Answer(200, body, exchange.request_id, content_type=CONTENT_TYPE_LATEST)

    async def _livez(self, exchange: Exchange) -> Reply:
        return exchange.answer(200, b'{"status":"alive"}')

    async def _readyz(self, exchange: Exchange) -> Reply:
        reasons = []
        if self._stopping:
            reasons.append("The process is shutting down.")
        elif not self._ready():
            reasons.append(self._why_not())
        if reasons:
            return exchange.answer(503, orjson.dumps({"status": "not_ready", "reasons": reasons}))
        return exchange.answer(200, b'{"status":"ready","reasons":[]}')
