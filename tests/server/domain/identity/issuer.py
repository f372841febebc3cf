"""An identity provider in memory: signs whatever it is told, publishes its keys, and counts who reads them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.identity.roles import Grant, RoleMap
from tokendance_server.domain.identity.signing_keys import SigningKeys
from tokendance_server.domain.identity.tokens import AccessTokens, Expected
from tokendance_server.domain.principals import Principal

ISSUER, AUDIENCE = "https://id.example.com", "https://gateway.example.com"
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ACME, OTHER = (f"organizations/org_{letter * 26}" for letter in "ab")
RSA = RSAKey.generate_key(2048)
GROUPS = {
    "admins": [Grant("platform_admin")],
    "acme-leads": [Grant("organization_admin", ACME)],
    "acme": [Grant("member", ACME)],
    "other": [Grant("member", OTHER)],
    "auditors": [Grant("auditor")],
}
SUBJECTS = {"ci": [Grant("service", ACME)]}


class Issuer:
    """Has one RSA key, `rsa-1`, more by `add`; `down` makes its document unreadable."""

    def __init__(self) -> None:
        self.keys: dict[str, RSAKey | ECKey] = {"rsa-1": RSA}
        self.reads = 0
        self.down: Exception | None = None
        self.reports: list[Exception | None] = []
        self.clock = ManualClock(NOW)
        self.signing_keys = SigningKeys(self.document, self.clock, self.reports.append)

    def checker(self, *, clients: frozenset[str] = frozenset(), leeway_s: float = 30) -> AccessTokens[Principal]:
        """Return what checks tokens of this issuer."""
        expected = Expected(ISSUER, AUDIENCE, frozenset({"RS256", "ES256"}), leeway_s, clients)
        return AccessTokens(expected, self.signing_keys, RoleMap("groups", GROUPS, SUBJECTS).principal, self.clock)

    async def document(self) -> bytes:
        """Return the JWKS."""
        self.reads += 1
        if self.down is not None:
            raise self.down
        keys = [key.as_dict(private=False) | {"kid": kid, "use": "sig"} for kid, key in self.keys.items()]
        return json.dumps({"keys": keys}).encode()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return good claims of a platform administrator, changed; None takes one away."""
        now = int(self.clock.now().timestamp())
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "client_id": "cli", "jti": "1",
            "iat": now, "exp": now + 300, "groups": ["admins"],
        }  # fmt: skip
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """Return a token, signed with `rsa-1` or what the header names."""
        merged = {"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1"} | (header or {})
        merged = {name: value for name, value in merged.items() if value is not None}
        key = self.keys.get(merged.get("kid", ""), RSA)
        return jwt.encode(merged, self.claims(**changes), key, algorithms=[merged["alg"]], default_type=None)


def raw_token(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """Return a token that no library would make."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
