"""Errors in HTTP, for every row of the table and every surface."""

from __future__ import annotations

import json

import pytest

from tokendance.errors import GatewayError, table
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.errors import error_event, error_headers, error_object, shape_of


def test_every_row_has_a_shape_on_every_surface() -> None:
    """Status and type are there; overrides count on their own surface only."""
    for reason, spec in table():
        for surface in errors_pb2.Surface.values():
            shape = shape_of(reason, surface)
            assert 400 <= shape.status < 600
            assert shape.type
            assert shape.header_code == spec.code
    budget = errors_pb2.ERROR_REASON_BUDGET_EXCEEDED
    assert shape_of(budget, errors_pb2.SURFACE_CHAT).status == 402
    assert shape_of(budget, errors_pb2.SURFACE_RESPONSES).status == 429


@pytest.mark.parametrize(("given", "shown"), [(None, "1"), (0, "1"), (7, "7"), (3600, "60")])
def test_retry_after_is_whole_seconds_from_1_to_60(given: int | None, shown: str) -> None:
    """Never 0, which clients take for at once; never more than they would wait."""
    error = GatewayError(errors_pb2.ERROR_REASON_RATE_LIMIT_EXCEEDED, "Slow down.", retry_after_s=given)
    headers = dict(error_headers(error, 429))
    assert headers["retry-after"] == shown
    assert "x-should-retry" not in headers


def test_what_a_retry_cannot_cure_says_so() -> None:
    """A spent quota is 429, and yet final."""
    error = GatewayError(errors_pb2.ERROR_REASON_QUOTA_EXCEEDED, "Spent.", retry_after_s=5)
    headers = dict(error_headers(error, 429))
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


def test_the_event_holds_nothing_but_the_error() -> None:
    """The one form that both official SDKs raise."""
    error = GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "Line\nbreak", origin="provider")
    event = error_event(error, errors_pb2.SURFACE_CHAT, "req_1")
    assert event == b"data: %b\n\n" % error_object(error, errors_pb2.SURFACE_CHAT, "req_1")
    assert event.count(b"\n") == 2
    inner = json.loads(event[6:])["error"]
    assert inner == {
        "message": "Line\nbreak",
        "type": "server_error",
        "param": None,
        "code": "provider_error",
        "request_id": "req_1",
        "origin": "provider",
    }
