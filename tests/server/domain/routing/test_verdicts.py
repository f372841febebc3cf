"""What an error says of its upstream, as a table."""

from __future__ import annotations

from typing import Literal

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2 as e
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.routing.verdicts import Verdict, verdict_of


@pytest.mark.parametrize(
    ("reason", "status", "verdict"),
    [
        (e.ERROR_REASON_PROVIDER_UNAVAILABLE, 0, Verdict.FAILED),
        (e.ERROR_REASON_PROVIDER_UNAVAILABLE, 401, Verdict.REFUSED),
        (e.ERROR_REASON_PROVIDER_UNAVAILABLE, 402, Verdict.REFUSED),
        (e.ERROR_REASON_PROVIDER_UNAVAILABLE, 403, Verdict.REFUSED),
        (e.ERROR_REASON_PROVIDER_UNAVAILABLE, 429, Verdict.REFUSED),
        (e.ERROR_REASON_PROVIDER_RATE_LIMITED, 429, Verdict.LIMITED),
        (e.ERROR_REASON_PROVIDER_TIMEOUT, 0, Verdict.FAILED),
        (e.ERROR_REASON_PROVIDER_ERROR, 500, Verdict.FAILED),
        (e.ERROR_REASON_PROVIDER_ERROR, 200, Verdict.FAILED),
        (e.ERROR_REASON_STREAM_INTERRUPTED, 200, Verdict.FAILED),
        (e.ERROR_REASON_CONTENT_FILTERED, 403, Verdict.ALIVE),
        (e.ERROR_REASON_PROVIDER_REJECTED, 400, Verdict.ALIVE),
        (e.ERROR_REASON_INVALID_REQUEST, 0, Verdict.NOTHING),
        (e.ERROR_REASON_DEADLINE_EXCEEDED, 0, Verdict.NOTHING),
    ],
)
def test_what_an_error_tells(reason: ErrorReason.ValueType, status: int, verdict: Verdict) -> None:
    """Only what is an upstream's own fault counts against it."""
    assert verdict_of(GatewayError(reason, "No.", origin="provider"), status) is verdict


@pytest.mark.parametrize("origin", ["gateway", "caller"])
def test_what_did_not_come_from_the_upstream_tells_nothing_of_it(origin: Literal["gateway", "caller"]) -> None:
    """Such as a ledger that could not be written."""
    assert verdict_of(GatewayError(e.ERROR_REASON_PROVIDER_ERROR, "No.", origin=origin), 0) is Verdict.NOTHING
