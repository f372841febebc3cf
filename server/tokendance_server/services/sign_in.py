"""Whoever comes with something else than an API key: signed in where people may be, and told what to send elsewhere.

All but a token of the right issuer at the right place is refused by its form alone, before anything is looked up.
"""

from __future__ import annotations

from typing import Protocol

from tokendance.credentials import CredentialKind, misplaced, recognise
from tokendance.errors import GatewayError
from tokendance.forwarding import is_forwarded
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.identity.roles import PEOPLE
from tokendance_server.domain.identity.tokens import refused, unverified
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import ANYONE, Rule
from tokendance_server.services.call import Call, Trust


class Tokens(Protocol):
    """Tells who bears an access token."""

    async def identify(self, token: str) -> Principal:
        """Return the caller. Raises invalid_id_token, identity_provider_unavailable and permission_denied."""


class SignIn:
    """Signs callers in by access tokens of `tokens`; without any, nobody is.

    `direct_only` refuses tokens that came through a proxy. Sessions of the hub are known by `hub_prefixes` and
    `hub_issuer` besides their usual form.
    """

    def __init__(
        self,
        tokens: Tokens | None = None,
        *,
        direct_only: bool = False,
        hub_prefixes: tuple[str, ...] = (),
        hub_issuer: str = "",
    ) -> None:
        self._tokens = tokens
        self._direct_only = direct_only
        self._hub_prefixes = hub_prefixes
        self._hub_issuer = hub_issuer

    async def identify(self, rule: Rule, call: Call, credential: str) -> Principal:
        """Return who bears a credential that is no API key.

        Raises the error that says what was sent and what this call needs, and those of `Tokens.identify`.
        """
        kind = self._recognise(credential)
        wanted = admits_people(rule, call)
        if kind is not CredentialKind.ID_TOKEN or not wanted:
            raise misplaced(credential, kind, people=wanted)
        if self._tokens is None:
            raise GatewayError(
                errors_pb2.ERROR_REASON_ID_TOKEN_NOT_ACCEPTED,
                "A signed ID token was sent, and this node has no identity provider whose tokens it takes; set one in "
                "[server.identity], or use the node's own socket.",
                origin="caller",
            )
        if self._direct_only and not _is_direct(call):
            raise refused(
                "Tokens of the development issuer are taken from direct callers only, and this call came through a "
                "proxy; set an identity provider in [server.identity]."
            )
        return await self._tokens.identify(credential)

    def _recognise(self, credential: str) -> CredentialKind:
        if self._hub_prefixes and credential.startswith(self._hub_prefixes):
            return CredentialKind.HUB_SESSION
        kind = recognise(credential)
        if kind is CredentialKind.ID_TOKEN and self._hub_issuer and _issuer_of(credential) == self._hub_issuer:
            return CredentialKind.HUB_SESSION
        return kind


NOBODY_SIGNS_IN = SignIn()
"""Of a node without an identity provider."""


def admits_people(rule: Rule, call: Call) -> bool:
    """Tell whether a call is one for people, and came where they may sign in: never over a public listener."""
    if call.trust is Trust.PUBLIC or (call.trust is Trust.FACADE and call.surface != errors_pb2.SURFACE_ADMIN):
        return False
    return bool(rule.allow & PEOPLE) or ANYONE in rule.allow


def _is_direct(call: Call) -> bool:
    if call.trust is Trust.FACADE:
        return call.caller is not None and call.caller.direct
    return not is_forwarded(key for key, _ in call.invocation_metadata() or ())


def _issuer_of(token: str) -> object:
    """Return what a token says of its issuer, where it can be read; nothing is believed by it but a better refusal."""
    try:
        return unverified(token)[1].get("iss")
    except GatewayError:
        return None
