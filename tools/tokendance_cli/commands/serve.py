"""`tokendance serve`: a node, or one role of a split one."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, data_dir_flag, form_of, print_json, print_rows

if TYPE_CHECKING:
    from tokendance_cli.preflight.row import Row


class RoleName(StrEnum):
    """What the process is; named here so that `--help` loads nothing of the node."""

    ALL = "all"
    SERVER = "server"
    FACADE = "facade"


class LoopName(StrEnum):
    """Which event loop it runs."""

    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


def serve(
    context: typer.Context,
    *,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the node keeps its data. [default: .tokendance]", show_default=False)
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="REST, for callers. [default: 127.0.0.1:8080]", show_default=False)
    ] = None,
    internal: Annotated[
        str | None,
        typer.Option(help="Metrics and health, never exposed. [default: 127.0.0.1:8081]", show_default=False),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(help="gRPC; empty: none. [default: 127.0.0.1:50051]", show_default=False),
    ] = None,
    grpc_public: Annotated[
        str | None,
        typer.Option(
            help="A second gRPC address, for callers outside: model calls and public views only. [default: none]",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with the tables server and facade and the arrays providers and models.",
            envvar="TOKENDANCE_GATEWAY_CONFIG",
            show_default=False,
        ),
    ] = None,
    role: Annotated[RoleName, typer.Option(help="Everything in one process, or one of its two roles.")] = RoleName.ALL,
    server: Annotated[
        str | None,
        typer.Option(
            help="For role facade: the server, as unix:///PATH or HOST:PORT. [default: the one on --data-dir]",
            show_default=False,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="On the first start write the API key to this file (mode 0600) instead of printing it.",
            show_default=False,
        ),
    ] = None,
    loop: Annotated[LoopName, typer.Option(help="The event loop.")] = LoopName.UVLOOP,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Inspect the configuration and its stores instead: print what is on and what is insecure.",
            show_default=False,
        ),
    ] = False,
    form: FormatOption = None,
) -> None:
    """Run a node until SIGTERM or Ctrl-C: REST, gRPC, metrics and health on loopback, data in --data-dir.

    Flags win over TOKENDANCE_GATEWAY_* variables (such as TOKENDANCE_GATEWAY_SERVER__GRPC), and those over the
    file. The first start makes an organization and an API key, and shows the key once.

    With --check database and Redis are asked too, and nothing is changed anywhere. The exit code is 0 where a node
    would start, insecure or with parts that would not work, and 2 where it would not.
    """
    # Until a node is ready nothing that it makes is garbage, and each search for some would go through all of it.
    gc.disable()
    from tokendance_cli.settings import load_settings

    settings = load_settings(
        config,
        {
            "server": {"data_dir": data_dir or data_dir_flag(context), "grpc": grpc, "grpc_public": grpc_public},
            "facade": {"http": http, "internal": internal, "server": server},
        },
    )
    from tokendance_cli.node import Role

    if check:
        from tokendance_cli.preflight import inspect

        rows = list(inspect(settings, Role(role.value), config=config, key_file=key_file, loop=loop.value))
        _show(rows, as_json=form_of(context, form) is Format.JSON)
        return
    from tokendance_cli.run_node import run

    run(settings, Role(role.value), loop.value, key_file)


def _show(rows: list[Row], *, as_json: bool) -> None:
    """Print what was found; raises CommandError where a node would not start."""
    if as_json:
        print_json([{"part": row.part, "state": str(row.state), "told": row.told, "do": row.do} for row in rows])
    else:
        columns = ["part", "state", "what", "what to do"]
        print_rows(columns, [[row.part, str(row.state), row.told, row.do] for row in rows], empty="There is nothing.")
    counts = Counter(str(row.state) for row in rows)
    if counts["problem"]:
        raise CommandError(
            f"The node would not start: {counts['problem']} of {len(rows)} parts have a problem.", exit_code=USAGE
        )
    print(
        f"The node would start. Broken: {counts['broken']}, insecure: {counts['insecure']} of {len(rows)} parts.",
        file=sys.stderr,
    )
