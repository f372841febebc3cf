"""Sealed secrets open where they belong, under a key of the ring, and nowhere else."""

from __future__ import annotations

import base64

import pytest

from tokendance_server.domain.sealing import KeyRing, UnsealError, ring_key_id, sealed_under

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SECRET = "sk-an-upstream's-own-größe"
PLACE = "providers/acme https://api.example.com:443"


def test_it_opens_at_its_place() -> None:
    """Never twice the same text, and the secret stands in none of them."""
    ring = KeyRing([OLD])
    one, two = ring.seal(SECRET, PLACE), ring.seal(SECRET, PLACE)
    assert ring.open(one, PLACE) == ring.open(two, PLACE) == SECRET
    assert one != two
    assert one.isascii()
    assert base64.b64encode(SECRET.encode()).decode() not in one


def test_the_first_key_seals_and_all_open() -> None:
    """So that a ring can grow at its head, and what is old be sealed anew."""
    sealed = KeyRing([OLD]).seal(SECRET, PLACE)
    ring = KeyRing([NEW, OLD])
    assert ring.open(sealed, PLACE) == SECRET
    assert sealed_under(sealed) == ring_key_id(OLD)
    assert sealed_under(ring.seal(SECRET, PLACE)) == ring.active_id == ring_key_id(NEW)


@pytest.mark.parametrize("place", ["", PLACE + "0", "providers/acme https://evil.example.com:443"])
def test_it_opens_at_no_other_place(place: str) -> None:
    """A row that was copied to another provider, or whose address was changed, yields nothing."""
    ring = KeyRing([OLD])
    with pytest.raises(UnsealError, match="another place"):
        ring.open(ring.seal(SECRET, PLACE), place)


def test_a_ring_without_its_key_says_which() -> None:
    """By its id, so that the operator finds it."""
    sealed = KeyRing([OLD]).seal(SECRET, PLACE)
    with pytest.raises(UnsealError, match=ring_key_id(OLD)):
        KeyRing([NEW]).open(sealed, PLACE)


def test_a_changed_text_does_not_open() -> None:
    """Not by one character, and not where it is cut or another form."""
    ring = KeyRing([OLD])
    sealed = ring.seal(SECRET, PLACE)
    head, _, body = sealed.rpartition(":")
    other = "A" if body[20] != "A" else "B"
    for wrong in (
        f"{head}:{body[:20]}{other}{body[21:]}",
        f"{head}:{body[:8]}",
        f"{head}:",
        f"{head}:%%",
        "v2:x:y",
        "",
    ):
        with pytest.raises(UnsealError) as raised:
            ring.open(wrong, PLACE)
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize("keys", [[], [b"short"], [bytes(32)], [OLD, b"\x01\x02" * 16]])
def test_a_ring_of_weak_keys_is_none(keys: list[bytes]) -> None:
    """Length and variety are looked at; nothing of the key is told."""
    with pytest.raises(ValueError, match="ring"):
        KeyRing(keys)
