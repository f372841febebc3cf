"""Usage by model, team, key, member and day: as pictures, as a table, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance.gateway.v1 import usage_pb2
from tokendance_facade import charts
from tokendance_facade.answers import Answer
from tokendance_facade.console import words
from tokendance_facade.console.answers import download
from tokendance_facade.console.pages.names import Names, read_names
from tokendance_facade.console.pages.paging import filters, number, with_filters
from tokendance_facade.console.pages.plots import MEASURES, TOTALS, days_of, totals_cells
from tokendance_facade.console.views import Cards, Cell, Chart, Field, Table, View
from tokendance_facade.console.visit import Visit

_BY = {
    "model": (pb.USAGE_DIMENSION_MODEL, "Model"),
    "team": (pb.USAGE_DIMENSION_TEAM, "Team"),
    "member": (pb.USAGE_DIMENSION_MEMBER, "Member"),
    "key": (pb.USAGE_DIMENSION_KEY, "Key"),
    "code": (pb.USAGE_DIMENSION_CODE, "Error code"),
    "client": (pb.USAGE_DIMENSION_CLIENT, "Client"),
}
_DAYS = (7, 30, 90)
_ROWS = 10_000
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


async def show_usage(visit: Visit) -> View:
    """Show usage as the filters ask."""
    by, days = _asked(visit)
    names = await read_names(visit, keys=by == "key")
    daily = await _read(visit, by, days, pb.USAGE_INTERVAL_DAY)
    whole = await _read(visit, by, days, pb.USAGE_INTERVAL_UNSPECIFIED)
    measure = visit.query.get("measure") if visit.query.get("measure") in MEASURES else "requests"
    label = _BY[by][1]
    totals = whole.totals
    cards = Cards(
        [
            ("Requests", words.count(totals.requests), f"{totals.succeeded_requests:,} answered", ""),
            ("Tokens", words.count(totals.input_tokens + totals.output_tokens), "prompt and answer", ""),
            ("Cost", words.money(totals.cost_micros), f"{totals.unpriced_requests:,} requests without a price", ""),
            ("Mean first byte", words.latency(totals, "mean_first_byte_latency"), "of those that had one", ""),
        ]
    )
    fields = [
        Field("by", "By", "select", by, options=[(one, title) for one, (_, title) in _BY.items()]),
        Field("days", "Days", "select", str(days), options=[(str(one), f"the last {one}") for one in _DAYS]),
        Field("measure", "Picture of", "select", measure, options=[(one, two[0]) for one, two in MEASURES.items()]),
        Field("team", "Team", "select", visit.query.get("team"), options=[("", "every team"), *names.teams]),
    ]
    rows = [[names_cell(names, row.values[0]), *totals_cells(row.totals)] for row in whole.rows]
    table = Table(
        f"By {label.lower()}", [label, *TOTALS], rows, "Nothing was called in this time.",
        csv_href=with_filters(visit, f"{visit.base}/usage.csv"),
    )  # fmt: skip
    chart = _chart(visit, names, daily.rows, measure=measure, days=days, label=label)
    return View("Usage", [filters(visit, fields), cards, chart, table], "Sums over finished requests, in UTC days.")


def names_cell(names: Names, value: str) -> Cell:
    """Return a group's value: a name, a word, or that it has none."""
    return Cell(names.of(value) if value.startswith("organizations/") else value or "(none)")


def _chart(visit: Visit, names: Names, rows: Sequence[pb.UsageRow], *, measure: str, days: int, label: str) -> Chart:
    title, value = MEASURES[measure]
    times = days_of(visit, days)
    places = {time: place for place, time in enumerate(times)}
    values: dict[str, list[float]] = {}
    for row in rows:
        place = places.get(row.start_time.ToDatetime(UTC))
        if place is not None:
            values.setdefault(row.values[0], [0.0] * days)[place] += value(row.totals)
    ranked = sorted(values, key=lambda one: sum(values[one]), reverse=True)
    shown = ranked if len(ranked) <= charts.MOST_SERIES else ranked[: charts.MOST_SERIES - 1]
    series = [charts.Series(names_cell(names, one).text, values[one]) for one in shown]
    if len(shown) < len(ranked):
        rest = [sum(values[one][place] for one in ranked[len(shown) :]) for place in range(days)]
        series.append(charts.Series("all others", rest))
    show = (lambda number: words.money(round(number))) if measure == "cost" else charts.compact
    name = f"{title} by day and {label.lower()}"
    picture = charts.columns(name, [f"{time:%m-%d}" for time in times], series, show)
    table = Table(
        "",
        ["Day", *(one.name for one in series)],
        [
            [Cell(f"{time:%Y-%m-%d}"), *(Cell(show(one.values[place]), kind="number") for one in series)]
            for place, time in enumerate(times)
            if any(one.values[place] for one in series)
        ],
        "Nothing was called in this time.",
    )
    return Chart(name, picture, table)


async def usage_csv(visit: Visit) -> Answer:
    """Return the sums by day as a file."""
    by, days = _asked(visit)
    names = await read_names(visit, keys=by == "key")
    daily = await _read(visit, by, days, pb.USAGE_INTERVAL_DAY)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(
        ["day", by, "name", "requests", "succeeded_requests", "refused_requests", "failed_requests", "input_tokens",
         "output_tokens", "cost_micros", "unpriced_requests"]
    )  # fmt: skip
    for row in daily.rows:
        totals = row.totals
        writer.writerow(
            [f"{row.start_time.ToDatetime(UTC):%Y-%m-%d}", plain(row.values[0]),
             plain(names_cell(names, row.values[0]).text), totals.requests, totals.succeeded_requests,
             totals.refused_requests, totals.failed_requests, totals.input_tokens, totals.output_tokens,
             totals.cost_micros, totals.unpriced_requests]
        )  # fmt: skip
    return download(visit.exchange, f"usage-by-{by}.csv", "text/csv; charset=utf-8", text.getvalue().encode())


def plain(text: str) -> str:
    """Return a text that no spreadsheet runs: with an apostrophe before what would be a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _asked(visit: Visit) -> tuple[str, int]:
    by, days = visit.query.get("by", "model"), number(visit.query.get("days"))
    return by if by in _BY else "model", days if days in _DAYS else 30


async def _read(visit: Visit, by: str, days: int, interval: pb.UsageInterval.ValueType) -> pb.GetUsageResponse:
    wanted = usage_pb2.UsageFilter(teams=[visit.query.get("team")] if visit.query.has("team") else [])
    request = pb.GetUsageRequest(
        parent=visit.organization,
        filter=wanted,
        group_by=[pb.UsageGrouping(dimension=_BY[by][0])],
        interval=interval,
        page_size=_ROWS,
    )
    request.start_time.FromDatetime(days_of(visit, days)[0])
    answer: pb.GetUsageResponse = await visit.call(visit.stubs.quota.GetUsage, request)
    return answer
