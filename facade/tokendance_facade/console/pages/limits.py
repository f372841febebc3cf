"""Limits as rows: what is spent and what is held apart, what is left, and when it starts anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from urllib.parse import quote

from markupsafe import Markup

from tokendance.gateway.v1 import quota_pb2, quota_service_pb2
from tokendance_facade import charts
from tokendance_facade.console import words
from tokendance_facade.console.pages.names import Names
from tokendance_facade.console.views import Cell, Table
from tokendance_facade.console.visit import MANAGERS, Visit

COLUMNS = ("Limit", "Spent", "Held by running calls", "Left", "Starts anew", "Runs out at this pace")


def quota_table(visit: Visit, quotas: Sequence[quota_service_pb2.Quota], names: Names, title: str) -> Table:
    """Return the limits of some subjects, one row each."""
    rows = [[_subject(visit, one, names), *cells] for one in quotas for cells in limit_rows(one.limits)]
    return Table(
        title, ["Whose", *COLUMNS], rows, "Nothing limits this.", "The limits of team and organization would show here."
    )


def limit_rows(limits: Iterable[quota_service_pb2.QuotaLimit]) -> list[list[Cell]]:
    """Return limits as rows, without whose they are."""
    return [_row(one) for one in limits]


def _row(limit: quota_service_pb2.QuotaLimit) -> list[Cell]:
    metric = limit.rule.metric
    used = words.share(limit.spent + limit.held, limit.rule.limit)
    return [
        Cell(
            words.rule(limit.rule),
            picture=charts.meter(limit.spent, limit.held, limit.rule.limit),
            hint=f"{used} % used",
        ),
        Cell(words.amount(metric, limit.spent), kind="number"),
        Cell(words.amount(metric, limit.held), kind="number"),
        Cell(words.amount(metric, limit.remaining), kind="number"),
        words.moment(limit, "reset_time"),
        words.moment(limit, "projected_exhaust_time"),
    ]


def _subject(visit: Visit, quota: quota_service_pb2.Quota, names: Names) -> Cell:
    name = subject_name(quota, names)
    href = f"{visit.base}/quota/change?of={quote(quota.subject, safe='')}" if visit.is_any(MANAGERS) else ""
    kind = subject_kind(quota.subject)
    return Cell(name, href=href, hint=kind)


def subject_name(quota: quota_service_pb2.Quota, names: Names) -> str:
    """Return what the subject of limits is called."""
    if quota.display_name or subject_kind(quota.subject) != "organization":
        return quota.display_name or names.of(quota.subject)
    return "The whole organization"


def subject_kind(subject: str) -> str:
    """Return what a subject of limits is."""
    parts = subject.split("/")
    return {"keys": "key", "members": "member", "teams": "team"}.get(parts[2] if len(parts) > 2 else "", "organization")


def burn_downs(
    quotas: Sequence[quota_service_pb2.Quota], names: Names
) -> list[tuple[str, quota_service_pb2.QuotaLimit]]:
    """Return the calendar limits that are used most, with whose they are: at most two."""
    dated = [
        (one, limit)
        for one in quotas
        for limit in one.limits
        if limit.HasField("window_start_time") and limit.HasField("reset_time") and limit.rule.limit > 0
        and limit.rule.window in (quota_pb2.LIMIT_WINDOW_DAY, quota_pb2.LIMIT_WINDOW_MONTH)
    ]  # fmt: skip
    dated.sort(key=lambda pair: pair[1].spent / pair[1].rule.limit, reverse=True)
    return [(subject_name(one, names), limit) for one, limit in dated[:2]]


def burn_down(visit: Visit, limit: quota_service_pb2.QuotaLimit, name: str) -> Markup:
    """Return the picture of one limit: what is left now, and when it runs out."""
    start, end = limit.window_start_time.ToDatetime(UTC), limit.reset_time.ToDatetime(UTC)
    out = limit.projected_exhaust_time.ToDatetime(UTC) if limit.HasField("projected_exhaust_time") else None
    metric = limit.rule.metric
    show = (lambda value: words.money(round(value))) if metric == quota_pb2.LIMIT_METRIC_COST_MICROS else charts.compact
    return charts.burn_down(
        f"What is left of {words.rule(limit.rule)} of {name}",
        [(visit.instant(), float(limit.spent))],
        limit=float(limit.rule.limit),
        start=start,
        end=end,
        exhausted=out,
        show=show,
    )
