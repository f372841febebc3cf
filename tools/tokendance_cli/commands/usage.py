"""`tokendance usage`: what was used, by whom, of what, when; and every request of it as a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.commands.models import BaseUrl, KeyFile
from tokendance_cli.output import Format, globals_of, print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    invoke_without_command=True,
    help="Show what was used. With TOKENDANCE_API_KEY: by that key; else by all that an administrator may see.",
    epilog="Times are days (2026-11-25), ISO 8601, or how long ago: 90m, 24h, 30d, 4w.",
)


class Form(StrEnum):
    """The forms of usage."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
Organization = Annotated[str, typer.Option(help="Only of this organization: an id or organizations/O.")]
Since = Annotated[str, typer.Option(help="From when on.")]
Until = Annotated[str, typer.Option(help="Until when; none: now.", show_default=False)]
Models = Annotated[list[str] | None, typer.Option("--model", help="Only of this model.", show_default=False)]
Keys = Annotated[list[str] | None, typer.Option("--key", help="Only of this key: a name or an id.", show_default=False)]


@app.callback()
def usage(
    context: typer.Context,
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Group by hour, day or month, and by at most 4 of key, member, team, organization, model, code, "
            "surface, user, client, provider, outcome, label:NAME; apart by commas.",
            show_default=False,
        ),
    ] = None,
    since: Since = "30d",
    until: Until = "",
    models: Models = None,
    keys: Keys = None,
    organization: Organization = "-",
    base_url: BaseUrl = None,
    key_file: KeyFile = None,
    data_dir: DataDir = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="How to print: table, json or csv.", show_default=False)
    ] = None,
) -> None:
    """Show what was used."""
    if context.invoked_subcommand is not None:
        return
    from tokendance_cli import usage_view as view

    words = [word for text in by or [] for word in text.split(",") if word]
    asked = view.question(
        words, organization=organization, since=since, until=until, models=models or [], keys=keys or []
    )
    by_key = organization == "-" and not keys and view.holds_key(context, base_url, key_file, data_dir)
    if by_key:
        parameters = [("by", ",".join(words)), ("since", asked.start_time.ToJsonString())]
        parameters += [("until", asked.end_time.ToJsonString())] if until else []
        report = view.of_key(base_url, key_file, [*parameters, *(("model", one) for one in models or [])])
    else:
        report = view.of_node(context, data_dir, asked, words)
    if form is None:
        form = Form.JSON if globals_of(context).format is Format.JSON else Form.TABLE
    if form is Form.JSON:
        print_json({name: value for name, value in report.items() if name != "next_page_token"})
    elif form is Form.CSV:
        print(view.as_csv(report), end="")
    else:
        heads, rows = view.cells(report, words)
        print_rows(heads, rows, empty=f"Nothing was used since {asked.start_time.ToJsonString()}.")


@app.command("export")
def export(
    context: typer.Context,
    *,
    output: Annotated[
        Path | None, typer.Option(help="The file to write, mode 0600; none: standard output.", show_default=False)
    ] = None,
    since: Since = "30d",
    until: Until = "",
    models: Models = None,
    keys: Keys = None,
    organization: Organization = "-",
    data_dir: DataDir = None,
) -> None:
    """Write one line of JSON for each request, newest first. Asks a node as its administrator."""
    import json

    from google.protobuf.json_format import MessageToDict

    from tokendance.gateway.v1 import quota_service_pb2 as pb
    from tokendance_cli import usage_view as view
    from tokendance_cli.line_files import lines_to
    from tokendance_cli.node_client import admin_client

    asked = view.question([], organization=organization, since=since, until=until, models=models or [], keys=keys or [])
    wanted = pb.ListUsageRecordsRequest(parent=asked.parent, filter=asked.filter, page_size=1000)
    wanted.start_time.CopyFrom(asked.start_time)
    if until:
        wanted.end_time.CopyFrom(asked.end_time)
    with admin_client(context, data_dir) as client, lines_to(output, "requests") as write, _progress() as advance:
        while True:
            page = client.stubs.quota.ListUsageRecords(wanted)
            for record in page.usage_records:
                document = MessageToDict(record, preserving_proto_field_name=True)
                write(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
            advance(len(page.usage_records), page.total_size)
            wanted.page_token = page.next_page_token
            if not page.next_page_token:
                return


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Give what tells how far it is: a bar on standard error where that is a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda count, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("requests", total=None)
        # Only the first page tells how many there are.
        yield lambda count, total: bar.update(task, advance=count, total=total or None)
