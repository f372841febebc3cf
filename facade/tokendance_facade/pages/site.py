"""The public site: every page, the file beside it, and the stream that tells open pages that the state changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode

import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.status_words import COUNTED, WORDS
from tokendance_facade.answers import JSON, Answer, Header, Reply
from tokendance_facade.config import FacadeConfig
from tokendance_facade.exchange import Exchange
from tokendance_facade.pages import examples, marking, references, texts
from tokendance_facade.pages.assets import Assets
from tokendance_facade.pages.clients import client_views
from tokendance_facade.pages.live import HISTORY_DAYS, LiveData
from tokendance_facade.pages.rendering import Renderer
from tokendance_facade.pages.security import FILE_HEADERS, PAGE_HEADERS
from tokendance_facade.pages.serving import HTML, etag_of, page_answer
from tokendance_facade.pages.status_feed import StatusFeed
from tokendance_facade.pages.views import ModelView, StatusView, bars, cleaner, incident_view, model_view, status_view
from tokendance_facade.routes import Route

NAVIGATION = (
    ("/", "Quickstart"),
    ("/keys", "Keys"),
    ("/limits", "Limits"),
    ("/models", "Models"),
    ("/errors", "Errors"),
    ("/status", "Status"),
    ("/reference", "API"),
)
_SURFACE = errors_pb2.SURFACE_GATEWAY
_TEXT = "text/plain; charset=utf-8"
_AN_HOUR = "public, max-age=3600"
_MODELS_A_PAGE = 100
# Of a search no more is looked at.
_MAX_QUERY = 100


class _Made(NamedTuple):
    """A page as it goes out."""

    body: bytes
    etag: str


class PublicPages:
    """Makes pages when they are first asked for, and again only when what they show has changed.

    `base_url` tells the base URL of the API as callers write it, once the listener is bound.
    """

    def __init__(self, channel: grpc.aio.Channel, config: FacadeConfig, *, base_url: Callable[[], str]) -> None:
        site = config.site
        self._base_url = base_url
        self._brand = site.brand
        self._live = LiveData(channel, timeout_s=config.models_timeout_s)
        self._feed = StatusFeed(self._live, keepalive_s=config.keepalive_s)
        self._clean = cleaner(site.private_names)
        self.assets = Assets()
        self._renderer = Renderer(
            self.assets,
            {
                "brand": site.brand,
                "home": "/",
                "navigation": NAVIGATION,
                "base_url": base_url,
                "console_url": site.console_url,
                "support": site.support,
            },
        )
        self._renderer.environment.filters["bars"] = partial(bars, days=HISTORY_DAYS)
        self._renderer.environment.filters["ticks"] = marking.ticks
        self._renderer.environment.filters["codes"] = marking.codes
        self._renderer.environment.filters["callers"] = references.callers
        self._made: dict[str, tuple[Any, _Made]] = {}
        self._view: tuple[int, StatusView] | None = None
        self._listed: tuple[int, list[ModelView] | None] | None = None

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of every page, for the route table."""
        rows: dict[str, Callable[[Exchange], Awaitable[Reply]]] = {
            "/": self._home,
            "/keys": self._keys,
            "/limits": self._limits,
            "/models": self._models,
            "/errors": self._errors,
            "/status": self._status,
            "/status/events": self._feed.serve,
            "/reference": self._reference,
            "/reference/grpc": self._grpc,
            "/reference/grpc/*": self._grpc_file,
            "/openapi.json": self._openapi,
            "/llms.txt": self._llms,
            "/robots.txt": self._robots,
            "/favicon.ico": self._icon,
            "/assets/*": self.assets.serve,
        }
        return tuple(Route("GET", path, _SURFACE, handler) for path, handler in rows.items())

    def error_page(
        self, exchange: Exchange, error: GatewayError, status: int, headers: tuple[Header, ...]
    ) -> Answer | None:
        """Return a page that tells of an error, where a browser asked for a page; None where a program asked."""
        request = exchange.request
        if (
            request.method not in {"GET", "HEAD"}
            or exchange.path.startswith("/v1/")
            or "text/html" not in request.headers.get("Accept", "")
        ):
            return None
        title = "Nothing here" if status == HTTPStatus.NOT_FOUND else "That did not work"
        values = {"title": title, "message": error.message, "code": error.code, "request_id": exchange.request_id}
        body = self._render("not_found.html", "", values)
        sent = (*exchange.headers, *headers, *PAGE_HEADERS, ("cache-control", "no-store"))
        return Answer(status, body, exchange.request_id, content_type=HTML, headers=sent)

    def stop(self) -> None:
        """End the streams of open pages: they come back by themselves."""
        self._feed.stop()

    async def _home(self, exchange: Exchange) -> Reply:
        view = await self._state()
        key = (view.state, view.summary)
        return self._page(exchange, "/", key, lambda: self._render("home.html", "/", self._home_values(view)))

    async def _keys(self, exchange: Exchange) -> Reply:
        return self._still(exchange, "/keys", "keys.html", dict)

    async def _limits(self, exchange: Exchange) -> Reply:
        return self._still(exchange, "/limits", "limits.html", lambda: {"refusals": references.refusals()})

    async def _errors(self, exchange: Exchange) -> Reply:
        return self._still(exchange, "/errors", "errors.html", _errors_values)

    async def _models(self, exchange: Exchange) -> Reply:
        query = _query(exchange.query, ("q", "serves", "takes", "page"))
        models = await self._catalogue()
        state = await self._state()

        def make() -> bytes:
            return self._render("models.html", "/models", _models_values(models, state, query))

        if any(query.values()):
            return page_answer(exchange, make(), public=True)
        return self._page(exchange, "/models", (self._live.models.version, self._live.status.version), make)

    async def _status(self, exchange: Exchange) -> Reply:
        view = await self._state()
        past = await self._live.past.get() or []

        def make() -> bytes:
            values = {
                "status": view,
                "past": [incident_view(one, self._clean) for one in past],
                "words": WORDS,
                "counted": COUNTED,
            }
            return self._render("status.html", "/status", values)

        return self._page(exchange, "/status", (self._live.status.version, self._live.past.version), make)

    async def _reference(self, exchange: Exchange) -> Reply:
        return self._still(exchange, "/reference", "reference.html", references.rest_values)

    async def _grpc(self, exchange: Exchange) -> Reply:
        return self._still(
            exchange, "/reference/grpc", "grpc.html", lambda: {"files": references.grpc_index()}, "/reference"
        )

    async def _grpc_file(self, exchange: Exchange) -> Reply:
        name = exchange.tail
        if name not in references.grpc_names():
            raise GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "There is no such page.", origin="caller")
        return self._still(
            exchange,
            f"/reference/grpc/{name}",
            "grpc_file.html",
            lambda: references.grpc_values(name),
            "/reference",
        )

    async def _openapi(self, exchange: Exchange) -> Reply:
        return page_answer(
            exchange, references.openapi_bytes(), content_type=JSON, cache=_AN_HOUR, security=FILE_HEADERS, public=True
        )

    async def _llms(self, exchange: Exchange) -> Reply:
        address = self._base_url()
        text = references.llms_text(self._brand, address, address.removesuffix("/v1"))
        return page_answer(
            exchange, text.encode(), content_type=_TEXT, cache=_AN_HOUR, security=FILE_HEADERS, public=True
        )

    async def _robots(self, exchange: Exchange) -> Reply:
        body = b"User-agent: *\nDisallow: /v1/\nDisallow: /status/events\n"
        return page_answer(exchange, body, content_type=_TEXT, cache=_AN_HOUR, security=FILE_HEADERS)

    async def _icon(self, exchange: Exchange) -> Reply:
        body = self.assets.body("favicon.svg")
        return page_answer(
            exchange, body, content_type="image/svg+xml", cache="public, max-age=86400", security=FILE_HEADERS
        )

    async def _catalogue(self) -> list[ModelView] | None:
        found = await self._live.models.get()
        version = self._live.models.version
        if self._listed is None or self._listed[0] != version:
            self._listed = (version, None if found is None else [model_view(one, self._clean) for one in found])
        return self._listed[1]

    async def _state(self) -> StatusView:
        status = await self._live.status.get()
        version = self._live.status.version
        if self._view is None or self._view[0] != version:
            self._view = (version, status_view(status, self._clean))
        return self._view[1]

    def _render(self, template: str, current: str, values: Mapping[str, Any]) -> bytes:
        return self._renderer.render(template, current, **values)

    def _still(
        self,
        exchange: Exchange,
        path: str,
        template: str,
        values: Callable[[], Mapping[str, Any]],
        current: str = "",
    ) -> Reply:
        """Answer with a page that shows nothing live: it is made once."""
        return self._page(exchange, path, None, lambda: self._render(template, current or path, values()))

    def _page(self, exchange: Exchange, path: str, key: Any, make: Callable[[], bytes]) -> Reply:
        """Answer with the page that was made for this key, or make it."""
        known = self._made.get(path)
        if known is None or known[0] != key:
            body = make()
            known = self._made[path] = (key, _Made(body, etag_of(body)))
        return page_answer(exchange, known[1].body, etag=known[1].etag, public=True)

    def _home_values(self, view: StatusView) -> dict[str, Any]:
        address = self._base_url()
        return {
            "status": view,
            "environment_sh": texts.environment_sh(address),
            "environment_ps1": texts.environment_ps1(address),
            "verify": {key: examples.example("verify", key) for key in ("sh", "ps1")},
            "languages": examples.LANGUAGES,
            "variants": examples.VARIANTS,
            "language_names": dict(examples.LANGUAGES),
            "variant_names": dict(examples.VARIANTS),
            "examples": [
                examples.example(variant, language)
                for variant, _ in examples.VARIANTS
                for language, _ in examples.LANGUAGES
            ],
            "clients": texts.CLIENTS,
            "client_configs": client_views(address),
        }


