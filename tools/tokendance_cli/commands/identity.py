"""`tokendance id`: tokens of the development issuer, for trying out what people do once they are signed in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.development_key import RoleName, grant_of, read_development_key
from tokendance_cli.output import Format, FormatOption, form_of, globals_of, print_json

app = typer.Typer(
    no_args_is_help=True,
    help="TokenDance ID: sign in on a node that nobody else reaches, without an identity provider.",
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]


@app.command("token")
def print_token(
    context: typer.Context,
    *,
    role: Annotated[RoleName, typer.Option(help="What the bearer may do.")],
    organization: Annotated[
        str, typer.Option(help="Where it may do so: an id, or organizations/O.", show_default=False)
    ] = "",
    member: Annotated[
        str, typer.Option(help="Which member the bearer is: an id, or organizations/O/members/M.", show_default=False)
    ] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Print an access token that is good for 15 minutes, signed with the key in the data directory.

    A node takes it only while it listens on loopback alone, keeps its own database and has no other issuer.
    """
    from tokendance_server.domain.clock import SystemClock
    from tokendance_server.domain.identity.development import LIFETIME_S

    grant, member = grant_of(role, organization, member)
    key = read_development_key(data_dir or globals_of(context).data_dir)
    token = key.sign(grant, SystemClock().now(), member=member, subject=member or "developer")
    if form_of(context, form) is Format.JSON:
        print_json({"token": token, "expires_in_s": LIFETIME_S})
    else:
        print(token)
