"""`tokendance audit`: the trail of who changed what, read, checked and exported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import FAILED, USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, data_dir_flag, form_of, print_json, print_rows

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
    heads: Annotated[
        Path | None,
        typer.Option(
            help="A file of the sink: check the chains against the signed heads in it, all chains that it names.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="With --heads: a public key of `audit key`, in PEM; may be repeated.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Check a chain from its start to its end. Exit code 1 where a row was removed, changed or moved.

    Only heads that were kept elsewhere show that a chain was cut, or written anew as a whole.
    """
    from tokendance_cli.audit_heads import check_chain, read_heads, read_keys
    from tokendance_cli.audit_view import chain_of, print_verdict, verdict_document
    from tokendance_cli.node_client import admin_client

    if key and heads is None:
        raise CommandError("--key says who signed heads; name their file with --heads.", exit_code=USAGE)
    kept = {} if heads is None else read_heads(heads)
    chains = sorted(kept) if heads is not None and not organization else [chain_of(organization)]
    if heads is not None and not any(kept.get(chain) for chain in chains):
        raise CommandError(f"The file {heads} has no signed head of what is to be checked.", exit_code=USAGE)
    keys = read_keys(key or [])
    with admin_client(context, data_dir) as client:
        verdicts = [
            check_chain(client.stubs.audit.VerifyAuditChain, chain, kept.get(chain, []), keys) for chain in chains
        ]
    if form_of(context, form) is Format.JSON:
        documents = [verdict_document(one) for one in verdicts]
        print_json(documents[0] if heads is None else documents)
    else:
        for one in verdicts:
            print_verdict(one)
    if not all(one.found.valid for one in verdicts):
        raise typer.Exit(FAILED)


@app.command("key")
def show_key(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="The node's TOML file.", envvar="TOKENDANCE_GATEWAY_CONFIG", show_default=False),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print the public key that heads of this node are checked with, in PEM, without a node. Keep it elsewhere."""
    from tokendance_cli.settings import load_settings
    from tokendance_server.auditing import open_signer
    from tokendance_server.startup import StartupError

    settings = load_settings(config, {"server": {"data_dir": data_dir or data_dir_flag(context)}})
    try:
        signer = open_signer(settings.server, make=False)
    except StartupError as error:
        raise CommandError(str(error)) from error
    typer.echo(signer.public_pem.decode(), nl=False)
    typer.echo(f"It is the key {signer.key_id}.", err=True)


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
