"""The public listener: from a parsed HTTP request to an answer, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp.web import BaseRequest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.ids import new_id
from tokendance_facade.answers import Answer, Header, Reply, Sent
from tokendance_facade.codex import codex_refusal_headers
from tokendance_facade.cors import CorsRules
from tokendance_facade.errors import error_headers, error_object, internal_error, shape_of, stopping
from tokendance_facade.exchange import Exchange
from tokendance_facade.hosts import check_host
from tokendance_facade.refusals import Refusals
from tokendance_facade.routes import RouteTable

_log = structlog.get_logger("tokendance_facade")


ErrorPage = Callable[[Exchange, GatewayError, int, tuple[Header, ...]], Answer | None]
"""Makes a page of an error for a reader with a browser; None for everybody else."""


class PublicSite:
    """Answers every request: routes it, lets its handler answer, and turns errors into answers of its surface.

    Every error leads to its row of the errors page, below `site_url`; empty: on the host that was called.
    """

    def __init__(
        self,
        routes: RouteTable,
        cors: CorsRules,
        refusals: Refusals,
        *,
        max_header_bytes: int,
        stopping: Callable[[], bool],
        site_url: str = "",
        error_page: ErrorPage = lambda exchange, error, status, headers: None,
    ) -> None:
        self._site_url = site_url
        self._error_page = error_page
        self._stopping = stopping
        self._routes = routes
        self._cors = cors
        self._refusals = refusals
        self._max_header_bytes = max_header_bytes

    async def handle(self, request: BaseRequest) -> Reply:
        """Answer one request. Raises nothing but cancellation."""
        exchange = Exchange(request, new_id("req"))
        try:
            self._check_head(request)
            exchange.headers = self._cors.headers(exchange)
            route = self._routes.find(exchange)
            if route is None:
                return exchange.answer(204, b"")
            return await route.handler(exchange)
        except GatewayError as error:
            return self._fail(exchange, error)
        except asyncio.CancelledError:
            # The shutdown asks handlers to end; this one ends by telling its caller, if that one is still there.
            if not self._stopping():
                raise
            return self._fail(exchange, stopping())
        except ConnectionError as exc:
            _log.debug("caller_left", request_id=exchange.request_id, cause=type(exc).__name__)
            return Sent(keep_alive=False)
        except Exception:  # noqa: BLE001 - the edge: whatever it is, the caller gets an answer and the log the cause
            _log.exception("request_crashed", request_id=exchange.request_id)
            return self._fail(exchange, internal_error())

    def refuse(self, error: GatewayError) -> Answer:
        """Answer bytes that are no request, and end their connection."""
        request_id = new_id("req")
        surface = errors_pb2.SURFACE_GATEWAY
        status = shape_of(error.reason, surface).status
        self._refusals.record_malformed(error, request_id, status)
        return Answer(
            status,
            error_object(error, surface, request_id, doc_url=self._doc_url(error)),
            request_id,
            headers=[*error_headers(error, status), self._link(error)],
            close=True,
        )

    def _check_head(self, request: BaseRequest) -> None:
        raw = request.raw_headers
        if len(raw) > 16 and sum(len(name) + len(value) + 4 for name, value in raw) > self._max_header_bytes:
            raise GatewayError(
                errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
                f"The headers are larger than {self._max_header_bytes} bytes; send fewer or shorter ones.",
                origin="caller",
            )
        check_host(request.headers)

    def _fail(self, exchange: Exchange, error: GatewayError) -> Answer:
        status = shape_of(error.reason, exchange.surface).status
        if not exchange.called:
            self._refusals.record(exchange, error, status)
        headers: list[Header] = [*error_headers(error, status), self._link(error)]
        if error.reason == errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED and "allow" in error.metadata:
            headers.append(("allow", error.metadata["allow"]))
        if exchange.surface == errors_pb2.SURFACE_RESPONSES:
            headers += codex_refusal_headers(error.metadata)
        page = self._error_page(exchange, error, status, tuple(headers))
        if page is not None:
            return page
        body = error_object(error, exchange.surface, exchange.request_id, doc_url=self._doc_url(error))
        # What is left of a body is not worth reading: the connection ends behind the answer.
        unread = not exchange.request.content.is_eof()
        return exchange.answer(status, body, headers=tuple(headers), close=unread)

    def _doc_url(self, error: GatewayError) -> str:
        return f"{self._site_url}/errors#{error.code}"

    def _link(self, error: GatewayError) -> Header:
        return ("link", f'<{self._doc_url(error)}>; rel="help"')
