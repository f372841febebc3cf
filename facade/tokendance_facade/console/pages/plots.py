"""Usage over time as a picture with its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance.gateway.v1 import usage_pb2
from tokendance_facade import charts
from tokendance_facade.console import words
from tokendance_facade.console.views import Cell, Chart, Notice, Table
from tokendance_facade.console.visit import Visit

TOTALS = ("Requests", "Answered", "Refused", "Failed", "Input tokens", "Output tokens", "Cost")
Measure = Callable[[usage_pb2.UsageTotals], int]
MEASURES: Mapping[str, tuple[str, Measure]] = {
    "requests": ("Requests", lambda totals: totals.requests),
    "tokens": ("Tokens", lambda totals: totals.input_tokens + totals.output_tokens),
    "cost": ("Cost", lambda totals: totals.cost_micros),
}


def totals_cells(totals: usage_pb2.UsageTotals) -> list[Cell]:
    """Return totals as the cells of a row."""
    figures = (
        totals.requests, totals.succeeded_requests, totals.refused_requests, totals.failed_requests,
        totals.input_tokens, totals.output_tokens,
    )  # fmt: skip
    cost = Cell(words.money(totals.cost_micros), kind="number")
    if totals.unpriced_requests:
        cost = Cell(cost.text, kind="number", hint=f"{totals.unpriced_requests:,} without a price")
    return [*(Cell(words.count(one), kind="number") for one in figures), cost]


def days_of(visit: Visit, days: int) -> list[datetime]:
    """Return the beginnings of the last days in UTC, today's last."""
    today = visit.instant().replace(hour=0, minute=0, second=0, microsecond=0)
    return [today - timedelta(days=ago) for ago in reversed(range(days))]


async def usage_by_day(visit: Visit, wanted: usage_pb2.UsageFilter, *, days: int) -> list[Chart | Notice]:
    """Return requests and tokens of the last days, or a notice where they cannot be read."""
    request = pb.GetUsageRequest(
        parent=visit.organization, filter=wanted, interval=pb.USAGE_INTERVAL_DAY, page_size=1000
    )
    request.start_time.FromDatetime(days_of(visit, days)[0])
    answer = await visit.try_call(visit.stubs.quota.GetUsage, request)
    if answer is None:
        return [Notice("Usage cannot be read now.", "warn")]
    return [daily_chart(f"The last {days} days", days_of(visit, days), answer.rows)]


def daily_chart(title: str, days: Sequence[datetime], rows: Sequence[pb.UsageRow]) -> Chart:
    """Return requests by day and outcome, with all totals beside them."""
    by_day = {row.start_time.ToDatetime(UTC): row.totals for row in rows}
    nothing = usage_pb2.UsageTotals()
    totals = [by_day.get(day, nothing) for day in days]
    series = [
        charts.Series("answered", [one.succeeded_requests for one in totals]),
        charts.Series("refused", [one.refused_requests for one in totals], tone=3),
        charts.Series("failed", [one.failed_requests for one in totals], tone=4),
    ]
    labels = [f"{day:%m-%d}" for day in days]
    table = Table(
        "",
        ["Day", *TOTALS],
        [[Cell(f"{day:%Y-%m-%d}"), *totals_cells(one)] for day, one in zip(days, totals, strict=True) if one.requests],
        "Nothing was called in this time.",
    )
    return Chart(title, charts.columns(f"Requests by day: {title}", labels, series), table)
