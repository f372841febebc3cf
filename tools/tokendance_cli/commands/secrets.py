"""`tokendance secrets`: what protects keys and credentials at rest, what is in use of it, and how it is replaced."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import FAILED, CommandError
from tokendance_cli.output import Format, FormatOption, data_dir_flag, form_of, print_json, print_rows

if TYPE_CHECKING:
    from tokendance_server.config import ServerConfig

app = typer.Typer(
    no_args_is_help=True,
    help="Look after the pepper of keys' digests and the ring that seals providers' credentials, without a node.",
)


class SecretName(StrEnum):
    """The two kinds of secret."""

    PEPPER = "pepper"
    RING = "ring"


DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option(help="The node's TOML file.", envvar="TOKENDANCE_GATEWAY_CONFIG", show_default=False),
]
Which = Annotated[SecretName, typer.Argument(help="`pepper` or `ring`.")]


@app.command("status")
def show_status(
    context: typer.Context, *, config: Config = None, data_dir: DataDir = None, form: FormatOption = None
) -> None:
    """List peppers and keys of the ring by id, and how much was made under each.

    Exit code 1 where something was made under one that this node has not: it would not start.
    """
    from tokendance_server.secret_upkeep import report
    from tokendance_server.startup import StartupError

    try:
        rows = asyncio.run(report(_server(context, config, data_dir), datetime.now(UTC)))
    except StartupError as error:
        raise CommandError(str(error)) from error
    if form_of(context, form) is Format.JSON:
        print_json(
            [
                {"kind": row.kind, "id": row.id, "in_force": row.in_force, "here": row.here, "uses": row.uses}
                for row in rows
            ]
        )
    else:
        told = {"pepper": "secrets of keys", "ring": "credentials"}
        print_rows(
            ["kind", "id", "state", "in use by"],
            [[row.kind, row.id, _state(row.in_force, row.here), f"{row.uses} {told[row.kind]}"] for row in rows],
            empty="There is none.",
        )
    if any(not row.here for row in rows):
        raise typer.Exit(FAILED)


@app.command("rotate")
def rotate_secret(context: typer.Context, which: Which, config: Config = None, data_dir: DataDir = None) -> None:
    """Put a new secret in force and keep the old one for what was made under it. Restart the node afterwards.

    Keys go on working: each is digested anew at its next use. Credentials are sealed anew at the start.
    """
    from tokendance_server.secret_upkeep import Kind, rotate
    from tokendance_server.startup import StartupError

    try:
        made = rotate(_server(context, config, data_dir), Kind(which.value))
    except StartupError as error:
        raise CommandError(str(error)) from error
    print(f"{made} is the {which.value} in force from the next start of the node; the one before is kept.")
    print("Restart the node, and later remove what is not needed any more with `tokendance secrets prune`.")


@app.command("prune")
def prune_secrets(context: typer.Context, which: Which, config: Config = None, data_dir: DataDir = None) -> None:
    """Remove the secrets of a data directory that are not in force and under which nothing is left."""
    from tokendance_server.secret_upkeep import Kind, prune
    from tokendance_server.startup import StartupError

    try:
        gone = asyncio.run(prune(_server(context, config, data_dir), Kind(which.value), datetime.now(UTC)))
    except StartupError as error:
        raise CommandError(str(error)) from error
    print(f"Removed: {', '.join(gone)}." if gone else "Nothing to remove: every one is in force or in use.")


def _server(context: typer.Context, config: Path | None, data_dir: Path | None) -> ServerConfig:
    from tokendance_cli.settings import load_settings

    return load_settings(config, {"server": {"data_dir": data_dir or data_dir_flag(context)}}).server


def _state(in_force: bool, here: bool) -> str:
    if not here:
        return "missing here"
    return "in force" if in_force else "kept for what is old"
