"""Secrets by reference: configuration names where a secret is, and only here is it read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tokendance_server.domain.keys.secrets import PEPPER_BYTES, check_pepper

_ENV_PREFIX = "TOKENDANCE_PROVIDER_"
_MAKE = "`openssl rand -hex 32`"


def resolve(reference: str, secrets_dir: Path, *, lines: bool = False) -> str:
    """Return the secret of `env:TOKENDANCE_PROVIDER_…` or `file:NAME` below the secrets directory; "" for no reference.

    With `lines` it may have several, as a key in PEM has. Raises ValueError with one sentence that names the reference,
    never the secret.
    """
    if not reference:
        return ""
    kind, _, name = reference.partition(":")
    if kind == "env" and name.startswith(_ENV_PREFIX):
        secret = os.environ.get(name, "")
        if not secret:
            raise ValueError(f"the environment variable {name} is not set")
    elif kind == "file":
        path = (secrets_dir / name).resolve()
        if not path.is_relative_to(secrets_dir.resolve()):
            raise ValueError(f"{reference} is outside of the secrets directory")
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise ValueError(f"{reference} cannot be read: {exc.strerror}") from exc
    else:
        raise ValueError(f"{reference!r} is not a reference: use env:{_ENV_PREFIX}… or file:…")
    plain = "".join(secret.splitlines()) if lines else secret
    if not plain.isascii() or not plain.isprintable():
        raise ValueError(f"{reference} holds characters that no credential has")
    return secret


def resolve_bytes(reference: str, secrets_dir: Path) -> bytes:
    """Return what a reference to a secret of the node itself leads to; a file is found from the secrets directory.

    Raises ValueError with one sentence that names the reference, never the secret.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        written = os.environ.get(name, "").encode()
        if not written:
            raise ValueError(f"the environment variable {name} is not set")
        return written
    file = secrets_dir / name
    try:
        if file.stat().st_mode & stat.S_IROTH:
            raise ValueError(f"{reference} is open to everybody; run `chmod 600 {file}`")
        return file.read_bytes()
    except OSError as exc:
        raise ValueError(f"{reference} cannot be read: {exc.strerror}") from exc


def resolve_pepper(reference: str, secrets_dir: Path) -> bytes:
    """Return the 32 bytes of a reference to a pepper or to a key of the ring.

    A file is found from the secrets directory. A variable holds them as 64 hexadecimal digits, a file so or as they
    are. Raises ValueError with one sentence that names the reference, never the secret.
    """
    written = resolve_bytes(reference, secrets_dir)
    if reference.startswith("file:") and len(written) == PEPPER_BYTES:
        pepper = written
    else:
        try:
            pepper = bytes.fromhex(written.decode("ascii"))
        except ValueError:
            raise ValueError(
                f"{reference} is not {2 * PEPPER_BYTES} hexadecimal digits; make one with {_MAKE}"
            ) from None
    try:
        check_pepper(reference, pepper)
    except ValueError as exc:
        raise ValueError(f"{exc}; make one with {_MAKE}") from None
    return pepper
