"""`tokendance migrate`: the schema of the node's database, as it is, as it should be, and brought there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokendance_cli.failures import FAILED, CommandError
from tokendance_cli.output import Format, FormatOption, data_dir_flag, form_of, print_json, print_record, print_rows

if TYPE_CHECKING:
    from tokendance_server.config import ServerConfig
    from tokendance_server.schema_upkeep import SchemaReport

app = typer.Typer(
    no_args_is_help=True,
    help="Look after the schema of the database: PostgreSQL by these commands only, a SQLite file also at start.",
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
    context: typer.Context, *, config: Config = None, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """Show the schema and the nodes that serve it now. Exit code 1 where this version may not serve on it."""
    from tokendance_server.schema_upkeep import report
    from tokendance_server.stores.migrations.state import Verdict

    found = _run(context, report, config, data_dir)
    if form_of(context, form) is Format.JSON:
        print_json(_document(found))
    else:
        print_record(_record(found))
    if found.verdict in (Verdict.BEHIND, Verdict.REFUSED):
        raise typer.Exit(FAILED)


@app.command("plan")
def show_plan(
    context: typer.Context, *, config: Config = None, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """List the migrations that `apply` would run, and change nothing. Exit code 1 for a schema that is too new."""
    from tokendance_server.schema_upkeep import plan

    _show_steps(_run(context, plan, config, data_dir), form_of(context, form))


@app.command("apply")
def apply_all(
    context: typer.Context, *, config: Config = None, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """Bring the schema up to date, all or nothing. Two at once wait for each other; a repeat does nothing.

    Exit code 1 where that cannot be done, and for a schema that is too new for this version.
    """
    from tokendance_server.schema_upkeep import apply

    _show_steps(_run(context, apply, config, data_dir), form_of(context, form))


def _run(
    context: typer.Context,
    act: Callable[[ServerConfig], Coroutine[Any, Any, SchemaReport]],
    config: Path | None,
    data_dir: Path | None,
) -> SchemaReport:
    from tokendance_cli.settings import load_settings
    from tokendance_server.startup import StartupError

    settings = load_settings(config, {"server": {"data_dir": data_dir or data_dir_flag(context)}})
    try:
        return asyncio.run(act(settings.server))
    except StartupError as error:
        raise CommandError(str(error)) from error


def _show_steps(found: SchemaReport, form: Format) -> None:
    if form is Format.JSON:
        print_json([{"migration": number, "does": what} for number, what in found.pending])
    else:
        empty = f"Nothing to do: the schema of {found.place} is {_said(found)}."
        print_rows(["migration", "does"], found.pending, empty=empty)


def _said(found: SchemaReport) -> str:
    from tokendance_server.stores.migrations.state import Verdict

    return {
        Verdict.CURRENT: "up to date",
        Verdict.BEHIND: "to be migrated: run `tokendance migrate apply`",
        Verdict.SERVED: "a newer one, on which this version may serve",
        Verdict.REFUSED: "a newer one, on which this version may not serve",
    }[found.verdict]


def _record(found: SchemaReport) -> list[tuple[str, str]]:
    from tokendance_server.stores.migrations import HEAD
    from tokendance_server.stores.migrations.state import running_version

    return [
        ("database", found.place),
        ("schema", f"{found.state.revision or 'none'}, {_said(found)}"),
        ("serves", f"{found.state.oldest_code_version} or newer" if found.state.oldest_code_version else ""),
        ("this version", f"{running_version()}, which knows schema {HEAD}"),
        *(
            ("node", f"{one.node_id}, version {one.code_version}, seen {one.silent_s:.0f} s ago")
            for one in found.holders
        ),
    ]


def _document(found: SchemaReport) -> dict[str, object]:
    from tokendance_server.stores.migrations import HEAD
    from tokendance_server.stores.migrations.state import running_version

    return {
        "database": found.place,
        "schema": found.state.revision,
        "state": found.verdict.value,
        "oldest_code_version": found.state.oldest_code_version,
        "code_version": running_version(),
        "code_schema": HEAD,
        "pending": [{"migration": number, "does": what} for number, what in found.pending],
        "nodes": [
            {
                "node": one.node_id,
                "code_version": one.code_version,
                "shared": one.shared,
                "start_time": one.start_time.isoformat(),
                "silent_s": round(one.silent_s, 1),
            }
            for one in found.holders
        ],
    }
