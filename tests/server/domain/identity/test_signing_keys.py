"""The keys of an identity provider: rotated, unreachable, and asked for by strangers without end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey
from tests.server.domain.identity.issuer import RSA, Issuer

from tokendance.errors import GatewayError
from tokendance_server.domain.identity.signing_keys import read_keys


async def test_a_flood_of_unknown_ids_reads_once_a_minute() -> None:
    """Ten minutes of strangers, at once and one after the other, and known ids are served all the while."""
    issuer = Issuer()
    checker = issuer.checker()
    for minute in range(10):
        tokens = [issuer.token({"kid": f"stranger-{minute}-{number}"}) for number in range(20)]
        refusals = await asyncio.gather(*map(checker.identify, tokens), return_exceptions=True)
        assert all(isinstance(one, GatewayError) and one.code == "invalid_id_token" for one in refusals)
        assert await issuer.signing_keys.find("rsa-1") is not None
        for number in range(2000):
            assert await issuer.signing_keys.find(f"{minute}-{number}") is None
            issuer.clock.advance(0.03)
    assert issuer.reads <= 11
    await checker.identify(issuer.token())


async def test_a_new_key_is_found_when_the_first_token_comes() -> None:
    """Rotation at the issuer needs nobody's hand here."""
    issuer = Issuer()
    checker = issuer.checker()
    await checker.identify(issuer.token())
    issuer.keys["ec-2"] = ECKey.generate_key("P-256")
    issuer.clock.advance(60)
    await checker.identify(issuer.token({"alg": "ES256", "kid": "ec-2"}))
    assert issuer.reads == 2


async def test_many_who_wait_share_one_reading() -> None:
    """The first tokens of a node come all at once."""
    issuer = Issuer()
    checker = issuer.checker()
    await asyncio.gather(*(checker.identify(issuer.token(sub=f"person-{number}")) for number in range(10)))
    assert issuer.reads == 1


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    """The reading goes on."""
    issuer = Issuer()
    first = asyncio.create_task(issuer.signing_keys.find("rsa-1"))
    second = asyncio.create_task(issuer.signing_keys.find("rsa-1"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None
    assert issuer.reads == 1


async def test_known_keys_outlast_an_issuer_that_is_down_for_an_hour() -> None:
    """Then nobody knows any more what it has withdrawn; when it is back all is well, and both are told once."""
    issuer = Issuer()
    assert await issuer.signing_keys.find("rsa-1") is not None
    issuer.down = OSError("no route")
    for _ in range(59):
        issuer.clock.advance(60)
        assert await issuer.signing_keys.find("rsa-1") is not None
    issuer.clock.advance(61)
    with pytest.raises(GatewayError) as caught:
        await issuer.signing_keys.find("rsa-1")
    assert (caught.value.code, caught.value.retry_after_s) == ("identity_provider_unavailable", 60)
    issuer.down = None
    issuer.clock.advance(60)
    assert await issuer.signing_keys.find("rsa-1") is not None
    assert [type(one) for one in issuer.reports] == [OSError, type(None)]


async def test_an_issuer_that_was_never_reached_signs_nobody_in() -> None:
    """That is nobody's bad token; and it is asked once a minute, also by those who try again at once."""
    issuer = Issuer()
    issuer.down = ValueError("no JWKS")
    for _ in range(50):
        with pytest.raises(GatewayError) as caught:
            await issuer.checker().identify(issuer.token())
        assert caught.value.code == "identity_provider_unavailable"
    assert issuer.reads == 1


async def test_closing_gives_up_a_reading() -> None:
    """Nothing is left running."""
    issuer = Issuer()
    waiting = asyncio.create_task(issuer.signing_keys.find("rsa-1"))
    await asyncio.sleep(0)
    await issuer.signing_keys.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def _entry(key: Any, **changes: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": "k", **changes}


@pytest.mark.parametrize(
    "entry",
    [
        OctKey.generate_key(256).as_dict() | {"kid": "k"},
        _entry(RSA, use="enc"),
        _entry(RSA, kid=None),
        _entry(RSA, kid=5),
        _entry(RSA, kty="XXX"),
        _entry(RSA, n=5),
        _entry(ECKey.generate_key("P-256"), x="!"),
        RSA.as_dict(private=True) | {"kid": "k"},
        {"kty": "RSA", "kid": "k", "n": "2w" * 80, "e": "AQAB"},
        "text",
        None,
    ],
)
def test_keys_of_no_use_are_left_out(entry: Any) -> None:
    """Secrets, weak ones, ones for encryption, and nonsense; the good one beside them stays."""
    assert list(read_keys(json.dumps({"keys": [entry, _entry(RSA, kid="good")]}).encode())) == ["good"]


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": {}}', b"<html>", b"\xff"])
def test_what_is_no_jwks_is_an_error(document: bytes) -> None:
    """Of the issuer: the keys that were known stay."""
    with pytest.raises(ValueError, match="no JWKS"):
        read_keys(document)
