"""The development issuer: what it signs, and what it does not take."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from tests.server.domain.identity.issuer import ACME, NOW

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.identity.development import DevelopmentKey, development_tokens, new_key
from tokendance_server.domain.identity.roles import Grant

PEM = new_key()


async def test_a_token_signs_in_as_it_says() -> None:
    """The member's own name, where one is named."""
    clock = ManualClock(NOW)
    key = DevelopmentKey(PEM)
    token = key.sign(Grant("member", ACME), NOW, member=f"{ACME}/members/user_1")
    principal = await development_tokens(DevelopmentKey(PEM), clock).identify(token)
    assert principal.kinds == {access_pb2.CALLER_KIND_MEMBER}
    assert (principal.name, principal.organization) == (f"{ACME}/members/user_1", ACME)


async def test_a_token_is_good_for_fifteen_minutes() -> None:
    """To the second, whether it was seen before or not."""
    clock = ManualClock(NOW)
    key = DevelopmentKey(PEM)
    checker, token = development_tokens(key, clock), key.sign(Grant("platform_admin"), NOW)
    clock.advance(899)
    await checker.identify(token)
    clock.advance(1)
    for again in (checker, development_tokens(key, clock)):
        with pytest.raises(GatewayError, match=r"expired at 2026-11-25T12:15:00Z"):
            await again.identify(token)


async def test_another_directory_signs_for_itself_only() -> None:
    """Its key is another."""
    token = DevelopmentKey(new_key()).sign(Grant("platform_admin"), NOW)
    with pytest.raises(GatewayError) as caught:
        await development_tokens(DevelopmentKey(PEM), ManualClock(NOW)).identify(token)
    assert caught.value.code == "invalid_id_token"


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "root"},
        {"role": None},
        {"role": ["member"]},
        {"organization": ACME},
        {"organization": 5},
        {"member": 5},
    ],
    ids=repr,
)
async def test_odd_claims_are_refused(changes: dict[str, Any]) -> None:
    """Even with a good signature."""
    key = DevelopmentKey(PEM)
    good = jwt.decode(key.sign(Grant("platform_admin"), NOW), ECKey.import_key(PEM), algorithms=["ES256"])
    token = jwt.encode(good.header, good.claims | changes, ECKey.import_key(PEM), algorithms=["ES256"])
    with pytest.raises(GatewayError) as caught:
        await development_tokens(key, ManualClock(NOW)).identify(token)
    assert caught.value.code == "invalid_id_token"


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"nonsense",
        ECKey.generate_key("P-384").as_pem(private=True),
        ECKey.import_key(PEM).as_pem(private=False),
        RSAKey.generate_key(2048).as_pem(private=True),
    ],
    ids=["empty", "nonsense", "another curve", "public", "RSA"],
)
def test_what_is_no_signing_key_is_told(pem: bytes) -> None:
    """At start, not at the first token."""
    with pytest.raises(ValueError, match="it holds no"):
        DevelopmentKey(pem)


@pytest.mark.parametrize("subject", ["", "a b", "x" * 201, "a\n"])
def test_odd_subjects_are_not_signed(subject: str) -> None:
    """They would stand in logs."""
    with pytest.raises(ValueError, match="subject"):
        DevelopmentKey(PEM).sign(Grant("platform_admin"), NOW, subject=subject)
