"""The console on the internal listener: finds the page, lets in who may see it, and shows what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import grpc.aio
import structlog
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from tokendance.errors import GatewayError, spec_of
from tokendance.gateway.v1 import errors_pb2, facade_service_pb2, organizations_service_pb2
from tokendance_facade.answers import Answer, Header, Reply
from tokendance_facade.config import FacadeConfig
from tokendance_facade.console.answers import NO_STORE, redirect
from tokendance_facade.console.cookies import Cookies, read_cookies
from tokendance_facade.console.forms import Values, check_csrf, check_same_origin, read_form, read_query
from tokendance_facade.console.navigation import navigation
from tokendance_facade.console.origins import Origins
from tokendance_facade.console.pages import all_pages
from tokendance_facade.console.routes import Page, Pages, nothing_there
from tokendance_facade.console.rpcs import Stubs
from tokendance_facade.console.sign_in import SignIn
from tokendance_facade.console.views import Action, Actions, Cell, Facts, Form, Notice, View
from tokendance_facade.console.visit import FreshSignInNeededError, Visit
from tokendance_facade.errors import error_headers, internal_error, shape_of
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls
from tokendance_facade.pages.assets import PREFIX as ASSETS
from tokendance_facade.pages.assets import Assets
from tokendance_facade.pages.rendering import HTML, Renderer
from tokendance_facade.pages.security import PAGE_HEADERS

PREFIX = "/console"
_PACKAGES = ("tokendance_facade.pages", "tokendance_facade.console")
# What the person at the form can put right in it.
_CORRECTABLE = frozenset(
    {
        errors_pb2.ERROR_REASON_INVALID_REQUEST,
        errors_pb2.ERROR_REASON_ALREADY_EXISTS,
        errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_VERSION_CONFLICT,
    }
)
_log = structlog.get_logger("tokendance_facade")


class ConsoleSite:
    """Answers every path below `/console`, and its files. `bound` returns the address of the listener."""

    def __init__(self, config: FacadeConfig, channel: grpc.aio.Channel, calls: Calls, bound: Callable[[], str]) -> None:
        self._config = config
        self._calls = calls
        self._stubs = Stubs.on(channel)
        self._origins = Origins(config.console, bound)
        self._assets = Assets(_PACKAGES)
        shared = {"brand": config.site.brand, "home": PREFIX, "navigation": ()}
        self._renderer = Renderer(self._assets, shared, packages=tuple(reversed(_PACKAGES)))
        self._renderer.environment.filters["local_time"] = local_time
        self._pages = Pages(all_pages())
        self._sign_in = SignIn(calls, self._stubs, config.admin_timeout_s, self.show)

    @staticmethod
    def owns(path: str) -> bool:
        """Tell whether a path is one of the console's."""
        return path in ("/", PREFIX) or path.startswith((PREFIX + "/", ASSETS))

    @property
    def pages(self) -> Pages:
        """The pages behind the sign-in."""
        return self._pages

    async def handle(self, exchange: Exchange) -> Reply:
        """Answer one request. Raises nothing but cancellation and what the connection does."""
        exchange.surface = errors_pb2.SURFACE_ADMIN
        exchange.route = f"{exchange.request.method} {PREFIX}"
        try:
            origin = self._origins.of(exchange.request)
            if exchange.path.startswith(ASSETS):
                exchange.tail = exchange.path[len(ASSETS) :]
                return await self._assets.serve(exchange)
            if exchange.path == "/":
                return redirect(exchange, PREFIX)
            return await self._answer(exchange, origin)
        except GatewayError as error:
            return self._fail(exchange, error, None)
        except Exception:  # noqa: BLE001 - the edge: whatever it is, the person gets a page and the log the cause
            _log.exception("request_crashed", request_id=exchange.request_id)
            return self._fail(exchange, internal_error(), None)

    async def _answer(self, exchange: Exchange, origin: str) -> Answer:
        method = exchange.request.method
        if method not in ("GET", "HEAD", "POST"):
            raise GatewayError(
                errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
                "Pages take GET, and their forms POST.",
                metadata={"allow": "GET, HEAD, POST"},
                origin="caller",
            )
        query = read_query(exchange.query)
        form = Values()
        if method == "POST":
            check_same_origin(exchange.request, origin)
            form = await read_form(exchange.request)
        sent = read_cookies(exchange.request.headers)
        before = await self._sign_in.handle(exchange, origin, sent, query=query, form=form)
        if before is not None:
            return before
        cookies = Cookies.at(origin)
        cookie = sent.get(cookies.session, "")
        if not cookie:
            return self._to_sign_in(exchange)
        session = await self._session(exchange, cookie)
        if session is None:
            return self._to_sign_in(exchange, cookies.close_session())
        visit = await self._visit(exchange, session, query, form)
        try:
            if method == "POST":
                check_csrf(session.session.form_key, exchange.path, form)
            if exchange.path == f"{PREFIX}/sign-out":
                return await self._sign_in.sign_out(visit, cookies, cookie)
            return await self._page(visit)
        except GatewayError as error:
            return self._fail(exchange, error, visit)

    async def _visit(
        self, exchange: Exchange, session: facade_service_pb2.GetSessionResponse, query: Values, form: Values
    ) -> Visit:
        request = organizations_service_pb2.GetCallerRequest()
        timeout_s = self._config.admin_timeout_s
        rpc = self._stubs.organizations.GetCaller
        caller = (await self._calls.unary(exchange, session.access_token, rpc, request, timeout_s)).caller
        return Visit(
            exchange=exchange,
            calls=self._calls,
            stubs=self._stubs,
            session=session.session,
            access_token=session.access_token,
            caller=caller,
            fresh_s=self._config.console.fresh_s,
            timeout_s=timeout_s,
            path={},
            query=query,
            form=form,
        )

    async def _page(self, visit: Visit) -> Answer:
        page, visit.path = self._pages.find(visit.exchange.path)
        post = visit.exchange.request.method == "POST"
        handler = page.post if post else page.get
        # Whoever may not see it learns nothing of it, not even that it is there.
        if not visit.is_any(page.kinds) or handler is None:
            raise nothing_there()
        visit.exchange.route = f"{'POST' if post else 'GET'} {page.path}"
        try:
            outcome = await handler(visit)
        except GatewayError as error:
            if not post or error.reason not in _CORRECTABLE:
                raise
            return await self._again(visit, page, error)
        except FreshSignInNeededError:
            path = visit.exchange.path if post else visit.exchange.request.raw_path
            return redirect(visit.exchange, f"{PREFIX}/sign-in?fresh=yes&next={quote(path, safe='')}")
        if isinstance(outcome, View):
            return self.show(visit.exchange, outcome, visit)
        if isinstance(outcome, str):
            return redirect(visit.exchange, outcome)
        return outcome

    async def _again(self, visit: Visit, page: Page, error: GatewayError) -> Answer:
        """Return the page of a form that was refused, filled in as it was sent, with what is wrong."""
        view = await page.get(visit)
        if not isinstance(view, View):
            raise error
        values: dict[str, list[str]] = {}
        for name, value in visit.form.items():
            values.setdefault(name, []).append(value)
        told = Notice(f"{error.message} (code {error.code}, request {visit.exchange.request_id})", "bad")
        blocks = [
            block.refilled(values, error.param or "", error.message)
            if isinstance(block, Form) and block.action == visit.exchange.path
            else block
            for block in view.blocks
        ]
        status = shape_of(error.reason, errors_pb2.SURFACE_ADMIN).status
        headers = error_headers(error, status)
        return self.show(visit.exchange, replace(view, blocks=[told, *blocks]), visit, *headers, status=status)

    async def _session(self, exchange: Exchange, cookie: str) -> facade_service_pb2.GetSessionResponse | None:
        request = facade_service_pb2.GetSessionRequest(cookie=cookie[:256], touch=True)
        try:
            answer: facade_service_pb2.GetSessionResponse = await self._calls.unary(
                exchange, None, self._stubs.facade.GetSession, request, self._config.admin_timeout_s
            )
        except GatewayError as error:
            if error.reason == errors_pb2.ERROR_REASON_NOT_FOUND:
                return None
            raise
        return answer

    def _to_sign_in(self, exchange: Exchange, *headers: Header) -> Answer:
        path = exchange.request.raw_path if exchange.request.method != "POST" else PREFIX
        return redirect(exchange, f"{PREFIX}/sign-in?next={quote(path, safe='')}", *headers)

    def show(
        self, exchange: Exchange, view: View, visit: Visit | None = None, *headers: Header, status: int = 200
    ) -> Answer:
        """Return a page, which nobody keeps."""
        menu, current = navigation(visit) if visit is not None else ((), "")
        body = self._renderer.render(
            "console.html",
            current,
            view=view,
            navigation=menu,
            theme="" if visit is None else visit.theme,
            person="" if visit is None else visit.person,
            zone=UTC if visit is None else visit.zone,
            request_id=exchange.request_id,
        )
        return Answer(status, body, exchange.request_id, content_type=HTML, headers=(*PAGE_HEADERS, NO_STORE, *headers))

    def _fail(self, exchange: Exchange, error: GatewayError, visit: Visit | None) -> Answer:
        status = shape_of(error.reason, errors_pb2.SURFACE_ADMIN).status
        headers = error_headers(error, status)
        if "allow" in error.metadata:
            headers.append(("allow", error.metadata["allow"]))
        answer = self.show(exchange, error_view(error, exchange.request_id), visit, *headers, status=status)
        if not exchange.request.content.is_eof():
            answer.close = True
        return answer


def error_view(error: GatewayError, request_id: str) -> View:
    """Return the page of an error: what to do, its code, and the request id for support."""
    spec = spec_of(error.reason)
    title = "Not found" if error.reason == errors_pb2.ERROR_REASON_NOT_FOUND else "That did not work"
    pairs = [
        ("Code", Cell(error.code, kind="mono")),
        ("Check first", Cell(spec.check_first)),
        ("Request id", Cell(error.request_id or request_id, kind="mono")),
    ]
    if error.param:
        pairs.insert(1, ("Field", Cell(error.param, kind="mono")))
    return View(title, [Notice(error.message, "bad"), Facts("", pairs), Actions([Action("To the start", PREFIX)])])


@pass_context
def local_time(context: Context, text: str) -> Markup:
    """Return an RFC 3339 time as the person of the page reads it."""
    time = datetime.fromisoformat(text)
    shown = time.astimezone(context.get("zone") or UTC)
    return Markup('<time datetime="{}">{}</time>').format(text, f"{shown:%Y-%m-%d %H:%M:%S}")
