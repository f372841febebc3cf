"""Requests that the facade refused by itself, kept where they belong."""

from __future__ import annotations

from tests.server.domain.meters import NOW
from tests.server.domain.usage.doubles import START_US, MemoryJournal, memory_ledger

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.usage.entries import OpenRequest
from tokendance_server.domain.usage.refusals import TurnedAway
from tokendance_server.domain.usage.refused import Refused, RefusedRequests

HOLDER = Principal(
    frozenset(),
    "organizations/org_1/keys/key_1",
    organization="organizations/org_1",
    key_id="key_1",
    owner="organizations/org_1/members/user_1",
    team="organizations/org_1/teams/team_1",
    labels={"app": "chat"},
)


class Verifier:
    """Knows one secret."""

    async def verify(self, secret: str) -> Principal:
        if secret != "tdk_good":
            raise GatewayError(errors_pb2.ERROR_REASON_INVALID_API_KEY, "No.")
        return HOLDER


def refused(name: str, secret: str = "", surface: int = errors_pb2.SURFACE_CHAT) -> Refused:
    """Return a request whose body was no JSON."""
    request = OpenRequest(
        request_id=name, start_us=START_US, organization_id="", address="192.0.2.1", route="POST /v1", surface=surface
    )
    return Refused(request, errors_pb2.ERROR_REASON_INVALID_JSON, "The body is no JSON.", secret)


async def test_a_known_key_gets_a_record_and_nobody_else_does() -> None:
    """Free of charge, under the id that the caller saw, with the key's subjects and labels."""
    journal, turned_away = MemoryJournal(), TurnedAway("node_1", ManualClock(NOW))
    ledger = memory_ledger(journal)
    kept = RefusedRequests(ledger, turned_away, Verifier())
    for one in (refused("req_1", "tdk_good"), refused("req_2", "tdk_bad"), refused("req_3")):
        await kept.keep(one)
    (entry,) = ledger.waiting(10)
    request = entry.request
    assert (request.request_id, entry.outcome) == ("req_1", usage_pb2.REQUEST_OUTCOME_REFUSED)
    assert (request.organization_id, request.key_id, request.member_id, request.team_id) == (
        "org_1",
        "key_1",
        "user_1",
        "team_1",
    )
    assert (entry.reason, entry.message, entry.cost_micros) == (
        errors_pb2.ERROR_REASON_INVALID_JSON,
        "The body is no JSON.",
        0,
    )
    assert request.key_labels == {"app": "chat"}
    assert turned_away.find("req_1") is None
    assert all(turned_away.find(name) is not None for name in ("req_2", "req_3"))


async def test_what_calls_no_model_is_no_usage() -> None:
    """A key that asks for its usage in the wrong words is in the ring only, as its good questions are in no record."""
    ledger, turned_away = memory_ledger(), TurnedAway("node_1", ManualClock(NOW))
    kept = RefusedRequests(ledger, turned_away, Verifier())
    await kept.keep(refused("req_1", "tdk_good", errors_pb2.SURFACE_GATEWAY))
    assert not ledger.waiting(10)
    assert turned_away.find("req_1") is not None


async def test_a_repeat_changes_nothing() -> None:
    """A facade that tells twice is believed once."""
    ledger = memory_ledger()
    kept = RefusedRequests(ledger, TurnedAway("node_1", ManualClock(NOW)), Verifier())
    for _ in range(3):
        await kept.keep(refused("req_1", "tdk_good"))
    assert len(ledger.waiting(10)) == 1


async def test_a_full_journal_leaves_it_to_the_ring() -> None:
    """What cannot be written down is still found by its id."""
    journal, turned_away = MemoryJournal(), TurnedAway("node_1", ManualClock(NOW))
    journal.full = True
    await RefusedRequests(memory_ledger(journal), turned_away, Verifier()).keep(refused("req_1", "tdk_good"))
    assert turned_away.find("req_1") is not None
