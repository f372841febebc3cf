"""A sign-in that has begun, and a session: what is kept of them, and how they are found again."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

FORM_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Login:
    """A sign-in at the identity provider that was begun here and not answered yet. `next_path` is below our own root.

    `fresh` asks that people prove anew who they are.
    """

    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)
    next_path: str
    issuer: str
    redirect_uri: str
    fresh: bool
    create_time: datetime


class Tokens(msgspec.Struct, frozen=True):
    """What a session calls with, in seconds since the epoch. `refresh_token` and `id_token` are empty where none is.

    `link` holds the claims of a sign-in link, for the sessions that one opened; None for all others.
    """

    access_token: str
    expires_at: float
    refresh_token: str = ""
    id_token: str = ""
    link: dict[str, str] | None = None

    def __repr__(self) -> str:
        """Say nothing of them."""
        return "Tokens(…)"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in brought: the tokens, and when the person proved who they are."""

    tokens: Tokens
    sign_in_time: datetime


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session lasts without use, and at all."""

    idle: timedelta
    absolute: timedelta


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session as kept. `digest` is of the cookie, `sealed` holds the tokens, `version` counts their renewals.

    `renew_time` is until when somebody renews them: others wait.
    """

    digest: bytes
    id: str
    person: str
    organization_id: str
    sealed: str = field(repr=False)
    create_time: datetime
    sign_in_time: datetime
    idle_expire_time: datetime
    expire_time: datetime
    version: int = 1
    renew_time: datetime | None = None

    @property
    def name(self) -> str:
        """The resource name, which opens nothing."""
        return f"sessions/{self.id}"

    def lasts(self, now: datetime) -> bool:
        """Tell whether the session has not ended by itself."""
        return now < self.idle_expire_time and now < self.expire_time


class SignInSource(Protocol):
    """Who proves people to be who they are, for the console."""

    async def authorization_url(self, login: Login, state: str) -> str:
        """Return where to send a person. Raises failed_precondition, identity_provider_unavailable."""

    async def redeem(self, login: Login, code: str, issuer: str) -> SignedIn:
        """Return what a code is good for. Raises invalid_id_token, identity_provider_unavailable."""

    def follow(self, link: str) -> tuple[SignedIn, str, datetime]:
        """Return what a sign-in link is good for, its id, and when it ends. Raises invalid_id_token."""

    async def renew(self, tokens: Tokens, sign_in_time: datetime) -> Tokens | None:
        """Return tokens in place of some that end, or None where the session is over.

        Raises identity_provider_unavailable.
        """

    async def end_url(self, tokens: Tokens) -> str:
        """Return where the identity provider ends its own session; empty: nowhere."""

    def new_login(self, next_path: str, redirect_uri: str, *, fresh: bool, now: datetime) -> Login:
        """Return a sign-in that begins. Raises failed_precondition."""


def new_secret() -> str:
    """Return 43 characters that hold 256 random bits: a state, a nonce, a PKCE verifier or a cookie."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """Return the digest by which a secret of 256 random bits is kept: nobody finds those by trying."""
    return hashlib.sha256(secret.encode()).digest()


def form_key_of(cookie: str) -> bytes:
    """Return the key under which forms of a session are signed; known to who has the cookie, and to nobody else."""
    return hashlib.blake2b(cookie.encode(), digest_size=FORM_KEY_BYTES, person=b"console forms").digest()
