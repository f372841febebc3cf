"""`tokendance webhooks`: where warnings about quotas go, listed, created, changed, given new secrets and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import USAGE, CommandError, show_request_id
from tokendance_cli.output import Format, FormatOption, form_of
from tokendance_cli.tenant_words import DataDir, Etag, Of, RequestId, Yes

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from tokendance.gateway.v1 import quota_service_pb2 as pb

app = typer.Typer(no_args_is_help=True, help="Send warnings about quotas to programs, by signed HTTP calls.")

Webhook = Annotated[str, typer.Argument(help="organizations/O/webhooks/W.", metavar="WEBHOOK")]
Percents = Annotated[
    list[int] | None,
    typer.Option("--percent", help="A threshold from 1 to 1000; else 80 and 100. Repeatable.", show_default=False),
]
Subjects = Annotated[
    list[str] | None,
    typer.Option("--subject", help="Only of this subject and below, a resource name. Repeatable.", show_default=False),
]


@app.command("list")
def list_webhooks(
    context: typer.Context,
    *,
    organization: Annotated[str, typer.Option(help="Only those of this organization.", show_default=False)] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List webhooks and how their calls fare."""
    from tokendance.gateway.v1 import quota_service_pb2 as pb
    from tokendance_cli.key_request import resource
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_view import every, show_rows

    with admin_client(context, data_dir) as client:
        request = pb.ListWebhooksRequest(parent=resource("organizations", organization or "-"))
        found = every(client.stubs.quota.ListWebhooks, request, "webhooks")
    columns = ["webhook", "display name", "url", "percent", "state", "last taken", "failures in a row", "last failure"]
    show_rows(form_of(context, form), found, columns, [_row(one) for one in found])


@app.command("create")
def create_webhook(
    context: typer.Context,
    *,
    display_name: Annotated[str, typer.Option(help="What people read, once in an organization.")],
    url: Annotated[str, typer.Option(help="The https address that is called.")],
    organization: Of = "",
    percent: Percents = None,
    subject: Subjects = None,
    request_id: RequestId = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Create a webhook. Its secret is shown once, now."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import quota_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import organization_of

    wanted = pb.Webhook(
        display_name=display_name,
        url=url,
        events=[pb.WEBHOOK_EVENT_QUOTA_THRESHOLD],
        threshold_percents=percent or (),
        subjects=subject or (),
    )
    with admin_client(context, data_dir) as client:
        parent = organization_of(client, organization)
        request = pb.CreateWebhookRequest(parent=parent, webhook=wanted, request_id=request_id)
        made = client.stubs.quota.CreateWebhook(request)
    _show(form_of(context, form), made.webhook, made.secret)
    show_request_id(last_request_id())


@app.command("update")
def update_webhook(
    context: typer.Context,
    webhook: Webhook,
    *,
    display_name: Annotated[str, typer.Option(help="What people read.", show_default=False)] = "",
    url: Annotated[str, typer.Option(help="The https address that is called.", show_default=False)] = "",
    percent: Percents = None,
    subject: Subjects = None,
    all_subjects: Annotated[bool, typer.Option("--all-subjects", help="Of the whole organization again.")] = False,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Send nothing, or send again.", show_default=False)
    ] = None,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Change what is said of a webhook; what is not named stays, and so does its secret."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import quota_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    given = {
        "display_name": bool(display_name),
        "url": bool(url),
        "threshold_percents": bool(percent),
        "subjects": bool(subject) or all_subjects,
        "disabled": disabled is not None,
    }
    paths = [path for path, is_given in given.items() if is_given]
    if not paths:
        raise CommandError("Name what to change.", "See `webhooks update --help`.", exit_code=USAGE)
    if subject and all_subjects:
        raise CommandError("--subject and --all-subjects exclude each other.", exit_code=USAGE)
    wanted = pb.Webhook(
        name=webhook,
        display_name=display_name,
        url=url,
        threshold_percents=percent or (),
        subjects=subject or (),
        disabled=bool(disabled),
    )
    with admin_client(context, data_dir) as client:
        stub = client.stubs.quota
        wanted.etag = etag or stub.GetWebhook(pb.GetWebhookRequest(name=webhook)).webhook.etag
        request = pb.UpdateWebhookRequest(webhook=wanted)
        request.update_mask.paths.extend(paths)
        changed = stub.UpdateWebhook(request).webhook
    _show(form_of(context, form), changed)
    show_request_id(last_request_id())


@app.command("rotate")
def rotate_webhook(
    context: typer.Context,
    webhook: Webhook,
    *,
    overlap_hours: Annotated[
        int, typer.Option(help="How long the old secret signs, too, in hours; 0 ends it at once.", min=0, max=720)
    ] = 24,
    etag: Etag = "",
    request_id: RequestId = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Give a webhook a new secret, shown once, now. Calls are signed with both until the overlap ends."""
    from google.protobuf.duration_pb2 import Duration

    from tokendance import last_request_id
    from tokendance.gateway.v1 import quota_service_pb2 as pb
    from tokendance_cli.node_client import admin_client

    overlap = Duration(seconds=overlap_hours * 3600)
    request = pb.RotateWebhookSecretRequest(name=webhook, overlap=overlap, etag=etag, request_id=request_id)
    with admin_client(context, data_dir) as client:
        changed = client.stubs.quota.RotateWebhookSecret(request)
    _show(form_of(context, form), changed.webhook, changed.secret)
    show_request_id(last_request_id())


@app.command("delete")
def delete_webhook(
    context: typer.Context, webhook: Webhook, *, etag: Etag = "", yes: Yes = False, data_dir: DataDir = None
) -> None:
    """Delete a webhook, and what waits for it."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import quota_service_pb2 as pb
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.tenant_words import agree

    with admin_client(context, data_dir) as client:
        stub = client.stubs.quota
        kept = stub.GetWebhook(pb.GetWebhookRequest(name=webhook)).webhook
        agree(f"The webhook {kept.display_name} ({kept.name}) is deleted.", yes=yes)
        stub.DeleteWebhook(pb.DeleteWebhookRequest(name=kept.name, etag=etag or kept.etag))
    typer.echo(f"The webhook {kept.name} is deleted.", err=True)
    show_request_id(last_request_id())


def _row(one: pb.Webhook) -> list[str]:
    return [
        one.name,
        one.display_name,
        one.url,
        _percents(one),
        "disabled" if one.disabled else "enabled",
        _time(one.last_success_time) if one.HasField("last_success_time") else "",
        str(one.consecutive_failures),
        one.last_failure,
    ]


def _show(form: Format, one: pb.Webhook, secret: str = "") -> None:
    from tokendance_cli.output import print_json, print_record
    from tokendance_cli.tenant_view import document

    if form is Format.JSON:
        print_json(document(one) | ({"secret": secret} if secret else {}))
        return
    pairs = [
        ("webhook", one.name),
        ("display name", one.display_name),
        ("url", one.url),
        ("percent", _percents(one)),
        ("subjects", ", ".join(one.subjects) or "all"),
        ("state", "disabled" if one.disabled else "enabled"),
        ("etag", one.etag),
    ]
    if one.HasField("old_secret_expire_time"):
        pairs.append(("old secret signs until", _time(one.old_secret_expire_time)))
    if secret:
        pairs.append(("secret, shown this once", secret))
    print_record(pairs)


def _percents(one: pb.Webhook) -> str:
    return ", ".join(map(str, one.threshold_percents))


def _time(moment: Timestamp) -> str:
    return str(moment.ToJsonString())
