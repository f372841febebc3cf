"""The form, the checksum and the digest of API key secrets."""

from __future__ import annotations

import re

import pytest

from tokendance.errors import GatewayError
from tokendance_server.domain.secrets import (
    SECRET_LENGTH,
    SECRET_PATTERN,
    PepperRing,
    check_form,
    mint,
)

PEPPER = bytes(range(32))
OTHER = bytes(range(100, 132))


def test_minted_secrets_have_the_published_form_and_pass_their_own_check() -> None:
    """Every secret fits the published pattern, and no two are equal."""
    secrets = {mint() for _ in range(500)}
    assert len(secrets) == 500
    for secret in secrets:
        assert len(secret) == SECRET_LENGTH
        assert re.fullmatch(SECRET_PATTERN, secret)
        check_form(secret)


def test_a_known_secret_keeps_its_checksum() -> None:
    """The form is published: what was minted once must pass for ever."""
    check_form("tdk_" + "0" * 43 + "34XzlO")


@pytest.mark.parametrize("position", range(4, SECRET_LENGTH))
def test_one_wrong_character_anywhere_is_noticed_without_a_store(position: int) -> None:
    """A mistyped secret fails by its checksum."""
    secret = mint()
    other = "a" if secret[position] != "a" else "b"
    with pytest.raises(GatewayError) as caught:
        check_form(secret[:position] + other + secret[position + 1 :])
    assert caught.value.code == "invalid_api_key"
    assert "checksum" in caught.value.message


def test_two_characters_swapped_are_noticed() -> None:
    """The commonest slip of the hand fails too."""
    secret = next(one for one in iter(mint, "") if one[10] != one[11])
    with pytest.raises(GatewayError, match="checksum"):
        check_form(secret[:10] + secret[11] + secret[10] + secret[12:])


@pytest.mark.parametrize("cut", ["tdk_", mint()[:-1], mint() + "x", mint()[:20]])
def test_a_cut_or_lengthened_secret_is_told_its_length(cut: str) -> None:
    """The message says how long the secret is and how long it should be."""
    with pytest.raises(GatewayError) as caught:
        check_form(cut)
    assert caught.value.code == "invalid_api_key"
    assert str(len(cut)) in caught.value.message
    assert "53" in caught.value.message


@pytest.mark.parametrize("strange", ["é", "\ud800", "\x00", " ", "\u0661"])
def test_a_secret_of_the_right_length_with_foreign_characters_is_refused(strange: str) -> None:
    """Only 62 letters and digits count; a lone surrogate must not blow up either."""
    with pytest.raises(GatewayError) as caught:
        check_form(mint()[:-1] + strange)
    assert caught.value.code == "invalid_api_key"


def test_digests_depend_on_the_secret_and_on_the_pepper() -> None:
    """The digest is keyed: without the pepper it says nothing."""
    ring, other = PepperRing.of(PEPPER), PepperRing.of(OTHER)
    secret = mint()
    assert ring.digest(secret) == PepperRing.of(PEPPER).digest(secret)
    assert len(ring.digest(secret)) == 32
    assert ring.digest(secret) != other.digest(secret)
    assert ring.digest(secret) != ring.digest(mint())


def test_a_ring_tries_every_pepper_the_active_one_first() -> None:
    """Keys made under a former pepper are still found."""
    ring = PepperRing("new", {"old": PEPPER, "new": OTHER})
    secret = mint()
    assert ring.digests(secret) == (PepperRing.of(OTHER).digest(secret), PepperRing.of(PEPPER).digest(secret))
    assert ring.digest(secret) == ring.digests(secret)[0]


def test_the_id_of_a_pepper_follows_from_the_pepper() -> None:
    """A pepper that was exchanged never passes under the old one's id."""
    assert PepperRing.of(PEPPER).active_id == PepperRing.of(PEPPER).active_id
    assert PepperRing.of(PEPPER).active_id != PepperRing.of(OTHER).active_id


def test_derived_secrets_differ_by_purpose_and_from_digests() -> None:
    """What seals page tokens is no key's digest."""
    ring = PepperRing.of(PEPPER)
    assert ring.derive("page tokens") != ring.derive("something else")
    assert ring.derive("page tokens") != ring.digest("page tokens")


@pytest.mark.parametrize("weak", [b"", b"short", bytes(32), b"ab" * 16, PEPPER + b"x"])
def test_a_weak_pepper_is_refused(weak: bytes) -> None:
    """A pepper that is empty, short, long or made of a repeated byte protects nothing."""
    with pytest.raises(ValueError, match="pepper"):
        PepperRing.of(weak)


def test_a_ring_without_its_active_pepper_is_refused() -> None:
    """New digests would have nothing to be made with."""
    with pytest.raises(ValueError, match="not in the ring"):
        PepperRing("gone", {"old": PEPPER})
