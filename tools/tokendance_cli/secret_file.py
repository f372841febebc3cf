"""A secret written to a file that nobody else can read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tokendance_cli.failures import CommandError


def check_writable(path: Path) -> None:
    """Raise CommandError where `write_secret` could not work, before there is a secret to lose."""
    folder = path.parent
    if path.is_dir():
        raise CommandError(f"The key file {path} is a directory.")
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"The key file {path} cannot be written: {folder} is no directory that you may write to.")


def write_secret(path: Path, secret: str) -> None:
    """Write the secret and a newline to `path`, mode 0600, whole or not at all; raises CommandError."""
    try:
        # Made 0600 by mkstemp; a file that was there with a wider mode is replaced, not filled.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tokendance-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(f"{secret}\n")
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandError(
            f"The key file {path} cannot be written: {error.strerror}; the key is lost.",
            "Make another one with `tokendance keys create`.",
        ) from error
