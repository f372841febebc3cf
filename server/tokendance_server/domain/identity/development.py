"""The development issuer: signs short-lived tokens with a key in the data directory, for nodes on loopback only.

Whoever can read the key may be anybody, just as with the administration socket beside it. So the key is private to the
owner of the directory, and a node takes its tokens only where it has no other issuer.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
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
LINK_LIFETIME_S = 300
"""How long a sign-in link is good, unless it is used before."""

_ALGORITHM = "ES256"
# Apart from what tokens sign: those hold no such beginning.
_LINK = b"tokendance sign-in link 1|"
_SIGNING = ECDSA(SHA256())
_SUBJECT = re.compile(r"[!-~]{1,200}")


def new_key() -> bytes:
    """Return a new signing key in PEM."""
    return ECKey.generate_key("P-256").as_pem(private=True)


@dataclass(frozen=True, slots=True)
class Link:
    """What a sign-in link says of its bearer, its own id, and when it ends."""

    role: str
    organization: str
    member: str
    subject: str
    id: str
    expire_time: datetime


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
        private = load_pem_private_key(pem, password=None)
        assert isinstance(private, EllipticCurvePrivateKey)
        self._private = private

    async def find(self, kid: str) -> PublicKey | None:
        """Return the public half, where the id is its own."""
        return self._public if kid == self._kid else None

    def sign(
        self,
        grant: Grant,
        now: datetime,
        *,
        member: str = "",
        subject: str = "developer",
        sign_in_time: datetime | None = None,
    ) -> str:
        """Return a token that is good for 15 minutes. Raises ValueError for a subject with odd characters.

        `sign_in_time` is when its bearer proved who they are, None: now.
        """
        claims = _claims(grant, member, subject)
        claims |= {"aud": AUDIENCE, "client_id": "tokendance-cli", **_times(now, LIFETIME_S)}
        if sign_in_time is not None:
            claims["auth_time"] = int(sign_in_time.timestamp())
        return self._encode("at+jwt", claims)

    def sign_link(self, grant: Grant, now: datetime, *, member: str = "", subject: str = "developer") -> str:
        """Return the token of a link that opens one session in the console, and is good for five minutes.

        Raises ValueError for a subject with odd characters.
        """
        if _SUBJECT.fullmatch(subject) is None:
            raise ValueError("a subject has 1 to 200 printable characters without spaces")
        ends = int(now.timestamp()) + LINK_LIFETIME_S
        parts = (grant.role, grant.organization, member, subject, secrets.token_urlsafe(12), str(ends))
        text = _LINK + "|".join(map(quote, parts)).encode()
        signature = self._private.sign(text, _SIGNING)
        return f"{_b64(text.removeprefix(_LINK))}.{_b64(signature)}"

    def follow(self, link: str, now: datetime) -> Link:
        """Return what a link's token says. Raises invalid_id_token for one that is over, or none of ours."""
        try:
            text, signature = (_unb64(part) for part in link.split("."))
            self._private.public_key().verify(signature, _LINK + text, _SIGNING)
        except (ValueError, InvalidSignature) as exc:
            raise refused("This is no sign-in link of this node; print one with `tokendance console`.") from exc
        role, organization, member, subject, link_id, ends = map(unquote, text.decode().split("|"))
        if now.timestamp() >= float(ends):
            raise refused("This sign-in link is over: it is good for five minutes; print a new one.")
        return Link(role, organization, member, subject, link_id, datetime.fromtimestamp(float(ends), UTC))

    def _encode(self, kind: str, claims: dict[str, Any]) -> str:
        header = {"alg": _ALGORITHM, "typ": kind, "kid": self._kid}
        return jwt.encode(header, claims, self._key, algorithms=[_ALGORITHM])


def _claims(grant: Grant, member: str, subject: str) -> dict[str, Any]:
    if _SUBJECT.fullmatch(subject) is None:
        raise ValueError("a subject has 1 to 200 printable characters without spaces")
    claims = {"iss": ISSUER, "sub": subject, "jti": secrets.token_urlsafe(12), "role": grant.role}
    claims |= {"organization": grant.organization} if grant.organization else {}
    return claims | ({"member": member} if member else {})


def _times(now: datetime, lifetime_s: int) -> dict[str, int]:
    issued = int(now.timestamp())
    return {"iat": issued, "exp": issued + lifetime_s}


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


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
