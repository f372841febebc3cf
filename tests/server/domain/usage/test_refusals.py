"""Calls that were turned away: the last ones, found by their ids, and nobody pushes out the others."""

from __future__ import annotations

import pytest
from tests.server.domain.meters import NOW

from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.usage.entries import OpenRequest
from tokendance_server.domain.usage.refusals import KEPT_OF_MINUTE, SAMPLED, TurnedAway, origin_of

REASON = errors_pb2.ERROR_REASON_INVALID_API_KEY


def note(ring: TurnedAway, request_id: str, address: str = "192.0.2.1") -> None:
    """Turn a call away."""
    ring.note(OpenRequest(request_id=request_id, start_us=1, organization_id="", address=address), REASON, "No.")


def test_a_call_is_found_by_its_id() -> None:
    """As a record of a refusal that is nobody's."""
    ring = TurnedAway("node_1", ManualClock(NOW))
    note(ring, "req_1")
    entry = ring.find("req_1")
    assert entry is not None
    assert (entry.outcome, entry.reason, entry.message) == (usage_pb2.REQUEST_OUTCOME_REFUSED, REASON, "No.")
    assert (entry.request.organization_id, entry.request.address, entry.attempts) == ("", "192.0.2.1", ())
    assert ring.find("req_2") is None


def test_a_flood_of_one_address_leaves_the_others_alone() -> None:
    """It holds its own places only, and of its calls most are not kept."""
    ring = TurnedAway("node_1", ManualClock(NOW), capacity=50, per_origin=8)
    note(ring, "other", "192.0.2.2")
    for number in range(1000):
        note(ring, f"req_{number}")
    assert ring.find("other") is not None
    assert len(ring) == 9
    assert ring.find(f"req_{SAMPLED * 31 - 1}") is not None
    assert ring.find("req_999") is None


def test_the_first_of_a_minute_are_all_kept() -> None:
    """So that whoever tries a few times is found; the next minute begins anew."""
    clock = ManualClock(NOW)
    ring = TurnedAway("node_1", clock)
    for number in range(KEPT_OF_MINUTE + 1):
        note(ring, f"a_{number}")
    assert ring.find(f"a_{KEPT_OF_MINUTE - 1}") is not None
    assert ring.find(f"a_{KEPT_OF_MINUTE}") is None
    clock.advance(60)
    note(ring, "b_0")
    assert ring.find("b_0") is not None


def test_many_addresses_never_hold_more_than_there_is_room_for() -> None:
    """The oldest of all goes for the newest, also where both are of one address."""
    ring = TurnedAway("node_1", ManualClock(NOW), capacity=3)
    for number in range(10):
        note(ring, f"req_{number}", f"192.0.2.{number % 4}")
    assert len(ring) == 3
    assert [ring.find(f"req_{number}") is not None for number in range(6, 10)] == [False, True, True, True]
    alone = TurnedAway("node_1", ManualClock(NOW), capacity=1)
    for number in range(3):
        note(alone, f"req_{number}")
    assert len(alone) == 1
    assert alone.find("req_2") is not None


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::2:3", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_origin_is_what_one_host_can_fill(address: str, origin: str) -> None:
    """Of IPv6 a whole network."""
    assert origin_of(address) == origin
