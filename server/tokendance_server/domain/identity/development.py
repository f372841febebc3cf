"""The development issuer: signs short-lived tokens with a key in the data directory, for nodes on loopback only.

Whoever can read the key may be anybody, just as with the administration socket beside it. So the key is private to the
owner of the directory, and a node takes its tokens only where it has no other issuer.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from datetime import datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from tokendance_server.domain.clock import Clock
from tokendance_server.domain.identity.roles import KINDS, Claims, Grant, Role, principal_of, session_times
from tokendance_server.domain.identity.signing_keys import PublicKey
from tokendance_server.domain.identity.tokens import AccessTokens, Expected, refused
from tokendance_server.domain.principals import Principal

ISSUER = "urn:tokendance:development"
AUDIENCE = "urn:tokendance:gateway"
LIFETIME_S = 900
"""How long a token of this issuer is good."""
KEY_FILE = "identity.pem"

_ALGORITHM = "ES256"
_SUBJECT = re.compile(r"[!-~]{1,200}")


def new_key() -> bytes:
    """Return a new signing key in PEM."""
    return ECKey.generate_key("P-256").as_pem(private=True)


class DevelopmentKey:
    """The signing key of one data directory. Raises ValueError where the PEM is none."""

    generation = 0

    def __init__(self, pem: bytes) -> None:
        try:
            self._key = ECKey.import_key(pem)
        except (JoseError, ValueError, TypeError) as exc:
            raise ValueError("it holds no signing key") from exc
        if not self._key.is_private or self._key.curve_name != "P-256":
            raise ValueError("it holds no private key of the curve P-256")
        self._public = ECKey.import_key(self._key.as_dict(private=False))
        self._kid = self._key.thumbprint()

    async def find(self, kid: str) -> PublicKey | None:
        """Return the public half, where the id is its own."""
        return self._public if kid == self._kid else None

    def sign(self, grant: Grant, now: datetime, *, member: str = "", subject: str = "developer") -> str:
        """Return a token that is good for 15 minutes. Raises ValueError for a subject with odd characters."""
        if _SUBJECT.fullmatch(subject) is None:
            raise ValueError("a subject has 1 to 200 printable characters without spaces")
        issued = int(now.timestamp())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "client_id": "tokendance-cli",
            "jti": secrets.token_urlsafe(12),
            "iat": issued,
            "exp": issued + LIFETIME_S,
            "role": grant.role,
        }
        claims |= {"organization": grant.organization} if grant.organization else {}
        claims |= {"member": member} if member else {}
        header = {"alg": _ALGORITHM, "typ": "at+jwt", "kid": self._kid}
        return jwt.encode(header, claims, self._key, algorithms=[_ALGORITHM])


def development_tokens(key: DevelopmentKey, clock: Clock) -> AccessTokens[Principal]:
    """Return what checks tokens of this issuer, to the second: it runs on the clock of the node itself."""
    return AccessTokens(Expected(ISSUER, AUDIENCE, {_ALGORITHM}, 0), key, _bearer, clock)


def _bearer(claims: Claims) -> Principal:
    role, organization, member = (claims.get(name, "") for name in ("role", "organization", "member"))
    if not all(isinstance(one, str) for one in (role, organization, member)) or role not in KINDS:
        raise refused("The token names no role; make one with `tokendance id token`.")
    known: Role = role
    try:
        grant = Grant(known, organization)
    except ValueError as exc:
        raise refused("The token's role and organization do not go together.") from exc
    signed_in, ends = session_times(claims)
    return replace(principal_of(claims["sub"], [grant], member), sign_in_time=signed_in, expire_time=ends)
