"""Access tokens: one that is good, and every way to make one that is not."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey
from tests.server.domain.identity.issuer import AUDIENCE, ISSUER, RSA, Issuer, raw_token

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.identity.tokens import MAX_TOKEN

GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "media type": ({"typ": "application/at+jwt"}, {}),
    "type in capitals": ({"typ": "AT+JWT"}, {}),
    "several audiences": ({}, {"aud": ["https://elsewhere", AUDIENCE]}),
    "expired within the leeway": ({}, {"exp": 1_795_607_999 - 28}),
    "issued a little ahead": ({}, {"iat": 1_795_608_000 + 29}),
    "valid from now on": ({}, {"nbf": 1_795_608_000}),
}


@pytest.mark.parametrize(("header", "claims"), GOOD.values(), ids=GOOD.keys())
async def test_a_good_token_signs_its_bearer_in(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """As what its groups say."""
    issuer = Issuer()
    assert issuer.clock.now().timestamp() == 1_795_608_000
    principal = await issuer.checker().identify(issuer.token(header, **claims))
    assert principal.kinds == {access_pb2.CALLER_KIND_PLATFORM_ADMIN}
    assert principal.name == "identities/ada"


def _stranger(issuer: Issuer) -> str:
    """Signed with another key under the id of a good one."""
    issuer.keys["rsa-1"], mine = RSAKey.generate_key(2048), issuer.keys["rsa-1"]
    token = issuer.token()
    issuer.keys["rsa-1"] = mine
    return token


def _public_key_as_secret(issuer: Issuer) -> str:
    """The classic: HS256 with the public key, which everybody has, as its secret."""
    header = {"alg": "HS256", "typ": "at+jwt", "kid": "rsa-1"}
    unsigned = raw_token(header, issuer.claims())[:-1]
    signature = hmac.digest(RSA.as_pem(private=False), unsigned.encode(), hashlib.sha256)
    return raw_token(header, issuer.claims(), signature)


def _edited(issuer: Issuer) -> str:
    """A good signature under other claims."""
    first, second = issuer.token(), issuer.token(sub="eve")
    return ".".join((first.split(".")[0], second.split(".")[1], first.split(".")[2]))


def _other_key_type(issuer: Issuer) -> str:
    issuer.keys["ec-1"] = ECKey.generate_key("P-256")
    good = issuer.token({"alg": "ES256", "kid": "ec-1"})
    header = {"alg": "RS256", "typ": "at+jwt", "kid": "ec-1"}
    return raw_token(header, issuer.claims(), good.split(".")[2].encode())


def _with(header: dict[str, Any] | None = None, **claims: Any) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.token(header, **claims)


BAD: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda issuer: raw_token({"alg": "none", "typ": "at+jwt", "kid": "rsa-1"}, issuer.claims()),
    "alg None": lambda issuer: raw_token({"alg": "None", "typ": "at+jwt", "kid": "rsa-1"}, issuer.claims()),
    "alg missing": lambda issuer: raw_token({"typ": "at+jwt", "kid": "rsa-1"}, issuer.claims(), b"x"),
    "alg not text": lambda issuer: raw_token(
        {"alg": ["RS256"], "typ": "at+jwt", "kid": "rsa-1"}, issuer.claims(), b"x"
    ),
    "HS256 with the public key": _public_key_as_secret,
    "another algorithm of the same key": _with({"alg": "RS512"}),
    "an algorithm of another type of key": _other_key_type,
    "no signature": lambda issuer: issuer.token().rpartition(".")[0] + ".",
    "foreign signature": _stranger,
    "edited": _edited,
    "typ missing": _with({"typ": None}),
    "typ JWT": _with({"typ": "JWT"}),
    "typ not text": lambda issuer: raw_token({"alg": "RS256", "typ": ["at+jwt"], "kid": "rsa-1"}, issuer.claims()),
    "kid missing": _with({"kid": None}),
    "kid unknown": _with({"kid": "rsa-9"}),
    "kid a path": _with({"kid": "../../../../dev/null"}),
    "kid a URL": _with({"kid": "https://evil.example/jwks"}),
    "kid an injection": _with({"kid": "' OR 1=1 --"}),
    "kid huge": _with({"kid": "k" * 257}),
    "kid not text": lambda issuer: raw_token({"alg": "RS256", "typ": "at+jwt", "kid": 1}, issuer.claims()),
    "jku": _with({"jku": "https://evil.example/jwks"}),
    "x5u": _with({"x5u": "https://evil.example/cert"}),
    "jwk": _with({"jwk": RSA.as_dict(private=False)}),
    "crit": lambda issuer: raw_token(
        {"alg": "RS256", "typ": "at+jwt", "kid": "rsa-1", "crit": ["b64"], "b64": False}, issuer.claims()
    ),
    "foreign issuer": _with(iss="https://evil.example"),
    "issuer with a slash more": _with(iss=ISSUER + "/"),
    "issuer missing": _with(iss=None),
    "foreign audience": _with(aud="https://elsewhere"),
    "audience in part": _with(aud=AUDIENCE + ".evil.example"),
    "foreign audiences": _with(aud=["https://elsewhere", "https://gateway"]),
    "audience missing": _with(aud=None),
    "audience a map": _with(aud={AUDIENCE: 1}),
    "subject missing": _with(sub=None),
    "subject a number": _with(sub=7),
    "subject huge": _with(sub="s" * 256),
    "expired": _with(exp=1_795_608_000 - 30),
    "expiry missing": _with(exp=None),
    "expiry a text": _with(exp="2099-01-01"),
    "expiry true": _with(exp=True),
    "expiry never": lambda issuer: issuer.token(exp=1e300),
    "not yet valid": _with(nbf=1_795_608_000 + 31),
    "nbf a text": _with(nbf="now"),
    "issued in the future": _with(iat=1_795_608_000 + 31),
    "issue time missing": _with(iat=None),
    "too large": _with(groups=["g" * 100] * 100),
    "a megabyte": lambda _: "eyJ" + "a" * 1_000_000 + ".e.s",
    "two parts": lambda issuer: issuer.token().rpartition(".")[0],
    "encrypted": lambda _: "eyJhbGciOiJkaXIifQ.a.b.c.d",
    "no JSON": lambda _: "eyJhbGciOi.eyJhbGciOi.x",
    "a list": lambda _: "W10.W10.x",
    "deep": lambda issuer: raw_token({"alg": "RS256"}, {}).split(".")[0] + "." + "W1tb" * 900 + ".x",
    "no letters of base64": lambda issuer: issuer.token().replace(".", "=.", 1),
    "no ASCII": lambda issuer: issuer.token() + "é",
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
async def test_every_other_token_is_refused(make: Callable[[Issuer], str]) -> None:
    """With one code, a sentence that says why and quotes nothing of it, and at most one reading of the keys."""
    issuer = Issuer()
    token = make(issuer)
    with pytest.raises(GatewayError) as caught:
        await issuer.checker().identify(token)
    assert (caught.value.code, caught.value.origin) == ("invalid_id_token", "caller")
    assert not any(part in caught.value.message for part in token.split(".") if len(part) > 8)
    assert "evil" not in caught.value.message
    assert issuer.reads <= 1


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"client_id": "cli"}, True),
        ({"client_id": None, "azp": "cli"}, True),
        ({"client_id": "evil"}, False),
        ({"client_id": "cli", "azp": "evil"}, False),
        ({"client_id": None}, False),
        ({"client_id": ["cli"]}, False),
    ],
)
async def test_only_named_programs_may_bring_tokens(claims: dict[str, Any], good: bool) -> None:
    """Where programs are named, every one that a token names must be among them."""
    issuer = Issuer()
    checker = issuer.checker(clients=frozenset({"cli"}))
    if good:
        assert (await checker.identify(issuer.token(**claims))).name == "identities/ada"
        return
    with pytest.raises(GatewayError) as caught:
        await checker.identify(issuer.token(**claims))
    assert caught.value.code == "invalid_id_token"


async def test_a_token_that_was_good_ends_in_time() -> None:
    """What is remembered of it does not outlive it."""
    issuer = Issuer()
    checker, token = issuer.checker(), issuer.token(exp=1_795_608_000 + 20)
    await checker.identify(token)
    issuer.clock.advance(49)
    await checker.identify(token)
    issuer.clock.advance(1)
    with pytest.raises(GatewayError) as caught:
        await checker.identify(token)
    assert caught.value.metadata["expire_time"] == "2026-11-25T12:00:20Z"


async def test_tokens_are_remembered_whole() -> None:
    """One whose last character differs from a remembered one is checked anew, and refused."""
    issuer = Issuer()
    checker, token = issuer.checker(), issuer.token()
    await checker.identify(token)
    for forged in (token[:-2] + ("AA" if token[-2:] != "AA" else "BB"), token + "A", token[:-1]):
        with pytest.raises(GatewayError):
            await checker.identify(forged)


async def test_a_withdrawn_key_takes_its_tokens_along() -> None:
    """Within a minute of the reading that no longer has it, however often the token is shown."""
    issuer = Issuer()
    checker, token = issuer.checker(leeway_s=0), issuer.token(exp=1_795_608_000 + 3600)
    await checker.identify(token)
    issuer.keys = {"ec-2": ECKey.generate_key("P-256")}
    issuer.clock.advance(601)
    await checker.identify(issuer.token({"alg": "ES256", "kid": "ec-2"}))
    with pytest.raises(GatewayError) as caught:
        await checker.identify(token)
    assert caught.value.code == "invalid_id_token"


async def test_the_size_is_bounded_to_the_character() -> None:
    """The largest is taken, one more is not."""
    issuer = Issuer()
    checker = issuer.checker()
    room = MAX_TOKEN - len(issuer.token(pad=""))
    token = next(
        token for size in range(room * 3 // 4 - 4, room) if len(token := issuer.token(pad="p" * size)) >= MAX_TOKEN - 1
    )
    assert len(token) <= MAX_TOKEN
    await checker.identify(token)
