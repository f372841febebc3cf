"""Sessions: opened by who has signed in, looked at with every use, and over at once when their person may come no more.

A cookie is 256 random bits, of which a digest is kept. The tokens lie beside it sealed, bound to that digest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, PLATFORM, EventDraft, Origin, event
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.names import tenant_of
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.sealing import KeyRing, UnsealError
from tokendance_server.domain.sessions.session import (
    KeptSession,
    Login,
    SessionLimits,
    SignedIn,
    SignInSource,
    Tokens,
    digest_of,
    new_secret,
)
from tokendance_server.domain.sessions.store import SessionStore

MOST_LOGINS = 10_000
"""How many sign-ins may be open at a time: beginning one needs no credential."""

_MARGIN = timedelta(seconds=60)
# Written at most so often: a page is many uses.
_TOUCH_EVERY = timedelta(seconds=30)
_RENEWAL = timedelta(seconds=15)
_RENEWAL_LOOK_S = 0.1
_OVER = frozenset({errors_pb2.ERROR_REASON_PERMISSION_DENIED, errors_pb2.ERROR_REASON_INVALID_ID_TOKEN})
_encode = msgspec.json.Encoder().encode
_tokens = msgspec.json.Decoder(Tokens)
_logins = msgspec.json.Decoder(Login)


class TokenCheck(Protocol):
    """Tells who bears an access token."""

    async def identify(self, token: str) -> Principal:
        """Return the caller. Raises invalid_id_token, identity_provider_unavailable and permission_denied."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session in use: what is kept of it, who it is of, and the access token to call with."""

    kept: KeptSession
    person: Principal
    access_token: str


