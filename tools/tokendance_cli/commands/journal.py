"""`tokendance journal`: what a usage journal holds, and how a dead node's reaches the database."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.failures import FAILED, CommandError
from tokendance_cli.output import Format, FormatOption, data_dir_flag, form_of, globals_of, print_json, print_record

app = typer.Typer(
    no_args_is_help=True,
    help="Look after journals of usage. A node that starts again reads its own; these are for nodes that never will.",
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option(
        help="The node's TOML file, for server.database_url.", envvar="TOKENDANCE_GATEWAY_CONFIG", show_default=False
    ),
]


@app.command("status")
def show_status(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Argument(help="A node's data directory; left out: this node's.", show_default=False)
    ] = None,
    *,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show what a journal holds that is not in the database yet, and whether a process writes it. Changes nothing."""
    from tokendance_server.journal_upkeep import status
    from tokendance_server.startup import StartupError

    try:
        found = status(directory or data_dir or globals_of(context).data_dir)
    except StartupError as error:
        raise CommandError(str(error)) from error
    if form_of(context, form) is Format.JSON:
        print_json({**asdict(found), "folder": str(found.folder)})
        return
    print_record(
        [
            ("journal", str(found.folder)),
            ("written by", "a process that runs" if found.in_use else "nobody now"),
            ("files", f"{found.files}, {found.size} bytes"),
            ("ended", f"{found.finished} requests"),
            ("running", f"{found.running} requests{'' if found.in_use else ' of a process that died'}"),
            ("torn files", str(found.torn) if found.torn else ""),
            ("put aside", f"{found.aside} requests that the database never took" if found.aside else ""),
        ]
    )


@app.command("adopt")
def adopt_journal(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="The data directory of a node that is dead.")],
    *,
    config: Config = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Bring a dead node's usage into the database and clear its journal. A repeat counts nothing twice.

    Requests that ran when it died are charged by estimate. Refused while a process still writes the journal, and, on a
    SQLite file, while a node runs on it. Exit code 1 then, and where the database never takes some of the requests.
    """
    from tokendance_cli.settings import load_settings
    from tokendance_server.journal_upkeep import adopt
    from tokendance_server.startup import StartupError

    settings = load_settings(config, {"server": {"data_dir": data_dir or data_dir_flag(context)}})
    try:
        done = asyncio.run(adopt(settings.server, directory))
    except StartupError as error:
        raise CommandError(str(error)) from error
    if form_of(context, form) is Format.JSON:
        print_json(asdict(done))
    else:
        print_record(
            [
                ("requests", str(done.total)),
                ("new", str(done.new)),
                ("by estimate", f"{done.unknown} that ran when the node died" if done.unknown else ""),
                (
                    "put aside",
                    f"{done.refused} that the database never takes: see refused.jsonl" if done.refused else "",
                ),
            ]
        )
    if done.refused:
        raise typer.Exit(FAILED)
