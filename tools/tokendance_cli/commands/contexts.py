"""`tokendance context`: the gateways that administration commands may speak to over TCP, by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

app = typer.Typer(no_args_is_help=True, help="Gateways by name: their address, and who signs people in there.")

Name = Annotated[str, typer.Argument(help="The context's name.")]


@app.command("set")
def set_context(
    name: Name,
    *,
    server: Annotated[
        str | None, typer.Option(help="HOST:PORT of the gateway's gRPC listener.", show_default=False)
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(help="A PEM file of who vouches for it; none: the system's.", show_default=False),
    ] = None,
    plaintext: Annotated[
        bool | None,
        typer.Option("--plaintext/--tls", help="A server on this machine that speaks no TLS.", show_default=False),
    ] = None,
    client_certificate: Annotated[
        Path | None, typer.Option(help="A PEM file that a gateway with a client_ca asks for.", show_default=False)
    ] = None,
    client_key: Annotated[Path | None, typer.Option(help="Its private key, in PEM.", show_default=False)] = None,
    issuer: Annotated[str | None, typer.Option(help="The identity provider's URL.", show_default=False)] = None,
    client_id: Annotated[str | None, typer.Option(help="Who this program is there.", show_default=False)] = None,
    audience: Annotated[
        str | None, typer.Option(help="What its tokens are for: the gateway's audience.", show_default=False)
    ] = None,
    scope: Annotated[str | None, typer.Option(help="The scopes to ask for.", show_default=False)] = None,
    use: Annotated[bool, typer.Option("--use", help="Use it from now on.")] = False,
) -> None:
    """Make a context, or change what is named of one."""
    from tokendance_cli.contexts import Context, Contexts, checked, load, save

    contexts = load()
    before = contexts.known.get(name)
    if before is None and server is None:
        raise CommandError("A new context needs --server HOST:PORT.", exit_code=USAGE)
    values = {
        "server": server,
        "ca": _path(ca),
        "certificate": _path(client_certificate),
        "key": _path(client_key),
        "plaintext": plaintext,
        "issuer": issuer,
        "client_id": client_id,
        "audience": audience,
        "scope": scope,
    }
    given = {key: value for key, value in values.items() if value is not None}
    made = checked(replace(before or Context(name, server or ""), **given))  # type: ignore[arg-type]
    save(Contexts({**contexts.known, name: made}, name if use else contexts.current))
    print(f"Context {name} is set{' and in use' if use else ''}.")


def _path(file: Path | None) -> str | None:
    """Return a file wherever the command is run from; an empty name takes the setting back."""
    if file is None:
        return None
    return "" if str(file) == "." else str(file.absolute())


@app.command("list")
def list_contexts(context: typer.Context, form: FormatOption = None) -> None:
    """List the contexts; the one in use has a star."""
    from dataclasses import asdict

    from tokendance_cli.contexts import load

    contexts = load()
    known = [contexts.known[name] for name in sorted(contexts.known)]
    if form_of(context, form) is Format.JSON:
        print_json([{**asdict(one), "current": one.name == contexts.current} for one in known])
        return
    print_rows(
        ["", "context", "server", "issuer", "client", "ca"],
        [
            ["*" if one.name == contexts.current else "", one.name, one.server, one.issuer, one.client_id, one.ca]
            for one in known
        ],
        empty="There is no context: commands speak to the node of --data-dir.",
    )


@app.command("use")
def use_context(
    name: Annotated[str, typer.Argument(help="The context's name.", show_default=False)] = "",
    none: Annotated[bool, typer.Option("--none", help="Use none: the node of --data-dir again.")] = False,
) -> None:
    """Use a context from now on."""
    from tokendance_cli.contexts import Contexts, load, named, save

    if bool(name) == none:
        raise CommandError("Name a context, or give --none.", exit_code=USAGE)
    current = named(name).name if name else ""
    save(Contexts(load().known, current))
    print(f"Commands speak to {f'the context {current}' if current else 'the node of --data-dir'} from now on.")


@app.command("remove")
def remove_context(name: Name) -> None:
    """Remove a context and what is kept of its sign-in. `tokendance logout` before it ends the session itself."""
    from tokendance_cli.contexts import Contexts, load, named, save
    from tokendance_cli.id_session import forget

    contexts = load()
    gone = named(name).name
    forget(gone)
    known = {one: kept for one, kept in contexts.known.items() if one != gone}
    save(Contexts(known, "" if contexts.current == gone else contexts.current))
    print(f"Context {gone} is removed.")
