"""What a leaked key did, from what the gateway tells."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import audit_service_pb2 as audit_pb
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import quota_service_pb2 as quota_pb
from tokendance_cli.failures import CommandError
from tokendance_cli.leak import calls_of, start_of, still_to_do, trail_of

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = "organizations/org_1/keys/key_1"


class Gateway:
    """Answers with what it is given, or refuses."""

    def __init__(self, *, events: bool = True, usage: bool = True) -> None:
        self.asked: list[Any] = []
        self._events, self._usage = events, usage
        self.stubs = SimpleNamespace(audit=self, quota=self)

    def ListAuditEvents(self, request: audit_pb.ListAuditEventsRequest) -> audit_pb.ListAuditEventsResponse:
        self.asked.append(request)
        if not self._events:
            raise GatewayError(errors_pb2.ERROR_REASON_PERMISSION_DENIED, "No.")
        return audit_pb.ListAuditEventsResponse(audit_events=[audit_pb.AuditEvent(action="key.rotate")])

    def ListUsageRecords(self, request: quota_pb.ListUsageRecordsRequest) -> quota_pb.ListUsageRecordsResponse:
        self.asked.append(request)
        if not self._usage:
            raise GatewayError(errors_pb2.ERROR_REASON_UNIMPLEMENTED, "Not yet.")
        return quota_pb.ListUsageRecordsResponse(usage_records=[_record("m", 1)], next_page_token="more")


def _record(model: str, seconds: int, client: str = "curl") -> usage_pb2.UsageRecord:
    record = usage_pb2.UsageRecord(requested_model=model, client_kind=client)
    record.start_time.FromSeconds(seconds)
    return record


def _trail(gateway: Any) -> Any:
    return trail_of(gateway, KEY, START)


def test_the_gateway_is_asked_about_the_key_from_the_time_on() -> None:
    """In the key's own organization; that there is more is told."""
    gateway = Gateway()
    trail = _trail(gateway)
    events, usage = gateway.asked
    assert (events.parent, events.filter.resource, usage.parent) == ("organizations/org_1", KEY, "organizations/org_1")
    assert list(usage.filter.keys) == [KEY]
    assert events.filter.start_time.ToDatetime(UTC) == usage.start_time.ToDatetime(UTC) == START
    assert trail.cut
    assert [row[2] for row in trail.event_rows()] == ["key.rotate"]
    assert trail.document()["usage"][0]["calls"] == 1


@pytest.mark.parametrize(("events", "usage"), [(True, False), (False, True), (False, False)])
def test_what_is_not_told_is_unknown_and_not_empty(events: bool, usage: bool) -> None:
    """Nothing is raised: a new secret is on its way."""
    trail = _trail(Gateway(events=events, usage=usage))
    assert ((trail.events is None), (trail.usage is None)) == (not events, not usage)
    document = trail.document()
    assert ((document["events"] is None), (document["usage"] is None)) == (not events, not usage)


def test_calls_are_summed_by_model_and_client() -> None:
    """The most first, with the times of the first and the last."""
    records = [_record("a", 1), _record("b", 5), _record("b", 3), _record("b", 4, "")]
    calls = calls_of(records)
    assert [(one.model, one.client, one.count) for one in calls] == [
        ("b", "curl", 2),
        ("a", "curl", 1),
        ("b", "unknown", 1),
    ]
    assert (calls[0].first.second, calls[0].last.second) == (3, 5)


def test_the_time_is_that_of_the_secret_unless_another_is_named() -> None:
    """A time without a zone is UTC."""
    key = pb.Key()
    key.create_time.FromDatetime(START)
    assert start_of(key, "") == START
    key.rotate_time.FromSeconds(0)
    assert start_of(key, "") == datetime(1970, 1, 1, tzinfo=UTC)
    assert start_of(key, "2026-06-01T12:00:00") == START
    with pytest.raises(CommandError, match="ISO 8601"):
        start_of(key, "yesterday")


def test_what_is_left_to_do_fits_the_key() -> None:
    """A key that has ended needs no new place; one that is narrow already is not told to be."""
    wide = pb.Key(name=KEY, owner="organizations/org_1/members/ann")
    narrow = pb.Key(name=KEY, allowed_models=["m"], allowed_networks=["10.0.0.0/8"])
    assert "new secret" in still_to_do(wide, ended=False)[0]
    assert "new secret" not in " ".join(still_to_do(wide, ended=True))
    assert len(still_to_do(wide, ended=False)) - len(still_to_do(narrow, ended=False)) == 2
