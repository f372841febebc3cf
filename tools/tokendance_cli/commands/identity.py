"""`tokendance id`: tokens of the development issuer, for trying out what people do once they are signed in."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.failures import FAILED, USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, globals_of, print_json

app = typer.Typer(
    no_args_is_help=True,
    help="TokenDance ID: sign in on a node that nobody else reaches, without an identity provider.",
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]


class RoleName(StrEnum):
    """The roles that a token may carry."""

    PLATFORM_ADMIN = "platform_admin"
    ORGANIZATION_ADMIN = "organization_admin"
    MEMBER = "member"
    AUDITOR = "auditor"
    SERVICE = "service"


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
    from tokendance_server.domain.identity.development import LIFETIME_S, DevelopmentKey
    from tokendance_server.domain.identity.roles import Grant

    if organization and "/" not in organization:
        organization = f"organizations/{organization}"
    if member and "/" not in member:
        member = f"{organization}/members/{member}"
    try:
        grant = Grant(role.value, organization)
    except ValueError as error:
        raise CommandError(f"{str(error).capitalize()}.", exit_code=USAGE) from error
    if member and not (organization and member.startswith(f"{organization}/members/")):
        raise CommandError("A member belongs to an organization: name it with --organization.", exit_code=USAGE)
    directory = data_dir or globals_of(context).data_dir
    try:
        key = DevelopmentKey(_read_key(directory))
    except ValueError as error:
        raise CommandError(f"The key of the development issuer in {directory} cannot be used: {error}.") from error
    token = key.sign(grant, SystemClock().now(), member=member, subject=member or "developer")
    if form_of(context, form) is Format.JSON:
        print_json({"token": token, "expires_in_s": LIFETIME_S})
    else:
        print(token)


def _read_key(directory: Path) -> bytes:
    from tokendance_server.domain.identity.development import KEY_FILE

    try:
        return (directory / KEY_FILE).read_bytes()
    except FileNotFoundError as error:
        raise CommandError(
            f"The data directory {directory} has no development issuer.",
            "A node makes its key at start, if it listens on loopback only, has no [server.identity] issuer and no "
            "database_url. Name its directory: `tokendance --data-dir DIR id token …`.",
            exit_code=FAILED,
        ) from error
    except OSError as error:
        raise CommandError(f"The data directory {directory} cannot be read: {error.strerror}.") from error
