"""Access tokens as RFC 9068 has them: every sign of a token meant for somebody else, forged or over is a refusal."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from joserfc import jwt
from joserfc.errors import JoseError

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.roles import Claims
from tokendance_server.domain.identity.signing_keys import PublicKey
from tokendance_server.domain.keys.cache import TimedCache

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
"""Signatures that configuration may allow: whoever checks one cannot make one."""
MAX_TOKEN = 8192
"""Characters of the largest token that is looked at."""

Who = TypeVar("Who")

_TYPES = frozenset({"at+jwt", "application/at+jwt"})
# Each would let the token say where its own key is.
_FORBIDDEN_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit")
_MOST_KID = 256
_MOST_SUBJECT = 255
_CACHE_SIZE = 10_000
_CACHE_S = 60.0


class KeySource(Protocol):
    """Where public keys come from. `generation` changes when keys may have been withdrawn."""

    @property
    def generation(self) -> int:
        """Count of the readings so far."""

    async def find(self, kid: str) -> PublicKey | None:
        """Return the key of an id, or None. Raises identity_provider_unavailable."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say. `clients` are those whose tokens are taken, empty for all; `leeway_s` is 0 to 120."""

    issuer: str
    audience: str
    algorithms: Collection[str]
    leeway_s: float
    clients: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Found(Generic[Who]):
    who: Who
    expires_at: float
    generation: int


class AccessTokens(Generic[Who]):
    """Checks tokens of one issuer; `people` says whom the claims of a good one make. Results are kept for a minute."""

    def __init__(self, expected: Expected, keys: KeySource, people: Callable[[Claims], Who], clock: Clock) -> None:
        self._expected = expected
        self._keys = keys
        self._people = people
        self._clock = clock
        self._found: TimedCache[_Found[Who]] = TimedCache(_CACHE_SIZE, _CACHE_S)

    async def identify(self, token: str) -> Who:
        """Return who bears a token. Raises invalid_id_token, identity_provider_unavailable, and what `people` does."""
        if len(token) > MAX_TOKEN:
            raise refused(f"The token has more than {MAX_TOKEN} characters; ask for one with fewer groups in it.")
        asked = self._clock.monotonic()
        # The whole of it: two tokens that begin, or sign, the same are two tokens.
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._found.get(digest, asked)
        if found is not None and found.generation == self._keys.generation:
            if self._now() >= found.expires_at:
                raise _expired(found.expires_at - self._expected.leeway_s)
            return found.who
        claims = await self._check(token)
        who = self._people(claims)
        expires_at = float(claims["exp"]) + self._expected.leeway_s
        self._found.put(digest, _Found(who, expires_at, self._keys.generation), asked)
        return who

    async def _check(self, token: str) -> Claims:
        header, claims = unverified(token)
        self._check_header(header)
        # Before the signature: a token of somebody else's must not make us ask for keys.
        self._check_parties(claims)
        key = await self._keys.find(header["kid"])
        if key is None:
            raise refused("The token is signed with a key that its issuer does not have; sign in again.")
        try:
            claims = jwt.decode(token, key, algorithms=[header["alg"]]).claims
        except (JoseError, ValueError, TypeError) as exc:
            raise refused("The signature of the token does not hold; sign in again.") from exc
        self._check_parties(claims)
        self._check_times(claims)
        return claims

    def _check_header(self, header: dict[str, Any]) -> None:
        if any(name in header for name in _FORBIDDEN_HEADERS):
            raise refused("The token brings its own key or conditions in its header; no such token is taken.")
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._expected.algorithms:
            raise refused("The token is signed in a way that is not allowed here; see algorithms in [server.identity].")
        kind = header.get("typ")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise refused("The token is no access token (its type is not at+jwt); send the access token instead.")
        kid = header.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= _MOST_KID:
            raise refused("The token does not say which key it is signed with; sign in again.")

    def _check_parties(self, claims: Claims) -> None:
        expected = self._expected
        if claims.get("iss") != expected.issuer:
            raise refused("The token comes from another issuer than the one of this gateway; sign in there.")
        audience = claims.get("aud")
        if audience != expected.audience and not (isinstance(audience, list) and expected.audience in audience):
            raise refused("The token is meant for another service; ask for one with this gateway as its audience.")
        clients = [claims[name] for name in ("client_id", "azp") if name in claims]
        known = all(isinstance(one, str) and one in expected.clients for one in clients)
        if expected.clients and not (clients and known):
            raise refused("The token was given to a program that may not be used here; see clients in its settings.")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_SUBJECT:
            raise refused("The token does not say whom it stands for.")

    def _check_times(self, claims: Claims) -> None:
        now, leeway_s = self._now(), self._expected.leeway_s
        expires, issued = _time(claims, "exp"), _time(claims, "iat")
        if now >= expires + leeway_s:
            raise _expired(expires)
        if issued > now + leeway_s or ("nbf" in claims and _time(claims, "nbf") > now + leeway_s):
            raise refused("The token is not valid yet; compare the clocks of this gateway and of its issuer.")

    def _now(self) -> float:
        return self._clock.now().timestamp()


def unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a token says of itself, header and claims, before anybody has checked it.

    Raises invalid_id_token where it is no signed token.
    """
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii():
        raise refused("The credential is no signed token.")
    return _object(parts[0]), _object(parts[1])


def refused(message: str) -> GatewayError:
    """Return the error for a token that signs nobody in; the message never quotes it."""
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_ID_TOKEN, message, origin="caller")


def _object(part: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as exc:
        raise refused("The token cannot be read; copy it again, whole.") from exc
    if not isinstance(found, dict):
        raise refused("The token cannot be read; copy it again, whole.")
    return found


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value < 1e11):
        raise refused(f"The token has no readable time `{name}`.")
    return float(value)


def _expired(time: float) -> GatewayError:
    when = datetime.fromtimestamp(max(time, 0), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    error = refused(f"The token expired at {when}; sign in again.")
    error.metadata["expire_time"] = when
    return error
