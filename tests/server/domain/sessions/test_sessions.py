"""Sessions of the console: opened once, looked at with every use, renewed by one, and over when they must be."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from tests.server.domain.identity.issuer import ACME, NOW

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance_server.domain.audit.events import Origin
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.identity.roles import denied
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.domain.sessions.session import Login, SessionLimits, SignedIn, Tokens
from tokendance_server.domain.sessions.sessions import Sessions
from tokendance_server.stores.memory_audit import MemoryAuditStore
from tokendance_server.stores.memory_sessions import MemorySessionStore

LIMITS = SessionLimits(timedelta(minutes=30), timedelta(hours=12))
PERSON = Principal(frozenset({access_pb2.CALLER_KIND_MEMBER}), f"{ACME}/members/user_1", ACME)
HERE = Origin(request_id="req_1", address="127.0.0.1")


class Provider:
    """An identity provider whose tokens are good for five minutes; `refusal` stops whoever bears one."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.issued = 0
        self.renewals = 0
        self.renewing = asyncio.Event()
        self.renewing.set()
        self.ends = False
        self.down = False
        self.refusal: GatewayError | None = None

    def new_login(self, next_path: str, redirect_uri: str, *, fresh: bool, now: datetime) -> Login:
        return Login("nonce", "verifier", next_path, "https://id.example.com", redirect_uri, fresh, now)

    async def authorization_url(self, login: Login, state: str) -> str:
        return f"https://id.example.com/auth?state={state}"

    async def redeem(self, login: Login, code: str, issuer: str) -> SignedIn:
        return SignedIn(self._tokens(), self.clock.now())

    def follow(self, link: str) -> tuple[SignedIn, str, datetime]:
        return SignedIn(self._tokens(), self.clock.now()), link, self.clock.now() + timedelta(minutes=5)

    async def renew(self, tokens: Tokens, sign_in_time: datetime) -> Tokens | None:
        self.renewals += 1
        await self.renewing.wait()
        if self.down:
            raise GatewayError(errors_pb2.ERROR_REASON_IDENTITY_PROVIDER_UNAVAILABLE, "It does not answer.")
        return None if self.ends else self._tokens()

    async def end_url(self, tokens: Tokens) -> str:
        return "https://id.example.com/end"

    async def identify(self, token: str) -> Principal:
        if self.refusal is not None:
            raise self.refusal
        return PERSON

    def _tokens(self) -> Tokens:
        self.issued += 1
        return Tokens(f"access-{self.issued}", self.clock.now().timestamp() + 300, "refresh")


class Desk:
    """Sessions over a provider, and the trail that they leave."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.provider = Provider(self.clock)
        self.audit = MemoryAuditStore()
        self.store = MemorySessionStore(self.audit)
        self.ring = KeyRing([bytes(range(32))])
        self.sessions = Sessions(
            self.store, self.provider, self.provider, self.ring, self.clock, limits=LIMITS, sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def sign_in(self, previous: str = "") -> str:
        """Open a session; return its cookie."""
        state, _ = await self.sessions.begin("/console", "http://127.0.0.1/cb", timedelta(minutes=10), fresh=False)
        login = await self.sessions.take(state)
        return (await self.sessions.open_by_code(login, "code", "", previous=previous, origin=HERE))[2]

    async def token(self, cookie: str) -> str:
        """Return the access token of a session in use."""
        return (await self.sessions.get(cookie, touch=True)).access_token


@pytest.fixture
def desk() -> Desk:
    """A desk of its own."""
    return Desk()


async def over(desk: Desk, cookie: str) -> str:
    """Return the code with which a session is refused."""
    with pytest.raises(GatewayError) as caught:
        await desk.sessions.get(cookie, touch=True)
    return caught.value.code


async def test_a_sign_in_opens_a_session_that_its_cookie_alone_finds(desk: Desk) -> None:
    """A state is good once, and a cookie of somebody's own making is none."""
    state, url = await desk.sessions.begin("/console/keys", "http://h/cb", timedelta(minutes=1), fresh=True)
    assert state in url
    login = await desk.sessions.take(state)
    assert (login.next_path, login.fresh, login.create_time) == ("/console/keys", True, NOW)
    with pytest.raises(GatewayError, match="begin it anew"):
        await desk.sessions.take(state)
    kept, person, cookie = await desk.sessions.open_by_code(login, "code", "", previous="", origin=HERE)
    assert person.name == PERSON.name
    found = await desk.sessions.get(cookie, touch=True)
    assert (found.access_token, found.kept.id, found.person.sign_in_time) == ("access-1", kept.id, NOW)
    assert cookie not in repr(found)
    assert await over(desk, "made-up") == "not_found"


async def test_a_link_opens_one_session(desk: Desk) -> None:
    """Whoever finds it later in a terminal or a history opens none."""
    _, _, cookie = await desk.sessions.open_by_link("link-1", previous="", origin=HERE)
    assert await desk.token(cookie)
    with pytest.raises(GatewayError, match="used already") as caught:
        await desk.sessions.open_by_link("link-1", previous="", origin=HERE)
    assert caught.value.code == "invalid_id_token"


async def test_a_session_ends_without_use(desk: Desk) -> None:
    """Each use prolongs it; looking at it without touching does not."""
    cookie = await desk.sign_in()
    desk.clock.advance(29 * 60)
    assert await desk.token(cookie)
    desk.clock.advance(29 * 60)
    await desk.sessions.get(cookie, touch=False)
    desk.clock.advance(60)
    assert await over(desk, cookie) == "not_found"


