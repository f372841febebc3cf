"""`tokendance keys`: the view of API keys of who governs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.commands.key_life import (
    DataDir,
    KeyArgument,
    resume_key,
    revoke_key,
    rotate_key,
    suspend_key,
    update_key,
)
from tokendance_cli.commands.key_requests import (
    approve_request,
    deny_request,
    list_requests,
    request_key,
    reveal_key,
)
from tokendance_cli.commands.key_scan import scan_files
from tokendance_cli.commands.leaked_key import leaked_key
from tokendance_cli.failures import USAGE, CommandError, show_request_id
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

app = typer.Typer(
    no_args_is_help=True,
    help="Govern API keys: on the node that runs on --data-dir, without further set-up, or on that of a context.",
)


@app.command("create")
def create_key(
    context: typer.Context,
    *,
    purpose: Annotated[str, typer.Option(help="What the key is for.")],
    owner: Annotated[str, typer.Option(help="The member who owns it: an id, or organizations/O/members/M.")],
    team: Annotated[str, typer.Option(help="The team it belongs to: an id, or organizations/O/teams/T.")],
    rotated_by: Annotated[str, typer.Option(help="The member who rotates it.")],
    rotation_days: Annotated[int, typer.Option(min=1, max=3650, help="How long a secret may live, in days.")],
    inherit_quota: Annotated[
        str,
        typer.Option(
            help="Whose limits alone govern it: team, organization, or a resource name. This or --limit.",
            show_default=False,
        ),
    ] = "",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="A limit of its own, such as requests/minute=60. Repeatable.", show_default=False),
    ] = None,
    allow_model: Annotated[
        list[str] | None, typer.Option(help="A model it may call; none: all. Repeatable.", show_default=False)
    ] = None,
    allow_network: Annotated[
        list[str] | None,
        typer.Option(help="A network it may be used from, in CIDR form; none: any. Repeatable.", show_default=False),
    ] = None,
    expires: Annotated[
        str, typer.Option(help="When it stops working: 90d, 2027-01-31 or a time in ISO 8601.", show_default=False)
    ] = "",
    label: Annotated[list[str] | None, typer.Option(help="A label NAME=VALUE. Repeatable.", show_default=False)] = None,
    organization: Annotated[
        str, typer.Option(help="Its organization; may be left out where there is one only.", show_default=False)
    ] = "",
    request_id: Annotated[
        str, typer.Option(help="Makes a repeat harmless: the same id never makes a second key.", show_default=False)
    ] = "",
    key_file: Annotated[
        Path | None,
        typer.Option(help="Write the secret to this file (mode 0600), not to the output.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Create a key. Its secret is shown once, now."""
    from tokendance import last_request_id
    from tokendance_cli.key_request import key_wanted, organization_of
    from tokendance_cli.key_view import show_minted
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.secret_file import check_writable

    if bool(inherit_quota) == bool(limit):
        raise CommandError("Give --inherit-quota or --limit: one of them, not both.", exit_code=USAGE)
    if key_file is not None:
        check_writable(key_file)
    with admin_client(context, data_dir) as client:
        parent = organization_of(client, organization, owner, team)
        wanted = key_wanted(
            parent,
            purpose=purpose,
            owner=owner,
            team=team,
            rotated_by=rotated_by,
            rotation_days=rotation_days,
            inherit_quota=inherit_quota,
            limits=limit or (),
            models=allow_model or (),
            networks=allow_network or (),
            expires=expires,
            labels=label or (),
        )
        created = client.create_key(parent, wanted, request_id=request_id)
    show_minted(form_of(context, form), created.key, created.secret, key_file, done="made the key")
    show_request_id(last_request_id())


@app.command("list")
def list_keys(
    context: typer.Context,
    *,
    organization: Annotated[str, typer.Option(help="Only keys of this organization.", show_default=False)] = "",
    team: Annotated[str, typer.Option(help="Only keys of this team.", show_default=False)] = "",
    owner: Annotated[str, typer.Option(help="Only keys of this owner.", show_default=False)] = "",
    overdue: Annotated[bool, typer.Option("--overdue", help="Only keys whose rotation is overdue.")] = False,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List keys, newest first."""
    from tokendance_cli.key_request import resource
    from tokendance_cli.key_view import document, last_part, moment, state_of
    from tokendance_cli.node_client import admin_client

    parent = resource("organizations", organization) if organization else "organizations/-"
    with admin_client(context, data_dir) as client:
        keys = list(client.list_keys(parent, team=team, owner=owner, rotation_overdue=overdue, page_size=1000))
    if form_of(context, form) is Format.JSON:
        print_json([document(key) for key in keys])
        return
    print_rows(
        ["key", "state", "secret", "purpose", "owner", "team", "rotated by", "rotation due", "last used"],
        [
            [
                last_part(key.name),
                state_of(key),
                f"{key.secret_prefix}…{key.secret_suffix}",
                key.purpose,
                last_part(key.owner),
                last_part(key.team),
                last_part(key.rotation.responsible),
                moment(key, "rotation.due_time")[:10],
                moment(key, "last_used_time") or "never",
            ]
            for key in keys
        ],
        empty="There is no such key.",
    )


@app.command("show")
def show_key(
    context: typer.Context,
    key: KeyArgument,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show one key, without its secret."""
    from tokendance_cli.key_view import show
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        found = client.get_key(key)
    show(form_of(context, form), found)


app.command("update")(update_key)
app.command("rotate")(rotate_key)
app.command("suspend")(suspend_key)
app.command("resume")(resume_key)
app.command("revoke")(revoke_key)
app.command("request")(request_key)
app.command("requests")(list_requests)
app.command("approve")(approve_request)
app.command("deny")(deny_request)
app.command("reveal")(reveal_key)
app.command("scan")(scan_files)
app.command("leaked")(leaked_key)
