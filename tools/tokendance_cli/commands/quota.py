"""`tokendance quota`: what subjects may use, how much of it is spent and held, and when it starts anew."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from tokendance import Client
    from tokendance.gateway.v1 import quota_pb2
    from tokendance.gateway.v1 import quota_service_pb2 as pb

app = typer.Typer(
    no_args_is_help=True,
    help="Limit what organizations, teams, members and keys use, and see how that stands.",
    epilog="SUBJECT is a resource name such as organizations/O/teams/T, or an id such as key_….",
)


class Metric(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input-tokens"
    OUTPUT_TOKENS = "output-tokens"
    TOTAL_TOKENS = "total-tokens"
    COST = "cost"
    CONCURRENT_REQUESTS = "concurrent-requests"


class Window(StrEnum):
    """In what time."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
Subject = Annotated[str, typer.Argument(help="A resource name or an id: of an organization, team, member or key.")]
MetricOption = Annotated[Metric, typer.Option(help="What is counted; cost is in US dollars.")]
WindowOption = Annotated[
    Window | None,
    typer.Option(help="In what time; minute slides, hour, day and month are in UTC.", show_default=False),
]
Soft = Annotated[bool, typer.Option("--soft", help="Only warn.")]
Model = Annotated[str, typer.Option("--model", help="Only calls of this public model.", show_default=False)]


@app.command("set")
def set_limit(
    context: typer.Context,
    subject: Subject,
    *,
    metric: MetricOption,
    limit: Annotated[str, typer.Option(help="How much: a whole number, or for cost an amount such as 25.50.")],
    window: WindowOption = None,
    soft: Soft = False,
    model: Model = "",
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.", show_default=False)] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Set one limit of a subject, or change it. Its other limits stay; what is spent and held stays, too."""
    from tokendance_cli.limits import parse_limit

    text = f"{metric.value}{f'/{window.value}' if window else ''}={limit}"
    rule = parse_limit(",".join([text, *(["soft"] if soft else []), *([f"model={model}"] if model else [])]))
    _change(context, subject, rule, reason=reason, data_dir=data_dir, form=form)


@app.command("unset")
def unset_limit(
    context: typer.Context,
    subject: Subject,
    *,
    metric: MetricOption,
    window: WindowOption = None,
    soft: Soft = False,
    model: Model = "",
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.", show_default=False)] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Lift one limit of a subject. Exit code 1 where it has no such limit."""
    from tokendance_cli.limits import parse_limit

    text = f"{metric.value}{f'/{window.value}' if window else ''}=0"
    rule = parse_limit(",".join([text, *(["soft"] if soft else []), *([f"model={model}"] if model else [])]))
    _change(context, subject, rule, lift=True, reason=reason, data_dir=data_dir, form=form)


@app.command("show")
def show_quota(
    context: typer.Context,
    subject: Subject,
    *,
    above: Annotated[
        bool, typer.Option("--above", help="Also the quotas above it: owner, team, organization.")
    ] = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show the limits of a subject: what is spent, held and left of each, and when it starts anew."""
    from tokendance.gateway.v1 import quota_service_pb2
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        request = quota_service_pb2.GetQuotaRequest(subject=subject, include_inherited=above)
        found = client.stubs.quota.GetQuota(request)
    _print([found.quota, *found.inherited], form_of(context, form), f"{subject} has no limits of its own.")


@app.command("list")
def list_quotas(
    context: typer.Context,
    *,
    organization: Annotated[
        str, typer.Option(help="Only of this organization: an id or organizations/O.", show_default=False)
    ] = "-",
    used: Annotated[int, typer.Option(help="Only limits of which so many percent are used.", min=0, max=1000)] = 0,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List every limit that is set."""
    from tokendance.gateway.v1 import quota_service_pb2
    from tokendance_cli.node_client import admin_client

    parent = f"organizations/{organization.removeprefix('organizations/')}"
    request = quota_service_pb2.ListQuotasRequest(parent=parent, page_size=1000, used_percent=used)
    found: list[pb.Quota] = []
    with admin_client(context, data_dir) as client:
        while True:
            page = client.stubs.quota.ListQuotas(request)
            found += page.quotas
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
    _print(found, form_of(context, form), "There are no limits; `tokendance quota set` makes some.")


def _change(
    context: typer.Context,
    subject: str,
    rule: quota_pb2.LimitRule,
    *,
    reason: str,
    data_dir: Path | None,
    form: Format | None,
    lift: bool = False,
) -> None:
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        changed = _replaced(client, subject, rule, lift=lift, reason=reason)
    _print([changed], form_of(context, form), f"{subject} has no limits of its own any more.")


def _replaced(client: Client, subject: str, rule: quota_pb2.LimitRule, *, lift: bool, reason: str) -> pb.Quota:
    """Put one limit in the place of that of its kind, under the etag that was read."""
    from tokendance.gateway.v1 import quota_service_pb2

    kept = client.stubs.quota.GetQuota(quota_service_pb2.GetQuotaRequest(subject=subject)).quota
    others = [one for one in kept.limits if not _same_kind(one.rule, rule)]
    if lift and len(others) == len(kept.limits):
        from tokendance_cli.limits import limit_text

        raise CommandError(f"{subject} has no limit {limit_text(rule).partition('=')[0]}.", "See `quota show`.")
    wanted = quota_service_pb2.Quota(subject=kept.subject, etag=kept.etag)
    wanted.limits.extend(quota_service_pb2.QuotaLimit(rule=one.rule) for one in others)
    if not lift:
        wanted.limits.append(quota_service_pb2.QuotaLimit(rule=rule))
    changed: pb.Quota = client.stubs.quota.SetQuota(
        quota_service_pb2.SetQuotaRequest(quota=wanted, reason=reason)
    ).quota
    return changed


def _same_kind(one: quota_pb2.LimitRule, other: quota_pb2.LimitRule) -> bool:
    return (one.metric, one.window, one.model, one.soft) == (other.metric, other.window, other.model, other.soft)


def _print(quotas: list[pb.Quota], form: Format, empty: str) -> None:
    if form is Format.JSON:
        from google.protobuf.json_format import MessageToDict

        print_json([MessageToDict(one, preserving_proto_field_name=True) for one in quotas])
        return
    print_rows(
        ["subject", "limit", "spent", "held", "left", "starts anew"],
        [_row(quota, limit) for quota in quotas for limit in quota.limits],
        empty=empty,
    )


def _row(quota: pb.Quota, limit: pb.QuotaLimit) -> list[str]:
    from tokendance.gateway.v1 import quota_pb2
    from tokendance_cli.limits import limit_text

    money = limit.rule.metric == quota_pb2.LIMIT_METRIC_COST_MICROS

    def amount(number: int) -> str:
        return f"{Decimal(number) / 1_000_000:f}" if money else str(number)

    reset = _time(limit.reset_time) if limit.HasField("reset_time") else ""
    return [
        quota.subject,
        limit_text(limit.rule),
        amount(limit.spent),
        amount(limit.held),
        amount(limit.remaining),
        reset,
    ]


def _time(moment: Timestamp) -> str:
    return str(moment.ToJsonString())
