"""`tokendance login`, `logout` and `whoami`: a person's or a program's session at the gateway of a context."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.failures import USAGE, CommandError, printable
from tokendance_cli.output import Format, FormatOption, form_of, globals_of, print_json, print_record

if TYPE_CHECKING:
    from tokendance_cli.contexts import Context
    from tokendance_cli.openid import Issuer, Tokens


def login(
    context: typer.Context,
    *,
    device: Annotated[
        bool, typer.Option("--device", help="Sign in on another device with a code; needs no browser here.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
    client_credentials: Annotated[
        bool,
        typer.Option(
            "--client-credentials",
            help="For a program: with TOKENDANCE_ID_CLIENT_SECRET, or with the secret on standard input.",
        ),
    ] = False,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=3600, help="How long to wait, in seconds.")] = 300,
    form: FormatOption = None,
) -> None:
    """Sign in at the gateway of the context in use: by browser, with --device by a code, or as a program."""
    from tokendance_cli.openid import Issuer

    if device and client_credentials:
        raise CommandError("--device and --client-credentials exclude each other.", exit_code=USAGE)
    wanted = _context_in_use(context)
    if client_credentials:
        wanted, tokens = _as_program(wanted)
    else:
        issuer = Issuer(wanted)
        tokens = _by_code(issuer) if device else _by_browser(issuer, browser=not no_browser, patience_s=timeout_s)
        from tokendance_cli.id_session import keep

        keep(wanted, tokens)
    until = datetime.fromtimestamp(tokens.expires_at, UTC)
    if form_of(context, form) is Format.JSON:
        print_json(
            {
                "context": wanted.name,
                "server": wanted.server,
                "subject": tokens.id_claims.get("sub", wanted.client_id if client_credentials else ""),
                "expire_time": until.isoformat(timespec="seconds"),
                "renewable": bool(tokens.refresh_token) or client_credentials,
            }
        )
        return
    who = tokens.id_claims.get("email") or tokens.id_claims.get("sub") or wanted.client_id
    renewed = " and is renewed by itself" if tokens.refresh_token else ""
    print(printable(f"Signed in to {wanted.server} as {who}; the token ends {until:%Y-%m-%d %H:%M} UTC{renewed}."))


def logout(context: typer.Context) -> None:
    """End the session of the context in use, here and at the identity provider."""
    from tokendance_cli.id_session import forget
    from tokendance_cli.openid import Issuer

    wanted = _context_in_use(context)
    refresh_token = forget(wanted.name)
    ended = bool(refresh_token) and bool(wanted.issuer) and Issuer(wanted).revoke(refresh_token)
    print(f"Signed out of {wanted.server}.")
    if refresh_token and not ended:
        print("The identity provider cannot end the session itself; it ends when its time is over.", file=sys.stderr)


def whoami(context: typer.Context, form: FormatOption = None) -> None:
    """Show who the gateway takes you for, and what your roles are."""
    from google.protobuf.json_format import MessageToDict

    from tokendance.gateway.v1 import access_pb2
    from tokendance.gateway.v1 import organizations_service_pb2 as pb
    from tokendance_cli.key_view import utc
    from tokendance_cli.node_client import admin_client

    with admin_client(context) as client:
        caller = client.stubs.organizations.GetCaller(pb.GetCallerRequest()).caller
    if form_of(context, form) is Format.JSON:
        print_json(MessageToDict(caller, preserving_proto_field_name=True))
        return
    kinds = [access_pb2.CallerKind.Name(kind).removeprefix("CALLER_KIND_").lower() for kind in caller.kinds]
    print_record(
        [
            ("you are", caller.name),
            ("name", caller.display_name),
            ("address", caller.email),
            ("roles", ", ".join(kinds)),
            ("member of", ", ".join(one.name.rpartition("/members/")[0] for one in caller.memberships)),
            ("token ends", utc(caller.expire_time) if caller.HasField("expire_time") else ""),
        ]
    )


def _context_in_use(command: typer.Context) -> Context:
    from tokendance_cli.contexts import CONTEXT_VARIABLE, load, named

    asked = globals_of(command).context or os.environ.get(CONTEXT_VARIABLE, "") or load().current
    if not asked:
        raise CommandError(
            "No context is in use, so there is nowhere to sign in.",
            "Make one: `tokendance context set NAME --server HOST:PORT --issuer URL --client-id ID --use`.",
            exit_code=USAGE,
        )
    return named(asked)


def _as_program(wanted: Context) -> tuple[Context, Tokens]:
    from tokendance_cli.id_session import CLIENT_ID_VARIABLE, CLIENT_SECRET_VARIABLE, machine_of, sign_in_machine

    found = machine_of(wanted)
    if found is None:
        secret = "" if sys.stdin.isatty() else sys.stdin.readline().strip()
        if not secret:
            raise CommandError(
                f"The secret of the program is needed: set {CLIENT_SECRET_VARIABLE} (and {CLIENT_ID_VARIABLE}, where "
                "it is not the context's client id), or send it on standard input.",
                exit_code=USAGE,
            )
        found = wanted, secret
    return found[0], sign_in_machine(*found)


def _by_browser(issuer: Issuer, *, browser: bool, patience_s: float) -> Tokens:
    from tokendance_cli.browser_login import sign_in

    def show(url: str) -> None:
        print(f"Sign in with a browser on this machine:\n\n  {url}\n", file=sys.stderr, flush=True)

    return sign_in(issuer, show, browser=browser, patience_s=patience_s)


def _by_code(issuer: Issuer) -> Tokens:
    grant = issuer.begin_device()
    print(
        printable(
            f"On any device, open\n\n  {grant.verification_uri}\n\nand enter the code  {grant.user_code}\n\n"
            f"(or open {grant.verification_uri_complete})"
        ),
        file=sys.stderr,
        flush=True,
    )
    return issuer.await_device(grant)
