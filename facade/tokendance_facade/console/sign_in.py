"""Signing in and out: at the identity provider and back, or by a link that the node's owner printed."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, facade_service_pb2
from tokendance_facade.answers import Answer
from tokendance_facade.console.answers import redirect
from tokendance_facade.console.cookies import Cookies
from tokendance_facade.console.forms import Values
from tokendance_facade.console.rpcs import Stubs
from tokendance_facade.console.views import Action, Actions, Form, Notice, View
from tokendance_facade.console.visit import Visit
from tokendance_facade.exchange import Exchange
from tokendance_facade.handlers.calls import Calls

HOME = "/console"
LINK = "/console/link"

# Below our own root: `//host` and `/\host` would lead elsewhere.
_NEXT = re.compile(r"/console(/[\w.~%/=&?:+,-]*)?(\?[\w.~%/=&?:+,-]*)?", re.ASCII)
_MOST_NEXT = 2048
_STATE = re.compile(r"[\w-]{20,256}", re.ASCII)
_LINK_TOKEN = re.compile(r"[\w.-]{20,4096}", re.ASCII)
_OWNER = "Print a link with the command `tokendance console` where the gateway runs, and open it within five minutes."

Show = Callable[..., Answer]


class SignIn:
    """Answers the paths that need no session: sign-in, callback, link, and the page after signing out."""

    def __init__(self, calls: Calls, stubs: Stubs, timeout_s: float, show: Show) -> None:
        self._calls = calls
        self._stubs = stubs
        self._timeout_s = timeout_s
        self._show = show

    async def handle(
        self, exchange: Exchange, origin: str, sent: Mapping[str, str], *, query: Values, form: Values
    ) -> Answer | None:
        """Return the answer for a path that needs no session, or None. Raises GatewayError."""
        path, post = exchange.path, exchange.request.method == "POST"
        cookies = Cookies.at(origin)
        previous = sent.get(cookies.session, "")
        if path == f"{HOME}/sign-in" and not post:
            return await self._begin(exchange, origin, cookies, query)
        if path == f"{HOME}/callback" and not post:
            return await self._finish(exchange, cookies, sent, query, previous)
        if path.startswith(f"{LINK}/") and not post:
            return self._offer(exchange, path.removeprefix(f"{LINK}/"))
        if path == LINK and post:
            return await self._follow(exchange, cookies, form.get("link"), previous)
        if path == f"{HOME}/signed-out" and not post:
            return self._show(exchange, View("Signed out", [_again()], "This browser has no session here any more."))
        return None

    async def sign_out(self, visit: Visit, cookies: Cookies, cookie: str) -> Answer:
        """End the session, and say where the identity provider ends its own."""
        if visit.exchange.request.method != "POST":
            action = f"{HOME}/sign-out"
            form = Form(action, [], "Sign out", visit.csrf(action), cancel=HOME)
            return self._show(visit.exchange, View("Sign out", [form], "Your session here ends at once."), visit)
        request = facade_service_pb2.DeleteSessionRequest(cookie=cookie)
        answer = await self._call(visit.exchange, self._stubs.facade.DeleteSession, request)
        if not answer.end_session_url:
            return redirect(visit.exchange, f"{HOME}/signed-out", cookies.close_session())
        # Not by a redirect: the policy of the page lets forms lead to the console alone.
        elsewhere = Actions([Action("Sign out at the identity provider too", answer.end_session_url, "primary")])
        view = View("Signed out", [elsewhere, _again()], "Your session here is over; the identity provider keeps one.")
        return self._show(visit.exchange, view, None, cookies.close_session())

    async def _begin(self, exchange: Exchange, origin: str, cookies: Cookies, query: Values) -> Answer:
        fresh = query.has("fresh")
        login = facade_service_pb2.Login(
            next_path=own_path(query.get("next")), redirect_uri=f"{origin}{HOME}/callback", fresh=fresh
        )
        request = facade_service_pb2.CreateLoginRequest(login=login)
        try:
            begun = await self._call(exchange, self._stubs.facade.CreateLogin, request)
        except GatewayError as error:
            if error.reason != errors_pb2.ERROR_REASON_FAILED_PRECONDITION:
                raise
            return self._show(exchange, _by_link(error.message, fresh=fresh))
        return redirect(exchange, begun.authorization_url, cookies.begin_login(begun.state))

    async def _finish(
        self, exchange: Exchange, cookies: Cookies, sent: Mapping[str, str], query: Values, previous: str
    ) -> Answer:
        state = query.get("state")
        ours = sent.get(cookies.login(state), "")
        # Somebody else may send a browser here with an answer of their own: only who began a sign-in has its cookie.
        if _STATE.fullmatch(state) is None or not hmac.compare_digest(state.encode(), ours.encode()):
            raise _refused("This sign-in was not begun in this browser, or took too long; begin it anew.")
        taken = await self._call(
            exchange, self._stubs.facade.TakeLogin, facade_service_pb2.TakeLoginRequest(state=state)
        )
        if query.has("error"):
            view = View(
                "Not signed in",
                [Notice(f"The identity provider says: {query.get('error')[:100]}.", "bad"), _again()],
            )
            return self._show(exchange, view, None, cookies.end_login(state), status=403)
        if not query.has("code"):
            raise _refused("The sign-in was answered without a code; begin it anew.")
        answer = facade_service_pb2.LoginAnswer(
            login=taken.login, code=query.get("code")[:4096], issuer=query.get("iss")[:2048]
        )
        request = facade_service_pb2.CreateSessionRequest(answer=answer, previous_cookie=previous[:256])
        opened = await self._call(exchange, self._stubs.facade.CreateSession, request)
        headers = (cookies.end_login(state), cookies.open_session(opened.cookie))
        return redirect(exchange, own_path(taken.login.next_path), *headers)

    def _offer(self, exchange: Exchange, link: str) -> Answer:
        """Ask before a link is used: whatever looks at addresses by itself must not spend it."""
        if _LINK_TOKEN.fullmatch(link) is None:
            raise _refused("This is no sign-in link.")
        form = Form(LINK, [], "Sign in", hidden=[("link", link)])
        lead = "This link signs one person in, once. It was printed where the gateway runs."
        return self._show(exchange, View("Sign in", [form], lead))

    async def _follow(self, exchange: Exchange, cookies: Cookies, link: str, previous: str) -> Answer:
        if exchange.request.headers.get("Origin") is None:
            # It has no session whose key could sign the form, so the browser must say whose page sent it.
            raise _refused("The browser does not say which page sent this form; nothing was done.")
        if _LINK_TOKEN.fullmatch(link) is None:
            raise _refused("This is no sign-in link.")
        request = facade_service_pb2.CreateSessionRequest(link=link, previous_cookie=previous[:256])
        opened = await self._call(exchange, self._stubs.facade.CreateSession, request)
        return redirect(exchange, HOME, cookies.open_session(opened.cookie))

    async def _call(self, exchange: Exchange, rpc: Any, request: Any) -> Any:
        return await self._calls.unary(exchange, None, rpc, request, self._timeout_s)


def own_path(path: str) -> str:
    """Return a path of the console to go to, or its start where a path is anything else."""
    return path if len(path) <= _MOST_NEXT and _NEXT.fullmatch(path) else HOME


def _by_link(message: str, *, fresh: bool) -> View:
    lead = "What you were about to do needs a sign-in of the last minutes." if fresh else ""
    return View("Sign in", [Notice(message), Notice(_OWNER, "")], lead)


def _again() -> Actions:
    return Actions([Action("Sign in", f"{HOME}/sign-in?next={quote(HOME, safe='')}", "primary")])


def _refused(message: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_PERMISSION_DENIED, message, origin="caller")
