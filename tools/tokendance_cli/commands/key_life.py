"""`tokendance keys update, rotate, suspend, resume, revoke`: what happens to a key after it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.failures import show_request_id
from tokendance_cli.output import FormatOption, form_of

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="The node's data directory.", show_default=False)]
KeyArgument = Annotated[str, typer.Argument(help="Its id, or organizations/O/keys/K.")]
Etag = Annotated[str, typer.Option(help="Change this version only, as `keys show` names it.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, in a few words.", show_default=False)]


def update_key(
    context: typer.Context,
    key: KeyArgument,
    *,
    purpose: Annotated[str, typer.Option(help="What the key is for.", show_default=False)] = "",
    owner: Annotated[str, typer.Option(help="The member who owns it.", show_default=False)] = "",
    team: Annotated[str, typer.Option(help="The team it belongs to.", show_default=False)] = "",
    rotated_by: Annotated[str, typer.Option(help="The member who rotates it.", show_default=False)] = "",
    rotation_days: Annotated[
        int, typer.Option(min=0, max=3650, help="How long a secret may live, in days.", show_default=False)
    ] = 0,
    inherit_quota: Annotated[
        str,
        typer.Option(help="Whose limits alone govern it: team, organization, or a resource name.", show_default=False),
    ] = "",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="A limit of its own, in place of all before. Repeatable.", show_default=False),
    ] = None,
    allow_model: Annotated[
        list[str] | None,
        typer.Option(help="A model it may call, in place of all before. Repeatable.", show_default=False),
    ] = None,
    allow_network: Annotated[
        list[str] | None,
        typer.Option(help="A network it may be used from, in place of all before. Repeatable.", show_default=False),
    ] = None,
    expires: Annotated[
        str, typer.Option(help="When it stops working: 90d, 2027-01-31 or a time in ISO 8601.", show_default=False)
    ] = "",
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label NAME=VALUE, in place of all before. Repeatable.", show_default=False),
    ] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(help="Clear models, networks, labels or expiry. Repeatable.", show_default=False),
    ] = None,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Change what is said of a key; what is not named stays."""
    from tokendance import last_request_id
    from tokendance_cli.key_update import Words, key_update
    from tokendance_cli.key_view import show
    from tokendance_cli.node_client import admin_client

    words = Words(
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
        clear=clear or (),
    )
    with admin_client(context, data_dir) as client:
        request = key_update(client.get_key(key), words, etag)
        changed = client.stubs.keys.UpdateKey(request).key
    show(form_of(context, form), changed)
    show_request_id(last_request_id())


def rotate_key(
    context: typer.Context,
    key: KeyArgument,
    *,
    overlap: Annotated[
        str, typer.Option(help="How long the old secret still works: 0, 30m, 24h or 7d; 30 days at most.")
    ] = "24h",
    etag: Etag = "",
    request_id: Annotated[
        str, typer.Option(help="Makes a repeat harmless: the same id never rotates twice.", show_default=False)
    ] = "",
    key_file: Annotated[
        Path | None,
        typer.Option(help="Write the secret to this file (mode 0600), not to the output.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Mint a new secret, shown once, now; the old one works on for the overlap."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_update import overlap_of
    from tokendance_cli.key_view import show_minted, utc
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.secret_file import check_writable

    request = pb.RotateKeyRequest(name=key, etag=etag, request_id=request_id)
    request.overlap.FromTimedelta(overlap_of(overlap))
    if key_file is not None:
        check_writable(key_file)
    with admin_client(context, data_dir) as client:
        rotated = client.stubs.keys.RotateKey(request)
    ends = utc(rotated.old_secret_expire_time)
    form = form_of(context, form)
    show_minted(form, rotated.key, rotated.secret, key_file, done="rotated the key", old_secret_ends=ends)
    show_request_id(last_request_id())


def revoke_key(
    context: typer.Context,
    key: KeyArgument,
    *,
    reason: Reason = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """End a key for good, at once, on every node."""
    from tokendance import last_request_id
    from tokendance_cli.key_view import show
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        revoked = client.revoke_key(key, reason=reason)
    show(form_of(context, form), revoked)
    show_request_id(last_request_id())


def suspend_key(
    context: typer.Context,
    key: KeyArgument,
    *,
    reason: Reason = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Stop a key until it is resumed."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_view import show
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        suspended = client.stubs.keys.SuspendKey(pb.SuspendKeyRequest(name=key, reason=reason)).key
    show(form_of(context, form), suspended)
    show_request_id(last_request_id())


def resume_key(
    context: typer.Context,
    key: KeyArgument,
    *,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Let a suspended key work again."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_view import show
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        resumed = client.stubs.keys.ResumeKey(pb.ResumeKeyRequest(name=key)).key
    show(form_of(context, form), resumed)
    show_request_id(last_request_id())