async def test_a_session_ends_in_any_case(desk: Desk) -> None:
    """However often it is used."""
    cookie = await desk.sign_in()
    for _ in range(12 * 3 - 1):
        desk.clock.advance(20 * 60)
        await desk.token(cookie)
    desk.clock.advance(20 * 60)
    assert await over(desk, cookie) == "not_found"


async def test_a_session_ends_with_its_person(desk: Desk) -> None:
    """At the next use, and for good: it does not come back with the member."""
    cookie = await desk.sign_in()
    desk.provider.refusal = denied("You are suspended.")
    assert await over(desk, cookie) == "not_found"
    desk.provider.refusal = None
    assert await over(desk, cookie) == "not_found"


async def test_an_unreachable_provider_ends_no_session(desk: Desk) -> None:
    """What cannot be checked now is refused now, and checked again later."""
    cookie = await desk.sign_in()
    desk.provider.refusal = GatewayError(errors_pb2.ERROR_REASON_IDENTITY_PROVIDER_UNAVAILABLE, "It is gone.")
    assert await over(desk, cookie) == "identity_provider_unavailable"
    desk.provider.refusal = None
    assert await desk.token(cookie)


async def test_tokens_are_renewed_before_they_end(desk: Desk) -> None:
    """Once, whoever else asks meanwhile gets the one that is still good."""
    cookie = await desk.sign_in()
    desk.clock.advance(250)
    desk.provider.renewing.clear()
    first = asyncio.create_task(desk.token(cookie))
    await asyncio.sleep(0)
    assert await desk.token(cookie) == "access-1"
    desk.provider.renewing.set()
    assert await first == "access-2"
    assert await desk.token(cookie) == "access-2"
    assert desk.provider.renewals == 1


async def test_who_comes_after_the_end_waits_for_the_renewal(desk: Desk) -> None:
    """Two pages at once spend one refresh token, which often works only once."""
    cookie = await desk.sign_in()
    desk.clock.advance(301)
    desk.provider.renewing.clear()
    asking = [asyncio.create_task(desk.token(cookie)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    desk.provider.renewing.set()
    assert set(await asyncio.gather(*asking)) == {"access-2"}
    assert desk.provider.renewals == 1


async def test_a_session_that_is_renewed_no_more_is_over(desk: Desk) -> None:
    """Not before its last token is."""
    cookie = await desk.sign_in()
    desk.provider.ends = True
    desk.clock.advance(250)
    assert await desk.token(cookie) == "access-1"
    desk.clock.advance(51)
    assert await over(desk, cookie) == "not_found"


async def test_a_provider_that_is_down_costs_nothing_while_the_token_lasts(desk: Desk) -> None:
    """Afterwards the page is told so, and the session is still there when the provider is back."""
    cookie = await desk.sign_in()
    desk.provider.down = True
    desk.clock.advance(250)
    assert await desk.token(cookie) == "access-1"
    desk.clock.advance(60)
    assert await over(desk, cookie) == "identity_provider_unavailable"
    desk.provider.down = False
    desk.clock.advance(20)
    assert await desk.token(cookie) == "access-2"


async def test_a_fresh_sign_in_takes_the_place_of_the_session_before(desk: Desk) -> None:
    """The old cookie opens nothing any more: nobody can have fixed it."""
    old = await desk.sign_in()
    new = await desk.sign_in(previous=old)
    assert old != new
    assert await over(desk, old) == "not_found"
    assert await desk.token(new)


async def test_sign_out_ends_the_session_at_once(desk: Desk) -> None:
    """And says where the provider's own ends; of none it says nothing."""
    cookie = await desk.sign_in()
    assert await desk.sessions.end(cookie, HERE) == "https://id.example.com/end"
    assert await over(desk, cookie) == "not_found"
    assert await desk.sessions.end(cookie, HERE) == ""


async def test_tokens_of_one_session_are_no_use_to_another(desk: Desk) -> None:
    """Who can write to the database cannot put somebody else's tokens under a cookie of their own."""
    victim, thief = await desk.sign_in(), await desk.sign_in()
    kept = {name: (await desk.sessions.get(one, touch=False)).kept for name, one in (("v", victim), ("t", thief))}
    await desk.store.renew(kept["t"], kept["v"].sealed)
    assert await over(desk, thief) == "not_found"


async def test_a_ring_without_the_key_ends_sessions(desk: Desk) -> None:
    """They are short: nothing is re-sealed for them."""
    cookie = await desk.sign_in()
    ring = KeyRing([bytes(range(1, 33))])
    other = Sessions(desk.store, desk.provider, desk.provider, ring, desk.clock, limits=LIMITS)
    with pytest.raises(GatewayError, match="over"):
        await other.get(cookie, touch=True)


async def test_sign_ins_and_ends_are_told(desk: Desk) -> None:
    """By a name that opens nothing."""
    cookie = await desk.sign_in()
    kept = (await desk.sessions.get(cookie, touch=False)).kept
    await desk.sessions.end(cookie, HERE)
    events = await desk.audit.chain(EventFilter(organization_id=ACME.removeprefix("organizations/")), 0, 10)
    assert [(one.action, one.resource) for one in events] == [
        ("console_session.create", kept.name),
        ("console_session.end", kept.name),
    ]
    assert all(one.actor == PERSON.name for one in events)
    assert cookie not in str(events)
