"""ID tokens: what is taken from an identity provider at the end of a sign-in, and every sign that it is another's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.server.domain.identity.issuer import ISSUER, NOW, Issuer

from tokendance.errors import GatewayError
from tokendance_server.domain.identity.id_tokens import IdTokens
from tokendance_server.domain.identity.tokens import Expected

CLIENT = "tokendance-console"


@pytest.fixture
def issuer() -> Issuer:
    """An identity provider of its own."""
    return Issuer()


def checker(issuer: Issuer) -> IdTokens:
    """Return what checks ID tokens for the console."""
    return IdTokens(Expected(ISSUER, CLIENT, {"RS256"}, 30), issuer.signing_keys, issuer.clock)


def token(issuer: Issuer, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a good ID token, changed; None takes a claim away."""
    claims = {"aud": CLIENT, "nonce": "n", "client_id": None, "groups": None} | changes
    return issuer.token({"typ": "JWT"} | (header or {}), **claims)


async def test_a_good_token_says_who_signed_in_and_when(issuer: Issuer) -> None:
    """When the person proved it, or else when the token was issued."""
    proof = await checker(issuer).check(token(issuer, auth_time=NOW.timestamp() - 60), "n")
    assert (proof.subject, proof.sign_in_time) == ("ada", NOW - timedelta(seconds=60))
    proof = await checker(issuer).check(token(issuer), "n")
    assert proof.sign_in_time == NOW


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "other"},
        {"nonce": None},
        {"nonce": 5},
        {"iss": "https://other.example.com"},
        {"aud": "another-program"},
        {"aud": [CLIENT, "another-program"]},
        {"aud": None},
        {"azp": "another-program"},
        {"sub": None},
        {"sub": ""},
        {"exp": NOW.timestamp() - 31},
        {"iat": NOW.timestamp() + 31},
        {"iat": None},
        {"exp": "tomorrow"},
        {"auth_time": "yesterday"},
        {"header": {"alg": "none"}},
        {"header": {"kid": "unknown"}},
        {"header": {"kid": None}},
        {"header": {"jku": "https://evil.example.com/jwks"}},
    ],
    ids=str,
)
async def test_another_token_is_refused(issuer: Issuer, changes: dict[str, Any]) -> None:
    """Of another sign-in, issuer, program, person or time, or signed otherwise."""
    header = changes.pop("header", {})
    if header.get("alg") == "none":
        whole = token(issuer).split(".")
        bad = ".".join(["eyJhbGciOiJub25lIiwia2lkIjoicnNhLTEifQ", whole[1], ""])
    else:
        bad = token(issuer, header, **changes)
    with pytest.raises(GatewayError) as caught:
        await checker(issuer).check(bad, "n")
    assert caught.value.code == "invalid_id_token"
    assert bad not in caught.value.message


async def test_several_audiences_need_the_one_that_asked(issuer: Issuer) -> None:
    """OpenID Connect Core, 3.1.3.7."""
    both = [CLIENT, "another-program"]
    assert (await checker(issuer).check(token(issuer, aud=both, azp=CLIENT), "n")).subject == "ada"


async def test_a_fresh_sign_in_is_one_after_it_was_asked_for(issuer: Issuer) -> None:
    """A provider that goes by an older session of its own is not believed."""
    asked = NOW
    good = token(issuer, auth_time=NOW.timestamp())
    assert (await checker(issuer).check(good, "n", proved_after=asked)).sign_in_time == NOW
    for bad in (token(issuer, auth_time=NOW.timestamp() - 31), token(issuer)):
        with pytest.raises(GatewayError, match=r"fresh|anew"):
            await checker(issuer).check(bad, "n", proved_after=asked)