def _errors_values() -> dict[str, Any]:
    families = references.reference()["errors"]
    return {
        "families": families,
        "titles": [(f"family-{family['name']}", texts.FAMILIES[family["name"]]) for family in families],
        "error_example": texts.ERROR_EXAMPLE,
    }


def _query(query: str, names: tuple[str, ...]) -> dict[str, str]:
    try:
        given = parse_qs(query, max_num_fields=20)
    except ValueError:
        given = {}
    return {name: given.get(name, [""])[0][:_MAX_QUERY] for name in names}


def _models_values(models: list[ModelView] | None, state: StatusView, query: Mapping[str, str]) -> dict[str, Any]:
    everything = models or []
    words = query["q"].lower().split()
    shown = [
        model
        for model in everything
        if all(word in model.words for word in words)
        and (not query["serves"] or query["serves"] in model.serves)
        and (not query["takes"] or query["takes"] in model.takes)
    ]
    pages = max(-(-len(shown) // _MODELS_A_PAGE), 1)
    page = min(max(int(query["page"]), 1), pages) if query["page"].isascii() and query["page"].isdecimal() else 1
    begin = (page - 1) * _MODELS_A_PAGE
    wanted = {name: query[name] for name in ("q", "serves", "takes") if query[name]}
    return {
        "models": None if models is None else shown[begin : begin + _MODELS_A_PAGE],
        "found": len(shown),
        "total": len(everything),
        "query": query,
        "choices": {
            "serves": sorted({word for model in everything for word in model.serves}),
            "takes": sorted({word for model in everything for word in model.takes}),
        },
        "states": {one.model: one.state for one in state.models},
        "page": page,
        "pages": pages,
        "turned": {turn: "/models?" + urlencode({**wanted, "page": turn}) for turn in (page - 1, page + 1)},
    }
