"""Sign-ins without an identity provider: links that the node's owner prints, each for one session."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.development import LIFETIME_S, DevelopmentKey
from tokendance_server.domain.identity.roles import KINDS, Grant
from tokendance_server.domain.identity.tokens import refused
from tokendance_server.domain.sessions.session import Login, SignedIn, Tokens


class DevelopmentSignIn:
    """Follows links of the development issuer. Satisfies SignInSource."""

    def __init__(self, key: DevelopmentKey, clock: Clock) -> None:
        self._key = key
        self._clock = clock

    def new_login(self, next_path: str, redirect_uri: str, *, fresh: bool, now: datetime) -> Login:
        """Refuse: there is nowhere to send anybody."""
        raise no_provider()

    async def authorization_url(self, login: Login, state: str) -> str:
        """Refuse: there is nowhere to send anybody."""
        raise no_provider()

    async def redeem(self, login: Login, code: str, issuer: str) -> SignedIn:
        """Refuse: nobody was sent anywhere."""
        raise no_provider()

    def follow(self, link: str) -> tuple[SignedIn, str, datetime]:
        """Return what a sign-in link is good for, its id, and when it ends. Raises invalid_id_token."""
        now = self._clock.now()
        said = self._key.follow(link, now)
        claims = {
            "role": said.role,
            "organization": said.organization,
            "member": said.member,
            "subject": said.subject,
        }
        return SignedIn(self._sign(claims, now), now), said.id, said.expire_time

    async def renew(self, tokens: Tokens, sign_in_time: datetime) -> Tokens | None:
        """Return a new token for the bearer of the link."""
        return None if tokens.link is None else self._sign(tokens.link, sign_in_time)

    async def end_url(self, tokens: Tokens) -> str:
        """Return nothing: no session is kept elsewhere."""
        return ""

    def _sign(self, claims: dict[str, str], sign_in_time: datetime) -> Tokens:
        role: Any = claims.get("role", "")
        if role not in KINDS:
            raise refused("The sign-in link names no role.")
        now = self._clock.now()
        try:
            token = self._key.sign(
                Grant(role, claims["organization"]),
                now,
                member=claims["member"],
                subject=claims["subject"],
                sign_in_time=sign_in_time,
            )
        except (ValueError, KeyError) as exc:
            raise refused("The role and organization of the sign-in link do not go together.") from exc
        return Tokens(token, now.timestamp() + LIFETIME_S, link=claims)


class NoSignIn:
    """For nodes on which nobody signs in. Satisfies SignInSource."""

    def new_login(self, next_path: str, redirect_uri: str, *, fresh: bool, now: datetime) -> Login:
        """Refuse."""
        raise _nobody()

    async def authorization_url(self, login: Login, state: str) -> str:
        """Refuse."""
        raise _nobody()

    async def redeem(self, login: Login, code: str, issuer: str) -> SignedIn:
        """Refuse."""
        raise _nobody()

    def follow(self, link: str) -> tuple[SignedIn, str, datetime]:
        """Refuse."""
        raise _nobody()

    async def renew(self, tokens: Tokens, sign_in_time: datetime) -> Tokens | None:
        """Let every session end."""
        return None

    async def end_url(self, tokens: Tokens) -> str:
        """Return nothing."""
        return ""


def no_provider() -> GatewayError:
    """Return what somebody is told who would sign in at a provider that there is not."""
    return GatewayError(
        errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
        "This node has no identity provider: its owner prints a sign-in link with `tokendance console`.",
    )


def _nobody() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_FAILED_PRECONDITION,
        "Nobody signs in on this node: set an identity provider in [server.identity].",
    )
