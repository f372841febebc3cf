"""Secrets by reference: configuration names where a secret is, and only here is it read."""

from __future__ import annotations

import os
from pathlib import Path

_ENV_PREFIX = "TOKENDANCE_PROVIDER_"


def resolve(reference: str, secrets_dir: Path) -> str:
    """Return the secret of `env:TOKENDANCE_PROVIDER_…` or `file:NAME` below the secrets directory; "" for no reference.

    Raises ValueError with one sentence that names the reference, never the secret.
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
    if not secret.isascii() or not secret.isprintable():
        raise ValueError(f"{reference} holds characters that no credential has")
    return secret
