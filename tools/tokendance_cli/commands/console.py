"""`tokendance console`: a link that signs somebody in to the console of a node on this machine, once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.announcement import is_local
from tokendance_cli.development_key import RoleName, grant_of, read_development_key, sign_in_link
from tokendance_cli.failures import USAGE, CommandError
from tokendance_cli.output import Format, FormatOption, form_of, globals_of, print_json

DEFAULT_URL = "http://127.0.0.1:8081"


def console(
    context: typer.Context,
    *,
    role: Annotated[RoleName, typer.Option(help="What the person may do.")] = RoleName.PLATFORM_ADMIN,
    organization: Annotated[
        str, typer.Option(help="Where they may do so: an id, or organizations/O.", show_default=False)
    ] = "",
    member: Annotated[
        str, typer.Option(help="Which member they are: an id, or organizations/O/members/M.", show_default=False)
    ] = "",
    url: Annotated[str, typer.Option(help="Where the node's internal listener is.")] = DEFAULT_URL,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)
    ] = None,
    form: FormatOption = None,
) -> None:
    """Print a link that signs one person in to the console: once, within five minutes, on this machine only.

    For a node without an identity provider. Where one is configured, open the console and sign in there.
    """
    from tokendance_server.domain.identity.development import LINK_LIFETIME_S

    if not url.startswith(("http://", "https://")) or not is_local(url):
        raise CommandError("Sign-in links are for this machine: --url is http://127.0.0.1:PORT.", exit_code=USAGE)
    grant, member = grant_of(role, organization, member)
    key = read_development_key(data_dir or globals_of(context).data_dir)
    link = sign_in_link(url, key, grant, member)
    if form_of(context, form) is Format.JSON:
        print_json({"url": link, "expires_in_s": LINK_LIFETIME_S})
    else:
        print(link)
