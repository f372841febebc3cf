"""How secrets of API keys are minted, and their digest under a pepper."""

from __future__ import annotations

import re

import pytest

from tokendance.credentials import SECRET_LENGTH, SECRET_PATTERN, check_form
from tokendance_server.domain.keys.secrets import PepperRing, mint

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
