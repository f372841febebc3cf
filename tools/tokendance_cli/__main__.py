"""The `tokendance` command: its global options, its commands, and how their failures are shown."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.commands import (
    audit,
    contexts,
    identity,
    incidents,
    journal,
    keys,
    members,
    migrate,
    models,
    organizations,
    policies,
    providers,
    quota,
    requests,
    secrets,
    teams,
    usage,
    webhooks,
)
from tokendance_cli.commands.apply import apply, diff
from tokendance_cli.commands.chat import chat
from tokendance_cli.commands.completion import completion
from tokendance_cli.commands.config import config
from tokendance_cli.commands.console import console
from tokendance_cli.commands.demo_data import demo_data
from tokendance_cli.commands.doctor import doctor
from tokendance_cli.commands.errors import errors
from tokendance_cli.commands.login import login, logout, whoami
from tokendance_cli.commands.serve import serve
from tokendance_cli.commands.status import nodes, routes, status
from tokendance_cli.failures import EXIT_CODES, FAILED, CommandError
from tokendance_cli.output import Format, Globals

DATA_DIR_VARIABLE = "TOKENDANCE_GATEWAY_SERVER__DATA_DIR"

app = typer.Typer(
    name="tokendance",
    help="TokenDance Gateway: run a node, govern its keys, and call models with a key.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    # Tracebacks are for us, not for users; main() prints one line.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"tokendance {version('tokendance-gateway')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    data_dir: Annotated[
        Path, typer.Option(help="The data directory of the node on this machine.", envvar=DATA_DIR_VARIABLE)
    ] = Path(".tokendance"),
    use: Annotated[
        str,
        typer.Option("--context", help="The gateway to speak to over TCP, by its context's name.", show_default=False),
    ] = "",
    form: Annotated[Format, typer.Option("--format", help="How to print: table or json.")] = Format.TABLE,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command's name."""
    context.obj = Globals(data_dir, form, use)


app.command("serve")(serve)
app.add_typer(migrate.app, name="migrate")
app.add_typer(keys.app, name="keys")
app.add_typer(organizations.app, name="organizations")
app.add_typer(teams.app, name="teams")
app.add_typer(members.app, name="members")
app.add_typer(policies.app, name="policies")
app.add_typer(identity.app, name="id")
app.add_typer(contexts.app, name="context")
app.command("console")(console)
app.command("demo-data")(demo_data)
app.command("login")(login)
app.command("logout")(logout)
app.command("whoami")(whoami)
app.add_typer(audit.app, name="audit")
app.add_typer(models.app, name="models")
app.add_typer(providers.app, name="providers")
app.add_typer(secrets.app, name="secrets")
app.add_typer(quota.app, name="quota")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(usage.app, name="usage")
app.add_typer(journal.app, name="journal")
app.add_typer(requests.app, name="requests")
app.command("status")(status)
app.add_typer(incidents.app, name="incidents")
app.add_typer(incidents.maintenance, name="maintenance")
app.command("routes")(routes)
app.command("nodes")(nodes)
app.command("apply")(apply)
app.command("diff")(diff)
app.command("chat")(chat)
app.command("doctor")(doctor)
app.command("config")(config)
app.command("errors")(errors)
app.command("completion")(completion)


def main() -> None:
    """Run the command line; every failure is one line on standard error and an exit code."""
    # gRPC's own lines on standard error would stand beside ours and say the same in its words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # A terminal that cannot show a character shows its number instead of ending the command.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except CommandError as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough, as in `… | head`. Python would complain again while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if os.environ.get("TOKENDANCE_DEBUG"):
            raise
        print(
            f"tokendance: unexpected {type(error).__name__}: {error}\n"
            "  This is a mistake of ours; please report it. TOKENDANCE_DEBUG=1 shows where it happened.",
            file=sys.stderr,
        )
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
