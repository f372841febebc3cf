"""`tokendance keys request, requests, approve, deny, reveal`: from the wish for a key to its secret."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tokendance_cli.commands.key_life import DataDir, Etag
from tokendance_cli.failures import USAGE, CommandError, show_request_id
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

RequestArgument = Annotated[str, typer.Argument(help="Its id, or organizations/O/keyRequests/R.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="Write the secret to this file (mode 0600), not to the output.", show_default=False)
]


class StateName(StrEnum):
    """Where a request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"
    REVEALED = "revealed"
    EXPIRED = "expired"


def request_key(
    context: typer.Context,
    *,
    purpose: Annotated[str, typer.Option(help="What the key is for.")],
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
    owner: Annotated[str, typer.Option(help="The member who owns it; you, where not said.", show_default=False)] = "",
    organization: Annotated[
        str, typer.Option(help="Its organization; may be left out where there is one only.", show_default=False)
    ] = "",
    request_id: Annotated[
        str, typer.Option(help="Makes a repeat harmless: the same id never asks twice.", show_default=False)
    ] = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Ask for a key. An administrator decides, or the policy at once; then `keys reveal` shows its secret to you."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_request import key_wanted, organization_of
    from tokendance_cli.key_request_view import show_request
    from tokendance_cli.node_client import admin_client

    if bool(inherit_quota) == bool(limit):
        raise CommandError("Give --inherit-quota or --limit: one of them, not both.", exit_code=USAGE)
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
        asked = client.stubs.keys.RequestKey(pb.RequestKeyRequest(parent=parent, key=wanted, request_id=request_id))
    show_request(form_of(context, form), asked.key_request)
    show_request_id(last_request_id())


def list_requests(
    context: typer.Context,
    *,
    organization: Annotated[str, typer.Option(help="Only requests of this organization.", show_default=False)] = "",
    state: Annotated[StateName | None, typer.Option(help="Only requests that stand so.", show_default=False)] = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """List requests for keys, newest first: yours, or all where you decide about them."""
    from tokendance_cli.key_request import resource
    from tokendance_cli.key_request_view import all_requests, request_document, request_state
    from tokendance_cli.key_view import last_part, utc
    from tokendance_cli.node_client import admin_client

    parent = resource("organizations", organization) if organization else "organizations/-"
    with admin_client(context, data_dir) as client:
        found = list(all_requests(client, parent, state.value if state else ""))
    if form_of(context, form) is Format.JSON:
        print_json([request_document(one) for one in found])
        return
    print_rows(
        ["request", "state", "requester", "purpose", "team", "asked", "decided by"],
        [
            [
                last_part(one.name),
                request_state(one),
                last_part(one.requester),
                one.key.purpose,
                last_part(one.key.team),
                utc(one.create_time),
                last_part(one.decided_by),
            ]
            for one in found
        ],
        empty="There is no such request.",
    )


def approve_request(
    context: typer.Context,
    request: RequestArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why, in a few words.", show_default=False)] = "",
    purpose: Annotated[str, typer.Option(help="Grant it for this purpose instead.", show_default=False)] = "",
    owner: Annotated[str, typer.Option(help="Grant it to this owner instead.", show_default=False)] = "",
    team: Annotated[str, typer.Option(help="Grant it in this team instead.", show_default=False)] = "",
    rotated_by: Annotated[str, typer.Option(help="Let this member rotate it instead.", show_default=False)] = "",
    rotation_days: Annotated[
        int, typer.Option(min=0, max=3650, help="How long a secret may live, in days, instead.", show_default=False)
    ] = 0,
    inherit_quota: Annotated[
        str, typer.Option(help="Whose limits alone govern it, instead: team or organization.", show_default=False)
    ] = "",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="A limit of its own, in place of all asked for. Repeatable.", show_default=False),
    ] = None,
    allow_model: Annotated[
        list[str] | None,
        typer.Option(help="A model it may call, in place of all asked for. Repeatable.", show_default=False),
    ] = None,
    allow_network: Annotated[
        list[str] | None,
        typer.Option(help="A network it may be used from, in place of all asked for. Repeatable.", show_default=False),
    ] = None,
    expires: Annotated[
        str, typer.Option(help="When it stops working, instead: 90d, 2027-01-31 or a time.", show_default=False)
    ] = "",
    clear: Annotated[
        list[str] | None,
        typer.Option(help="Grant it without models, networks, labels or expiry. Repeatable.", show_default=False),
    ] = None,
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Grant a request, as asked for or changed. Who asked reveals the key; you never see its secret."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_request_view import changed_wish, find_request, show_request
    from tokendance_cli.key_update import Words
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
        clear=clear or (),
    )
    with admin_client(context, data_dir) as client:
        asked = find_request(client, request)
        key = None if words == Words() else changed_wish(asked, words)
        # What was looked at is what is decided upon.
        approval = pb.ApproveKeyRequestRequest(name=asked.name, key=key, reason=reason, etag=etag or asked.etag)
        granted = client.stubs.keys.ApproveKeyRequest(approval).key_request
    show_request(form_of(context, form), granted)
    show_request_id(last_request_id())


def deny_request(
    context: typer.Context,
    request: RequestArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why, in a few words; who asked reads it.")],
    etag: Etag = "",
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Refuse a request, and say why."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_request_view import request_name, show_request
    from tokendance_cli.node_client import admin_client

    with admin_client(context, data_dir) as client:
        name = request_name(client, request)
        denial = pb.DenyKeyRequestRequest(name=name, reason=reason, etag=etag)
        denied = client.stubs.keys.DenyKeyRequest(denial).key_request
    show_request(form_of(context, form), denied)
    show_request_id(last_request_id())


def reveal_key(
    context: typer.Context,
    request: RequestArgument,
    *,
    key_file: KeyFile = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Mint and show the secret of a key that was granted to you: once, now."""
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_request_view import request_name
    from tokendance_cli.key_view import show_minted
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.secret_file import check_writable

    if key_file is not None:
        # There is no second time.
        check_writable(key_file)
    with admin_client(context, data_dir) as client:
        revealed = client.stubs.keys.RevealKey(pb.RevealKeyRequest(name=request_name(client, request)))
    show_minted(form_of(context, form), revealed.key, revealed.secret, key_file, done="revealed the key")
    show_request_id(last_request_id())
