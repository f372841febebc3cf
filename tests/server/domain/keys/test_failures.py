"""Failed sign-ins by where they came from: so many at once, then one after the other, in bounded memory."""

from __future__ import annotations

from tests.server.domain.meters import NOW

from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.failures import FailedSignIns

ADDRESS = "192.0.2.1"


def test_so_many_may_fail_and_then_the_next_waits() -> None:
    """Only those of that address; one becomes free every second."""
    clock = ManualClock(NOW)
    failures = FailedSignIns(60, clock)
    for _ in range(60):
        assert failures.wait_s(ADDRESS) == 0
        failures.note(ADDRESS)
    assert failures.wait_s(ADDRESS) == 1
    assert failures.wait_s("192.0.2.2") == 0
    clock.advance(1)
    assert failures.wait_s(ADDRESS) == 0
    failures.note(ADDRESS)
    assert failures.wait_s(ADDRESS) == 1
    clock.advance(60)
    assert failures.wait_s(ADDRESS) == 0


def test_a_low_limit_makes_waiting_longer() -> None:
    """Whole seconds, as callers are told them."""
    clock = ManualClock(NOW)
    failures = FailedSignIns(2, clock)
    failures.note(ADDRESS)
    failures.note(ADDRESS)
    assert failures.wait_s(ADDRESS) == 30
    clock.advance(29.5)
    assert failures.wait_s(ADDRESS) == 1


def test_a_host_cannot_change_its_ipv6_address_to_go_on() -> None:
    """Its whole network counts as one."""
    failures = FailedSignIns(1, ManualClock(NOW))
    failures.note("2001:db8::1")
    assert failures.wait_s("2001:db8::2") > 0


def test_what_has_no_address_or_no_limit_never_waits() -> None:
    """Sockets of the node itself, and nodes that want none."""
    limited, unlimited = FailedSignIns(1, ManualClock(NOW)), FailedSignIns(0, ManualClock(NOW))
    for _ in range(5):
        limited.note("")
        unlimited.note(ADDRESS)
    assert (limited.wait_s(""), unlimited.wait_s(ADDRESS), len(limited), len(unlimited)) == (0, 0, 0, 0)


def test_many_addresses_take_bounded_memory() -> None:
    """The one that failed least recently is forgotten first."""
    failures = FailedSignIns(1, ManualClock(NOW), origins=3)
    for number in range(10):
        failures.note(f"192.0.2.{number}")
    assert len(failures) == 3
    assert failures.wait_s("192.0.2.9") > 0
    assert failures.wait_s("192.0.2.0") == 0
