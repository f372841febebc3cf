"""ID tokens as OpenID Connect has them: what an identity provider says at the end of a sign-in that was begun here.

They sign nobody in by themselves: the access token beside them does.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from joserfc import jwt
from joserfc.errors import JoseError

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.roles import Claims
from tokendance_server.domain.identity.tokens import MAX_TOKEN, Expected, KeySource, refused, unverified

_FORBIDDEN_HEADERS = ("jku", "jwk", "x5u", "x5c", "crit")
# Later than any sign-in, and early enough for every calendar.
_LATEST = 1e11


@dataclass(frozen=True, slots=True)
class Proof:
    """Who signed in, and when they proved who they are."""

    subject: str
    sign_in_time: datetime


class IdTokens:
    """Checks ID tokens of one issuer for one client. Of `expected` the audience is the client's id."""

    def __init__(self, expected: Expected, keys: KeySource, clock: Clock) -> None:
        self._expected = expected
        self._keys = keys
        self._clock = clock

    async def check(self, token: str, nonce: str, *, proved_after: datetime | None = None) -> Proof:
        """Return who signed in, if the token answers the sign-in of this nonce.

        With `proved_after` they must have proved who they are after that time. Raises invalid_id_token and
        identity_provider_unavailable.
        """
        if len(token) > MAX_TOKEN:
            raise refused(f"The identity token has more than {MAX_TOKEN} characters.")
        header, _ = unverified(token)
        claims = await self._verified(token, header)
        self._check_parties(claims)
        self._check_times(claims)
        said = claims.get("nonce")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
            raise refused("The identity token answers another sign-in than this one; sign in again.")
        time = datetime.fromtimestamp(_time(claims, "auth_time" if "auth_time" in claims else "iat"), UTC)
        if proved_after is not None:
            if "auth_time" not in claims:
                raise refused("The identity provider does not say when the person signed in, so it cannot be fresh.")
            if time + timedelta(seconds=self._expected.leeway_s) < proved_after:
                raise refused("The identity provider did not ask the person anew who they are; sign out there first.")
        return Proof(str(claims["sub"]), time)

    async def _verified(self, token: str, header: Claims) -> Claims:
        algorithm, kid = header.get("alg"), header.get("kid")
        if any(name in header for name in _FORBIDDEN_HEADERS):
            raise refused("The identity token brings its own key or conditions in its header; no such token is taken.")
        if not isinstance(algorithm, str) or algorithm not in self._expected.algorithms or not isinstance(kid, str):
            raise refused("The identity token is signed in a way that is not allowed here.")
        key = await self._keys.find(kid)
        if key is None:
            raise refused("The identity token is signed with a key that its issuer does not have; sign in again.")
        try:
            return jwt.decode(token, key, algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError) as exc:
            raise refused("The signature of the identity token does not hold; sign in again.") from exc

    def _check_parties(self, claims: Claims) -> None:
        client = self._expected.audience
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self._expected.issuer or client not in audiences:
            raise refused("The identity token is another issuer's, or meant for another program.")
        if claims.get("azp", client) != client or (len(audiences) > 1 and "azp" not in claims):
            raise refused("The identity token was given to another program.")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise refused("The identity token does not say whom it stands for.")

    def _check_times(self, claims: Claims) -> None:
        now, leeway_s = self._clock.now().timestamp(), self._expected.leeway_s
        issued, expires = _time(claims, "iat"), _time(claims, "exp")
        if not issued - leeway_s <= now < expires + leeway_s:
            raise refused("The identity token is over or not valid yet; compare the clocks, and sign in again.")


def _time(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LATEST:
        raise refused(f"The identity token has no readable time `{name}`.")
    return float(value)
