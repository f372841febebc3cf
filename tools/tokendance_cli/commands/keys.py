"""`tokendance keys`: the operator's view of API keys, over the running node's own socket."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokendance_cli.failures import USAGE, CommandError, show_request_id
from tokendance_cli.output import Format, FormatOption, form_of, globals_of, print_json, print_record, print_rows

if TYPE_CHECKING:
    from tokendance.gateway.v1 import keys_service_pb2 as pb

app = typer.Typer(
    no_args_is_help=True,
    help="Govern API keys on the node that runs on --data-dir, over its own socket and without further set-up.",
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]


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
    from tokendance_cli.node_socket import admin_client
    from tokendance_cli.secret_file import check_writable, write_secret

    if bool(inherit_quota) == bool(limit):
        raise CommandError("Give --inherit-quota or --limit: one of them, not both.", exit_code=USAGE)
    if key_file is not None:
        check_writable(key_file)
    with admin_client(data_dir or globals_of(context).data_dir) as client:
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
    secret = created.secret
    if key_file is not None and secret:
        write_secret(key_file, secret)
        secret = ""
    if form_of(context, form) is Format.JSON:
        print_json({"key": _document(created.key), "secret": secret})
    else:
        print_record([("secret", secret), *_record(created.key)])
    if secret:
        typer.echo("The secret is shown this once; keep it where secrets are kept.", err=True)
    elif key_file is not None and created.secret:
        typer.echo(f"The secret is in {key_file}.", err=True)
    else:
        typer.echo("An earlier call with this request id made the key and showed its secret.", err=True)
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
    from tokendance_cli.node_socket import admin_client

    parent = resource("organizations", organization) if organization else "organizations/-"
    with admin_client(data_dir or globals_of(context).data_dir) as client:
        keys = list(client.list_keys(parent, team=team, owner=owner, rotation_overdue=overdue, page_size=1000))
    if form_of(context, form) is Format.JSON:
        print_json([_document(key) for key in keys])
        return
    print_rows(
        ["key", "state", "secret", "purpose", "owner", "team", "rotation due", "last used"],
        [
            [
                _id(key.name),
                _state(key),
                f"{key.secret_prefix}…{key.secret_suffix}",
                key.purpose,
                _id(key.owner),
                _id(key.team),
                _time(key, "rotation.due_time")[:10],
                _time(key, "last_used_time") or "never",
            ]
            for key in keys
        ],
        empty="There is no such key.",
    )


@app.command("show")
def show_key(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Its id, or organizations/O/keys/K.")],
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Show one key, without its secret."""
    from tokendance_cli.node_socket import admin_client

    with admin_client(data_dir or globals_of(context).data_dir) as client:
        found = client.get_key(key)
    if form_of(context, form) is Format.JSON:
        print_json(_document(found))
    else:
        print_record(_record(found))


def _document(key: pb.Key) -> dict[str, object]:
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(key, preserving_proto_field_name=True)


def _record(key: pb.Key) -> list[tuple[str, str]]:
    from tokendance_cli.limits import limit_text

    return [
        ("key", key.name),
        ("state", _state(key)),
        ("secret starts", key.secret_prefix),
        ("secret ends", key.secret_suffix),
        ("purpose", key.purpose),
        ("owner", key.owner),
        ("team", key.team),
        ("quota from", key.quota.inherited_from),
        ("limits", "; ".join(limit_text(rule) for rule in key.quota.limits.rules)),
        ("rotated by", key.rotation.responsible),
        ("rotated every", f"{key.rotation.period.seconds // 86_400} days"),
        ("rotation due", _time(key, "rotation.due_time")),
        ("expires", _time(key, "expire_time")),
        ("models", ", ".join(key.allowed_models) or "all"),
        ("networks", ", ".join(key.allowed_networks) or "any"),
        ("labels", ", ".join(f"{name}={value}" for name, value in sorted(key.labels.items()))),
        ("created", _time(key, "create_time")),
        ("last used", _time(key, "last_used_time") or "never"),
        ("revoked", _time(key, "revoke_time")),
    ]


def _time(key: pb.Key, path: str) -> str:
    *parents, name = path.split(".")
    message: Any = getattr(key, parents[0]) if parents else key
    if not message.HasField(name):
        return ""
    moment: datetime = getattr(message, name).ToDatetime(UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _state(key: pb.Key) -> str:
    from tokendance.gateway.v1 import keys_service_pb2

    return keys_service_pb2.KeyState.Name(key.state).removeprefix("KEY_STATE_").lower()


def _id(name: str) -> str:
    return name.rpartition("/")[2]
