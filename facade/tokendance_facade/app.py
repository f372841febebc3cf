"""The composition root of the facade: the only place that knows all of its parts."""

from __future__ import annotations

from collections.abc import Callable

import grpc.aio
from prometheus_client import CollectorRegistry

from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.admin.api import AdminApi
from tokendance_facade.bodies import BodyReader
from tokendance_facade.callers import CallerReader
from tokendance_facade.config import FacadeConfig
from tokendance_facade.console.site import ConsoleSite
from tokendance_facade.cors import CorsRules
from tokendance_facade.handlers.calls import Calls
from tokendance_facade.handlers.completions import CompletionHandlers
from tokendance_facade.handlers.messages import MessagesHandlers
from tokendance_facade.handlers.models import ModelHandlers
from tokendance_facade.handlers.quotas import QuotaHandlers
from tokendance_facade.handlers.responses import ResponsesHandlers
from tokendance_facade.handlers.status import StatusHandlers
from tokendance_facade.handlers.usage import UsageHandlers
from tokendance_facade.internal import NOT_READY, InternalSite
from tokendance_facade.listener import Listener
from tokendance_facade.pages.site import PublicPages
from tokendance_facade.public_site import PublicSite
from tokendance_facade.refusal_reports import RefusalReports
from tokendance_facade.refusals import Refusals
from tokendance_facade.routes import Route, RouteTable


class Facade:
    """The REST facade over one channel: the public listener, and the internal one beside it.

    `channel` leads to the server, in this process or in another one; the facade never closes it. `ready` tells whether
    the server can take calls, and `why_not` what is wrong while it cannot.
    """

    def __init__(
        self,
        config: FacadeConfig,
        channel: grpc.aio.Channel,
        *,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        why_not: Callable[[], str] = lambda: NOT_READY,
    ) -> None:
        callers = CallerReader(config.trusted_proxies)
        calls = Calls(channel, config, callers, self._stopping)
        self._reports = RefusalReports(channel, callers)
        bodies = BodyReader(
            max_bytes=config.max_body_bytes, idle_s=config.body_idle_timeout_s, total_s=config.body_timeout_s
        )
        completions = CompletionHandlers(calls, bodies)
        responses = ResponsesHandlers(calls, bodies)
        messages = MessagesHandlers(calls, bodies)
        models = ModelHandlers(channel, calls, timeout_s=config.models_timeout_s)
        quotas = QuotaHandlers(channel, calls, timeout_s=config.models_timeout_s)
        status = StatusHandlers(channel, calls, timeout_s=config.models_timeout_s)
        usage = UsageHandlers(channel, calls, timeout_s=config.models_timeout_s)
        self._public_base_url = config.public_base_url
        self._pages = PublicPages(channel, config, base_url=self._base_url)
        self._routes = RouteTable(
            (
                *self._pages.routes(),
                Route("POST", "/v1/chat/completions", errors_pb2.SURFACE_CHAT, completions.chat_completions),
                Route("POST", "/v1/completions", errors_pb2.SURFACE_COMPLETIONS, completions.completions),
                Route("POST", "/v1/responses", errors_pb2.SURFACE_RESPONSES, responses.create),
                Route("GET", "/v1/responses", errors_pb2.SURFACE_RESPONSES, responses.connect),
                Route("POST", "/v1/responses/input_tokens", errors_pb2.SURFACE_RESPONSES, responses.count),
                *(
                    Route(method, "/v1/responses/*", errors_pb2.SURFACE_RESPONSES, responses.stored)
                    for method in ("GET", "POST", "DELETE")
                ),
                Route("POST", "/v1/messages", errors_pb2.SURFACE_MESSAGES, messages.create),
                Route("POST", "/v1/messages/count_tokens", errors_pb2.SURFACE_MESSAGES, messages.count_tokens),
                *(
                    Route(method, "/v1/messages/*", errors_pb2.SURFACE_MESSAGES, messages.batches)
                    for method in ("GET", "POST", "DELETE")
                ),
                Route("POST", "/v1/embeddings", errors_pb2.SURFACE_EMBEDDINGS, completions.embeddings),
                Route("GET", "/v1/models", errors_pb2.SURFACE_MODELS, models.list_models),
                Route("GET", "/v1/models/*", errors_pb2.SURFACE_MODELS, models.get_model),
                Route("GET", "/v1/quota", errors_pb2.SURFACE_GATEWAY, quotas.get_quota),
                Route("GET", "/v1/status", errors_pb2.SURFACE_GATEWAY, status.get_status),
                Route("GET", "/v1/usage", errors_pb2.SURFACE_GATEWAY, usage.get_usage),
                Route("GET", "/v1/requests/*", errors_pb2.SURFACE_GATEWAY, usage.get_request),
            )
        )
        site = PublicSite(
            self._routes,
            CorsRules(config.cors_origins),
            Refusals(registry, self._reports),
            max_header_bytes=config.max_header_bytes,
            stopping=self._stopping,
            site_url=config.public_base_url.rstrip("/").removesuffix("/v1"),
            error_page=self._pages.error_page,
        )
        self._public = Listener(config.http, config, site.handle, site.refuse, tls=config.tls)
        admin = AdminApi(channel, calls, bodies, timeout_s=config.admin_timeout_s, keepalive_s=config.keepalive_s)
        self._internal = InternalSite(
            config.internal,
            registry,
            ready,
            why_not=why_not,
            config=config,
            admin=admin.handle,
            console=ConsoleSite(config, channel, calls, lambda: self.internal_url) if config.console.enabled else None,
        )

    @property
    def http_url(self) -> str:
        """Where the public listener is, as really bound."""
        return self._public.url

    @property
    def internal_url(self) -> str:
        """Where the internal listener is, as really bound."""
        return self._internal.url

    @property
    def public_routes(self) -> tuple[Route, ...]:
        """What the public listener serves."""
        return self._routes.rows

    async def start(self) -> None:
        """Bind both listeners. Raises OSError where an address is taken; then neither listens."""
        await self._internal.start()
        try:
            await self._public.start()
        except OSError:
            await self._internal.stop(0)
            raise

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more and let running requests finish within `grace_s` seconds."""
        self._pages.stop()
        await self._public.stop(grace_s)
        await self._reports.close()
        await self._internal.stop()

    def _base_url(self) -> str:
        """Return the base URL of the API: the configured one, or that of the bound address."""
        return self._public_base_url or f"{self._public.url}/v1".replace("//0.0.0.0:", "//127.0.0.1:")

    def _stopping(self) -> bool:
        return self._public.stopping
