"""`tokendance audit`: the trail of who changed what, read, checked and exported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import FAILED
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_record, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokendance.gateway.v1 import audit_service_pb2 as pb

app = typer.Typer(
    no_args_is_help=True,
    help="Read and check the audit trail of a node: every change, by whom, from where.",
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
Chain = Annotated[
    str,
    typer.Option("--organization", help="Its chain; none: the platform's.", show_default=False),
]
Actor = Annotated[str, typer.Option(help="Only what this caller did.", show_default=False)]
Action = Annotated[str, typer.Option(help="Only this action, such as key.rotate, or key. for all.", show_default=False)]
Resource = Annotated[str, typer.Option(help="Only upon this resource and those below it.", show_default=False)]
Request = Annotated[str, typer.Option(help="Only by the request of this id.", show_default=False)]
Since = Annotated[str, typer.Option(help="Only from this time on, in ISO 8601.", show_default=False)]
Until = Annotated[str, typer.Option(help="Only before this time, in ISO 8601.", show_default=False)]


@app.command("list")
def list_events(
    context: typer.Context,
    *,
    organization: Annotated[str, typer.Option(help="Only of this organization.", show_default=False)] = "",
    platform: Annotated[bool, typer.Option("--platform", help="Only of the platform itself.")] = False,
    actor: Actor = "",
    action: Action = "",
    resource: Resource = "",
    request: Request = "",
    since: Since = "",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List events, newest first."""
    from tokendance.gateway.v1 import audit_service_pb2 as pb
    from tokendance_cli.audit_view import document, filter_of, row
    from tokendance_cli.key_request import resource as name_of
    from tokendance_cli.node_client import admin_client

    parent = name_of("organizations", organization) if organization else "organizations/-"
    wanted = pb.ListAuditEventsRequest(parent="platform" if platform else parent, page_size=limit)
    wanted.filter.CopyFrom(filter_of(actor, action, resource, request, since=since, until=until))
    with admin_client(context, data_dir) as client:
        events = client.stubs.audit.ListAuditEvents(wanted).audit_events
    if form_of(context, form) is Format.JSON:
        print_json([document(event) for event in events])
        return
    columns = ["time", "chain", "actor", "source", "action", "resource", "request", "reason"]
    print_rows(columns, [row(event) for event in events], empty="There is no such event.")


@app.command("verify")
def verify_chain(
    context: typer.Context,
    *,
    organization: Chain = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Check a chain from its start to its end. Exit code 1 where a row was removed, changed or moved."""
    from google.protobuf.json_format import MessageToDict

    from tokendance.gateway.v1 import audit_service_pb2 as pb
    from tokendance_cli.audit_view import chain_of
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        found = client.stubs.audit.VerifyAuditChain(pb.VerifyAuditChainRequest(parent=chain_of(organization)))
    if form_of(context, form) is Format.JSON:
        print_json(MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))
    else:
        print_record(
            [
                ("chain", chain_of(organization)),
                ("verdict", "whole" if found.valid else "BROKEN"),
                ("checked", str(found.checked_count)),
                ("head", f"{found.head.sequence} {found.head.digest.hex()}"),
                ("first break", found.first_break.message),
                ("event", found.first_break.event),
            ]
        )
    if not found.valid:
        raise typer.Exit(FAILED)


@app.command("export")
def export_events(
    context: typer.Context,
    *,
    organization: Chain = "",
    output: Annotated[
        Path | None, typer.Option(help="The file to write, mode 0600; none: standard output.", show_default=False)
    ] = None,
    actor: Actor = "",
    action: Action = "",
    resource: Resource = "",
    request: Request = "",
    since: Since = "",
    until: Until = "",
    after: Annotated[int, typer.Option(min=0, help="Only after this place, to go on with an export.")] = 0,
    data_dir: DataDir = None,
) -> None:
    """Write events as JSON lines, oldest first. The export is an event itself."""
    from tokendance.gateway.v1 import audit_service_pb2 as pb
    from tokendance_cli.audit_view import chain_of, filter_of, line
    from tokendance_cli.line_files import lines_to
    from tokendance_cli.node_client import admin_client

    wanted = pb.ExportAuditEventsRequest(parent=chain_of(organization), after_sequence=after)
    wanted.filter.CopyFrom(filter_of(actor, action, resource, request, since=since, until=until))
    head: pb.AuditChainHead | None = None
    with (
        admin_client(context, data_dir) as client,
        lines_to(output, "events") as write,
        _progress() as advance,
    ):
        for part in client.stubs.audit.ExportAuditEvents(wanted):
            for event in part.audit_events:
                write(line(event))
            advance(len(part.audit_events), part.total_size)
            head = part.head if part.HasField("head") else head
    if head is not None:
        typer.echo(f"The chain ended at {head.sequence} with the digest {head.digest.hex()}.", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Give what tells how far it is: a bar on standard error where that is a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda count, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("events", total=None)
        yield lambda count, total: bar.update(task, advance=count, total=total)
