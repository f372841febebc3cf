"""How the commands show a key, and the one time that they show its secret."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance_cli.limits import limit_text
from tokendance_cli.output import Format, print_json, print_record
from tokendance_cli.secret_file import write_secret


def show(form: Format, key: pb.Key) -> None:
    """Print one key, without its secret."""
    if form is Format.JSON:
        print_json(document(key))
    else:
        print_record(record(key))


def show_minted(
    form: Format, key: pb.Key, secret: str, key_file: Path | None, *, done: str, old_secret_ends: str = ""
) -> None:
    """Print a key with its new secret, or write that to a file; an empty one says that an earlier call has `done` it.

    `old_secret_ends` is when the secret before it stops working, in words.
    """
    shown = secret
    if key_file is not None and secret:
        write_secret(key_file, secret)
        shown = ""
    if form is Format.JSON:
        ends = {"old_secret_ends": old_secret_ends} if old_secret_ends else {}
        print_json({"key": document(key), "secret": shown, **ends})
    else:
        print_record([("secret", shown), ("old secret ends", old_secret_ends), *record(key)])
    if shown:
        typer.echo("The secret is shown this once; keep it where secrets are kept.", err=True)
    elif secret:
        typer.echo(f"The secret is in {key_file}.", err=True)
    else:
        typer.echo(f"An earlier call with this request id {done} and showed its secret.", err=True)


def document(key: pb.Key) -> dict[str, object]:
    """Return a key as JSON has it."""
    return MessageToDict(key, preserving_proto_field_name=True)


def record(key: pb.Key) -> list[tuple[str, str]]:
    """Return the lines of a key: names and values."""
    return [
        ("key", key.name),
        ("state", state_of(key)),
        ("secret starts", key.secret_prefix),
        ("secret ends", key.secret_suffix),
        ("purpose", key.purpose),
        ("owner", key.owner),
        ("team", key.team),
        ("quota from", key.quota.inherited_from),
        ("limits", "; ".join(limit_text(rule) for rule in key.quota.limits.rules)),
        ("rotated by", key.rotation.responsible),
        ("rotated every", f"{key.rotation.period.seconds // 86_400} days"),
        ("rotation due", moment(key, "rotation.due_time")),
        ("expires", moment(key, "expire_time")),
        ("models", ", ".join(key.allowed_models) or "all"),
        ("networks", ", ".join(key.allowed_networks) or "any"),
        ("labels", ", ".join(f"{name}={value}" for name, value in sorted(key.labels.items()))),
        ("created", moment(key, "create_time")),
        ("last used", moment(key, "last_used_time") or "never"),
        ("rotated", moment(key, "rotate_time")),
        ("changed", moment(key, "update_time")),
        ("revoked", moment(key, "revoke_time")),
        ("etag", key.etag),
    ]


def moment(key: pb.Key, path: str) -> str:
    """Return a time of a key in words, empty where it has none; `path` is as in `rotation.due_time`."""
    *parents, name = path.split(".")
    message: Any = getattr(key, parents[0]) if parents else key
    return utc(getattr(message, name)) if message.HasField(name) else ""


def utc(stamp: Timestamp) -> str:
    """Return a time in words."""
    return stamp.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def state_of(key: pb.Key) -> str:
    """Return the state of a key in one word."""
    return pb.KeyState.Name(key.state).removeprefix("KEY_STATE_").lower()


def last_part(name: str) -> str:
    """Return the id at the end of a resource name."""
    return name.rpartition("/")[2]
