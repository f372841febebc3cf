"""`tokendance keys leaked`: what to do first when a secret got out, what was done with it, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokendance_cli.commands.key_life import DataDir, KeyArgument
from tokendance_cli.failures import show_request_id
from tokendance_cli.output import Format, FormatOption, form_of, print_json, print_rows

if TYPE_CHECKING:
    from tokendance_cli.leak import Trail


def leaked_key(
    context: typer.Context,
    key: KeyArgument,
    *,
    since: Annotated[
        str,
        typer.Option(
            help="Tell what the key did from this time on, in ISO 8601; since its secret was minted, where not said.",
            show_default=False,
        ),
    ] = "",
    key_file: Annotated[
        Path | None,
        typer.Option(help="Write the new secret to this file (mode 0600), not to the output.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    form: FormatOption = None,
) -> None:
    """Rotate a leaked key now, with no overlap; tell what it did, and what is left to clean up.

    Every secret that the key had stops working at once, on every node within a second.
    """
    from tokendance import last_request_id
    from tokendance.gateway.v1 import keys_service_pb2 as pb
    from tokendance_cli.key_view import document, show_minted
    from tokendance_cli.leak import start_of, still_to_do, trail_of
    from tokendance_cli.node_client import admin_client
    from tokendance_cli.secret_file import check_writable

    if key_file is not None:
        check_writable(key_file)
    with admin_client(context, data_dir) as client:
        before = client.get_key(key)
        start = start_of(before, since)
        request = pb.RotateKeyRequest(name=before.name)
        # Nothing is asked about first: while somebody reads, somebody else calls.
        request.overlap.FromSeconds(0)
        ended = before.state in (pb.KEY_STATE_REVOKED, pb.KEY_STATE_EXPIRED)
        rotated = pb.RotateKeyResponse(key=before) if ended else client.stubs.keys.RotateKey(request)
        request_id = last_request_id()
        trail = trail_of(client, before.name, start)
    to_do = still_to_do(before, ended=ended)
    if form_of(context, form) is Format.JSON:
        secret = rotated.secret
        if key_file is not None and secret:
            from tokendance_cli.secret_file import write_secret

            write_secret(key_file, secret)
            secret = ""
        print_json({"key": document(rotated.key), "secret": secret, **trail.document(), "to_do": to_do})
    else:
        if ended:
            typer.echo("This key had ended before, so there was nothing to rotate.", err=True)
        else:
            show_minted(Format.TABLE, rotated.key, rotated.secret, key_file, done="rotated the key")
        _show(trail, to_do)
    show_request_id(request_id)


def _show(trail: Trail, to_do: list[str]) -> None:
    typer.echo(f"\nWhat was done to the key since {trail.start}:")
    if trail.events is None:
        typer.echo("The gateway does not tell you; ask who may read the audit trail.")
    else:
        print_rows(["time", "actor", "action", "reason"], trail.event_rows(), empty="Nothing.")
    typer.echo(f"\nWhat the key did since {trail.start}:")
    if trail.usage is None:
        typer.echo("The gateway does not tell: it lists no usage records, or not to you. Look at its logs for the key.")
    else:
        print_rows(["model", "client", "calls", "first", "last"], trail.usage_rows(), empty="It called nothing.")
        if trail.cut:
            typer.echo("There are more calls than are counted here.")
    typer.echo("\nWhat is left to do:")
    for number, sentence in enumerate(to_do, 1):
        typer.echo(f"{number}. {sentence}")
