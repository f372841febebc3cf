"""A provider's sealed credential opens for that provider at that origin."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tokendance_server.domain.catalogue.entries import ProviderSpec
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.sealing import KeyRing, UnsealError

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
SPEC = ProviderSpec(kind="openai", base_url="https://a.example/v1")


def test_it_opens_for_its_provider_at_its_origin() -> None:
    """Whatever the path; a row that was copied or whose address was changed behind our back yields nothing."""
    seals = ProviderSeals(KeyRing([OLD]))
    sealed = seals.with_credential("a", SPEC, "sk-1")
    assert seals.open("a", sealed) == "sk-1"
    assert seals.open("a", replace(sealed, base_url="https://A.example:443/v2")) == "sk-1"
    for name, base_url in (("b", sealed.base_url), ("a", "https://b.example/v1"), ("a", "http://a.example/v1")):
        with pytest.raises(UnsealError):
            seals.open(name, replace(sealed, base_url=base_url))


def test_it_is_sealed_anew_under_the_key_in_force() -> None:
    """Once; what has no credential or cannot be opened is none of its business."""
    sealed = ProviderSeals(KeyRing([OLD])).with_credential("a", SPEC, "sk-1")
    seals = ProviderSeals(KeyRing([NEW, OLD]))
    assert seals.is_outdated(sealed)
    anew = seals.anew("a", sealed)
    assert not seals.is_outdated(anew)
    assert ProviderSeals(KeyRing([NEW])).open("a", anew) == "sk-1"
    assert seals.anew("a", anew) is anew
    assert not seals.is_outdated(SPEC)
    assert not ProviderSeals(KeyRing([NEW])).opens("a", sealed)


def test_two_seals_of_one_credential_are_the_same_wish() -> None:
    """So that a repeated request is one, although no two seals are alike."""
    seals = ProviderSeals(KeyRing([OLD]))
    kept, same, other = (seals.with_credential("a", SPEC, secret) for secret in ("sk-1", "sk-1", "sk-2"))
    assert kept != same
    assert seals.as_kept("a", kept, same) == kept
    assert seals.as_kept("a", kept, other) == other
    assert seals.as_kept("a", kept, SPEC) == SPEC
