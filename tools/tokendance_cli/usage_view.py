"""What was used, as the commands ask for it: over REST with an API key, or of a node as its administrator."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import typer

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance.usage_words import columns, grouping, moment
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.key_request import resource
from tokendance_cli.node_client import admin_client
from tokendance_cli.output import data_dir_flag, globals_of
from tokendance_cli.rest import api_key_of, holder

_PAGE = 10_000


def holds_key(context: typer.Context, base_url: str | None, key_file: Path | None, data_dir: Path | None) -> bool:
    """Tell whether a command asks with an API key: one is there, and no node or context was named by hand."""
    if base_url or key_file:
        return True
    named = data_dir is not None or data_dir_flag(context) is not None or globals_of(context).context
    return not named and bool(api_key_of(None).strip())


def time_of(text: str, option: str) -> datetime:
    """Return a time as typed; raises CommandError."""
    try:
        return moment(text, datetime.now(UTC))
    except (ValueError, OverflowError) as error:
        raise CommandError(f"{option}: {error}", exit_code=USAGE) from None


def of_key(base_url: str | None, key_file: Path | None, parameters: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the whole report of an API key, all pages of it; raises CommandError."""
    caller, token = holder(base_url, key_file), ""
    whole: dict[str, Any] = {}
    while True:
        asked = [*parameters, ("page_size", str(_PAGE)), *([("page_token", token)] if token else [])]
        page = caller.get(f"/usage?{urlencode(asked)}").document
        whole = {**page, "rows": [*whole.get("rows", []), *page["rows"]]}
        token = page["next_page_token"]
        if not token:
            return whole


def of_node(
    context: typer.Context, data_dir: Path | None, request: pb.GetUsageRequest, words: Sequence[str]
) -> dict[str, Any]:
    """Return the whole report of a question, all pages of it; raises CommandError."""
    from tokendance_facade.dialects.usage_reports import report

    rows: list[Any] = []
    request.page_size = _PAGE
    with admin_client(context, data_dir) as client:
        while True:
            answer = client.stubs.quota.GetUsage(request)
            page = report(answer, columns(words))
            rows += page["rows"]
            request.page_token = answer.next_page_token
            if not answer.next_page_token:
                return {**page, "rows": rows}


def question(
    words: Sequence[str], *, organization: str, since: str, until: str, models: Sequence[str], keys: Sequence[str]
) -> pb.GetUsageRequest:
    """Return the question as typed; raises CommandError."""
    request = pb.GetUsageRequest(parent=resource("organizations", organization))
    try:
        groups, request.interval = grouping(words)
    except ValueError as error:
        raise CommandError(f"--by: {error}", exit_code=USAGE) from None
    request.group_by.extend(groups)
    request.filter.models.extend(models)
    request.filter.keys.extend(keys)
    if since:
        request.start_time.FromDatetime(time_of(since, "--since"))
    if until:
        request.end_time.FromDatetime(time_of(until, "--until"))
    return request


def cells(report: dict[str, Any], words: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of a report as people read it: the last row is of the totals."""
    timed = any("start_at" in row for row in report["rows"])
    groups = columns(words)
    heads = [*(["from"] if timed else []), *groups]
    rows = []
    for row in report["rows"]:
        first = [_shown_time(row["start_at"])] if timed else []
        rows.append([*first, *(row[word] or "-" for word in groups), *_amounts(row)])
    if heads and rows:
        rows.append(["total", *[""] * (len(heads) - 1), *_amounts(report["totals"])])
    elif not heads:
        rows = [_amounts(report["totals"])]
    names = ["requests", "refused", "failed", "input tokens", "output tokens", "cost USD", "unpriced", "mean ms"]
    return [*heads, *names], rows


def as_csv(report: dict[str, Any]) -> str:
    """Return the rows of a report as CSV with a head; amounts of money in millionths of a US dollar."""
    rows = report["rows"] or [report["totals"]]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def request_of(
    context: typer.Context,
    data_dir: Path | None,
    *,
    by_key: bool,
    base_url: str | None,
    key_file: Path | None,
    name: str,
) -> dict[str, Any]:
    """Return the record of one request; raises CommandError."""
    if by_key:
        found: dict[str, Any] = holder(base_url, key_file).get(f"/requests/{quote(name)}").document
        return found
    from tokendance_facade.dialects.usage_reports import request

    with admin_client(context, data_dir) as client:
        return request(client.stubs.quota.GetRequest(pb.GetRequestRequest(name=name)).request)


def money(micros: int) -> str:
    """Return an amount in US dollars, of millionths."""
    return f"{Decimal(micros) / 1_000_000:f}"


def _amounts(totals: dict[str, Any]) -> list[str]:
    mean = totals["mean_total_ms"]
    return [
        str(totals["requests"]),
        str(totals["refused_requests"]),
        str(totals["failed_requests"]),
        str(totals["input_tokens"]),
        str(totals["output_tokens"]),
        money(totals["cost_micros"]),
        str(totals["unpriced_requests"]),
        "-" if mean is None else f"{mean:.0f}",
    ]


def _shown_time(text: str) -> str:
    return text.replace("T00:00:00Z", "")


def _safe(value: object) -> object:
    # A spreadsheet would take such a text, which callers choose, for a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value