class Sessions:
    """Begins sign-ins, and keeps the sessions that come of them."""

    def __init__(
        self,
        store: SessionStore,
        source: SignInSource,
        check: TokenCheck,
        ring: KeyRing,
        clock: Clock,
        *,
        limits: SessionLimits,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._source = source
        self._check = check
        self._ring = ring
        self._clock = clock
        self._limits = limits
        self._sleep = sleep

    async def begin(self, next_path: str, redirect_uri: str, lifetime: timedelta, *, fresh: bool) -> tuple[str, str]:
        """Return the state of a new sign-in, and where to send the person.

        Raises failed_precondition, identity_provider_unavailable, gateway_overloaded.
        """
        now = self._clock.now()
        login = self._source.new_login(next_path, redirect_uri, fresh=fresh, now=now)
        state = new_secret()
        url = await self._source.authorization_url(login, state)
        digest = digest_of(state)
        sealed = self._ring.seal(_encode(asdict(login)).decode(), _login_place(digest))
        if not await self._store.add_login(digest, sealed, now, now + lifetime, MOST_LOGINS):
            raise GatewayError(
                errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED,
                "Too many sign-ins have been begun and not finished; try again in some minutes.",
                retry_after_s=60,
            )
        return state, url

    async def take(self, state: str) -> Login:
        """Return a sign-in and forget it. Raises not_found."""
        digest = digest_of(state)
        sealed = await self._store.take_login(digest, self._clock.now())
        if sealed is None:
            raise _no_login()
        try:
            return _logins.decode(self._ring.open(sealed, _login_place(digest)))
        except UnsealError:
            raise _no_login() from None

    async def open_by_code(
        self, login: Login, code: str, issuer: str, *, previous: str, origin: Origin
    ) -> tuple[KeptSession, Principal, str]:
        """Return a new session, its person and its cookie. Raises as SignInSource.redeem and TokenCheck.identify."""
        signed_in = await self._source.redeem(login, code, issuer)
        return await self._open(signed_in, previous, origin)

    async def open_by_link(self, link: str, *, previous: str, origin: Origin) -> tuple[KeptSession, Principal, str]:
        """Return a new session, its person and its cookie, for a link that nobody has used.

        Raises invalid_id_token and permission_denied.
        """
        signed_in, link_id, expire_time = self._source.follow(link)
        # Kept beside the sign-ins until it ends by itself: that it is there already is its having been used.
        now = self._clock.now()
        if not await self._store.add_login(digest_of(f"link {link_id}"), "", now, expire_time, MOST_LOGINS):
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_ID_TOKEN,
                "This sign-in link was used already; print a new one with `tokendance console`.",
                origin="caller",
            )
        return await self._open(signed_in, previous, origin)

    async def get(self, cookie: str, *, touch: bool) -> OpenSession:
        """Return the session of a cookie; `touch` lets it last on. Raises not_found, identity_provider_unavailable."""
        now = self._clock.now()
        kept = await self._store.get(digest_of(cookie))
        if kept is None:
            raise _no_session()
        if not kept.lasts(now):
            await self._end(kept, "It ended by itself.")
            raise _no_session()
        tokens = await self._current(kept, now)
        if tokens is None:
            await self._end(kept, "The identity provider renews it no more.")
            raise _no_session()
        try:
            person = await self._check.identify(tokens.access_token)
        except GatewayError as error:
            if error.reason not in _OVER:
                raise
            await self._end(kept, error.message)
            raise _no_session() from error
        idle_until = min(now + self._limits.idle, kept.expire_time)
        if touch and idle_until - kept.idle_expire_time >= _TOUCH_EVERY:
            await self._store.touch(kept.digest, idle_until)
            kept = replace(kept, idle_expire_time=idle_until)
        return OpenSession(kept, replace(person, sign_in_time=kept.sign_in_time), tokens.access_token)

    async def end(self, cookie: str, origin: Origin) -> str:
        """End a session, if there is one; return where the identity provider ends its own, or an empty text."""
        kept = await self._store.get(digest_of(cookie))
        if kept is None:
            return ""
        await self._store.end(kept.digest, self._ended(kept, origin, ""))
        try:
            return await self._source.end_url(self._unseal(kept))
        except UnsealError:
            return ""

    async def _open(self, signed_in: SignedIn, previous: str, origin: Origin) -> tuple[KeptSession, Principal, str]:
        person = await self._check.identify(signed_in.tokens.access_token)
        now, cookie = self._clock.now(), new_secret()
        digest = digest_of(cookie)
        expire_time = now + self._limits.absolute
        kept = KeptSession(
            digest=digest,
            id=new_id("ses"),
            person=person.name,
            organization_id=tenant_of(person.organization),
            sealed=self._seal(signed_in.tokens, digest),
            create_time=now,
            sign_in_time=min(signed_in.sign_in_time, now),
            idle_expire_time=min(now + self._limits.idle, expire_time),
            expire_time=expire_time,
        )
        told = event(
            person,
            origin,
            organization_id=kept.organization_id or PLATFORM,
            time=now,
            action="console_session.create",
            resource=kept.name,
        )
        await self._store.add(kept, told)
        if previous:
            await self._replace(previous, origin)
        return kept, replace(person, sign_in_time=kept.sign_in_time), cookie

    async def _replace(self, previous: str, origin: Origin) -> None:
        old = await self._store.get(digest_of(previous))
        if old is not None:
            await self._store.end(old.digest, self._ended(old, origin, "A fresh sign-in took its place."))

    async def _current(self, kept: KeptSession, now: datetime) -> Tokens | None:
        """Return tokens that are good for a while, renewed by one caller at a time; None: the session is over."""
        for _ in range(int(_RENEWAL.total_seconds() / _RENEWAL_LOOK_S)):
            try:
                tokens = self._unseal(kept)
            except UnsealError:
                return None
            left_s = tokens.expires_at - now.timestamp()
            if left_s > _MARGIN.total_seconds():
                return tokens
            if await self._store.claim(kept, now + _RENEWAL, now):
                return await self._renewed(kept, tokens, left_s)
            if left_s > 1:
                # Somebody else renews them; these are still good.
                return tokens
            await self._sleep(_RENEWAL_LOOK_S)
            again = await self._store.get(kept.digest)
            if again is None:
                return None
            kept, now = again, self._clock.now()
        raise GatewayError(
            errors_pb2.ERROR_REASON_IDENTITY_PROVIDER_UNAVAILABLE,
            "The identity provider does not answer, so the session cannot be renewed; try again in a minute.",
            retry_after_s=60,
        )

    async def _renewed(self, kept: KeptSession, tokens: Tokens, left_s: float) -> Tokens | None:
        try:
            renewed = await self._source.renew(tokens, kept.sign_in_time)
        except GatewayError:
            if left_s > 1:
                return tokens
            raise
        if renewed is None:
            return tokens if left_s > 1 else None
        await self._store.renew(kept, self._seal(renewed, kept.digest))
        return renewed

    async def _end(self, kept: KeptSession, why: str) -> None:
        await self._store.end(kept.digest, self._ended(kept, AUTOMATIC, why))

    def _ended(self, kept: KeptSession, origin: Origin, why: str) -> EventDraft:
        person = Principal(kinds=frozenset(), name=kept.person)
        return event(
            person,
            origin,
            organization_id=kept.organization_id or PLATFORM,
            time=self._clock.now(),
            action="console_session.end",
            resource=kept.name,
            reason=why,
        )

    def _seal(self, tokens: Tokens, digest: bytes) -> str:
        return self._ring.seal(_encode(tokens).decode(), _session_place(digest))

    def _unseal(self, kept: KeptSession) -> Tokens:
        return _tokens.decode(self._ring.open(kept.sealed, _session_place(kept.digest)))


def _login_place(digest: bytes) -> str:
    return f"console login {digest.hex()}"


def _session_place(digest: bytes) -> str:
    return f"console session {digest.hex()}"


def _no_login() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        "This sign-in is not known, was answered already, or took too long; begin it anew.",
        origin="caller",
    )


def _no_session() -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_NOT_FOUND, "The session is over; sign in again.", origin="caller")
