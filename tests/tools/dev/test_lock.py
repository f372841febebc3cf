"""The locks: they satisfy what the projects declare, are hashed throughout, and name no registry."""

import re

import pytest
from packaging.requirements import Requirement

from dev.lock import ROOT, declared

LOCKS = ("dev", "gen")


def pins(lock: str) -> dict[str, Requirement]:
    """Maps each package of a lock to its line without the hashes."""
    lines = re.findall(r"^([a-z0-9].*?) \\$", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_what_is_declared(lock: str) -> None:
    """A dependency that was added or raised without renewing the lock is noticed here."""
    locked = pins(lock)
    for requirement in map(Requirement, declared(ROOT)[lock]):
        (pin,) = locked[requirement.name.lower()].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_hashed(lock: str) -> None:
    """Each package has hashes, so nothing but what was resolved then is installed now."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) == len(pins(lock))
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", [*(f"requirements/{name}.txt" for name in LOCKS), "package-lock.json"])
def test_locks_name_no_address(lock: str) -> None:
    """Where packages come from is each developer's own affair."""
    text = (ROOT / lock).read_text()
    assert '"resolved"' not in text
    # Where a package's authors may be paid is no place where it comes from.
    places = [line for line in text.splitlines() if "://" in line and not line.strip().startswith('"url"')]
    assert places == []
