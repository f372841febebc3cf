"""What of a request counts for its model."""

from __future__ import annotations

from typing import Any

import pytest

from tokendance.gateway.v1 import errors_pb2 as reasons
from tokendance.gateway.v1 import usage_pb2
from tokendance_server.domain.status.tally import Counts, Tally, read_counts
from tokendance_server.domain.usage.entries import FinishedAttempt, FinishedEntry, OpenRequest

SUCCEEDED, FAILED = usage_pb2.REQUEST_OUTCOME_SUCCEEDED, usage_pb2.REQUEST_OUTCOME_FAILED
REFUSED, CANCELLED = usage_pb2.REQUEST_OUTCOME_REFUSED, usage_pb2.REQUEST_OUTCOME_CANCELLED


def attempt(number: int = 1, *, model: str = "fast", provider: str = "p") -> FinishedAttempt:
    """One call of an upstream."""
    return FinishedAttempt(number=number, start_us=0, outcome=SUCCEEDED, model=model, provider=provider)


def entry(
    outcome: int, *attempts: FinishedAttempt, reason: int = 0, streamed: bool = True, **more: Any
) -> FinishedEntry:
    """One request that ended."""
    request = OpenRequest(request_id="r", start_us=0, organization_id="o", requested_model="quick", streamed=streamed)
    return FinishedEntry(
        id="rec", node="n", request=request, outcome=outcome, reason=reason, attempts=tuple(attempts), **more
    )


def counted(*entries: FinishedEntry) -> dict[str, list[Any]]:
    """What a tally makes of requests."""
    tally = Tally({"quick": "fast"}.get)
    for one in entries:
        tally.ended(one)
    return {model: counts.document()[:3] for model, counts in tally.take().items()}


def test_answers_help_and_failures_are_told_apart() -> None:
    """Help is a second attempt, by whatever route or model; it counts for what was asked for first."""
    assert counted(
        entry(SUCCEEDED, attempt()),
        entry(SUCCEEDED, attempt(), attempt(2)),
        entry(SUCCEEDED, attempt(), attempt(2, model="other")),
        entry(FAILED, attempt(), reason=reasons.ERROR_REASON_PROVIDER_TIMEOUT),
    ) == {"fast": [1, 2, 1]}


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (CANCELLED, reasons.ERROR_REASON_CANCELLED),
        (FAILED, reasons.ERROR_REASON_DEADLINE_EXCEEDED),
        (FAILED, reasons.ERROR_REASON_INVALID_REQUEST),
        (FAILED, reasons.ERROR_REASON_CONTENT_FILTERED),
        (FAILED, reasons.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED),
    ],
)
def test_what_a_caller_causes_counts_for_nothing(outcome: int, reason: int) -> None:
    """So nobody can make a model look bad."""
    assert counted(entry(outcome, attempt(), reason=reason)) == {}


def test_refusal_counts_only_where_it_was_ours() -> None:
    """A spent quota is not; where no route is left it is, under the id of the model that an alias names."""
    assert counted(
        entry(REFUSED, reason=reasons.ERROR_REASON_QUOTA_EXCEEDED),
        entry(REFUSED, reason=reasons.ERROR_REASON_MODEL_NOT_FOUND),
        entry(REFUSED, reason=reasons.ERROR_REASON_PROVIDER_UNAVAILABLE),
    ) == {"fast": [0, 0, 1]}


def test_what_services_call_by_other_ways_is_no_traffic_of_ours() -> None:
    """Their records have no route."""
    assert counted(entry(SUCCEEDED, attempt(provider=""))) == {}


def test_what_was_taken_is_counted_no_more() -> None:
    """Each request is told once."""
    tally = Tally(lambda name: None)
    tally.ended(entry(SUCCEEDED, attempt()))
    assert tally.take()
    assert tally.take() == {}


@pytest.mark.parametrize("milliseconds", [1, 7, 150, 999, 4000, 61_000])
def test_median_is_right_to_an_eighth(milliseconds: int) -> None:
    """It is of the first byte of streams alone, and survives its JSON form."""
    tally = Tally(lambda name: None)
    for _ in range(5):
        tally.ended(entry(SUCCEEDED, attempt(), first_byte_us=milliseconds * 1000))
    tally.ended(entry(SUCCEEDED, attempt(), first_byte_us=10**9, streamed=False))
    counts = read_counts(tally.take()["fast"].document())
    median = counts.median_s()
    assert median is not None
    assert abs(median * 1000 / milliseconds - 1) <= 0.125
    assert (counts.answered, sum(counts.latencies.values())) == (6, 5)


def test_sums_are_those_of_their_parts() -> None:
    """Nodes add what they counted apart."""
    one, other = Counts(1, 2, 3, {4: 1}), Counts(1, 1, 1, {4: 1, 5: 2})
    one.add(other)
    assert one.document() == [2, 3, 4, {"4": 2, "5": 2}]
    assert Counts().median_s() is None
