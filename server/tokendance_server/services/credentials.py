"""From the metadata of a call to the caller: the credential is read, recognised, and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tokendance.credentials import stray_in_cookies
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import NOBODY
from tokendance_server.services.call import Call, Metadata, Trust

LOCAL_OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
"""Whoever can open the node's administration socket: the owner of its data directory."""
FACADE = Principal(kinds=frozenset({access_pb2.CALLER_KIND_FACADE}), name="facade")
"""The gateway's own facade, for the RPCs that are its own."""

_BEARER = "bearer "
# Read by REST only; here they count as a second credential where they differ.
_OTHER_PLACES = ("x-api-key", "api-key")


class KeyVerifier(Protocol):
    """What the interceptor asks of the keys."""

    def verify_cached(self, secret: str) -> Principal | None:
        """Return the caller where the answer is at hand; raises as `verify`."""

    async def verify(self, secret: str) -> Principal:
        """Return the caller. Raises the errors of the authentication family."""


class Streams(Protocol):
    """Knows the streams of each key and member, and ends them when it stops working."""

    def enter(self, principal: Principal, end: Callable[[GatewayError], None]) -> None:
        """Take note of a stream and of what ends it."""

    def leave(self, principal: Principal, end: Callable[[GatewayError], None]) -> None:
        """Forget a stream."""


def bearer_of(metadata: Metadata) -> str | None:
    """Return the credential of the call, or None where there is none.

    Raises credentials_conflict for two different ones, invalid_api_key for another scheme than Bearer,
    credential_misplaced for one in a cookie, and missing_api_key for one that only REST would read.
    """
    found: str | None = None
    others: set[str | bytes] = set()
    for key, value in metadata:
        if key != "authorization":
            if key in _OTHER_PLACES:
                others.add(value)
            elif key == "cookie":
                _check_cookies(value)
            continue
        text = value if isinstance(value, str) else ""
        if text[:7].lower() != _BEARER or not text[7:].strip():
            raise GatewayError(
                errors_pb2.ERROR_REASON_INVALID_API_KEY,
                "The authorization must read `Bearer tdk_…`, with a TokenDance API key or an access token.",
                origin="caller",
            )
        credential = text[7:].strip()
        if found is not None and found != credential:
            raise _conflict()
        found = credential
    if others - {found}:
        if found is None:
            raise GatewayError(
                errors_pb2.ERROR_REASON_MISSING_API_KEY,
                "The credential came as x-api-key, which only REST reads; send `authorization: Bearer tdk_…`.",
                origin="caller",
            )
        raise _conflict()
    return found


def _check_cookies(cookies: str | bytes) -> None:
    if isinstance(cookies, str) and stray_in_cookies(cookies):
        raise GatewayError(
            errors_pb2.ERROR_REASON_CREDENTIAL_MISPLACED,
            "The credential came in the cookie; send it as `authorization: Bearer …`, and rotate it.",
            origin="caller",
        )


def _conflict() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_CREDENTIALS_CONFLICT,
        "Two different credentials came with the call; send one.",
        origin="caller",
    )


def principal_without_credential(call: Call, allow: frozenset[access_pb2.CallerKind.ValueType]) -> Principal:
    """Return who a caller is that sent no credential: the operator, the facade for its own RPCs, or nobody."""
    if call.trust is Trust.OPERATOR:
        return LOCAL_OPERATOR
    if call.trust is Trust.FACADE and access_pb2.CALLER_KIND_FACADE in allow:
        return FACADE
    return NOBODY
