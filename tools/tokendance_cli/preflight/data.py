"""Where a node keeps its data and its secrets, and who else can read them."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokendance_cli.preflight.doors import is_running
from tokendance_cli.preflight.row import Row, State
from tokendance_server.config import ServerConfig
from tokendance_server.domain.keys.secrets import check_pepper
from tokendance_server.references import resolve_pepper
from tokendance_server.storage import secrets_dir
from tokendance_server.stores.paths import DATABASE_FILE, PEPPER_FILE

_URLS = ("database_url", "redis_url")


def inspect_settings(config: Path | None) -> Row:
    """Tell who else can read or change the file of the settings."""
    if config is None:
        return Row("settings", State.ON, "defaults, environment and flags")
    mode = stat.S_IMODE(config.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return Row(
            "settings", State.INSECURE, f"{config} can be changed by others ({mode:04o})", f"chmod go-w {config}"
        )
    held = [name for name in _URLS if _table(config).get(name)]
    if mode & (stat.S_IRGRP | stat.S_IROTH) and held:
        told = f"{config} holds {' and '.join(held)} and can be read by others ({mode:04o})"
        return Row("settings", State.INSECURE, told, f"chmod 600 {config}")
    return Row("settings", State.ON, str(config))


def inspect_data(config: ServerConfig) -> Iterator[Row]:
    """Yield the data directory and the pepper, as a start would find them."""
    path = config.data_dir.absolute()
    yield _directory(path)
    yield _pepper(config, path)


def _directory(path: Path) -> Row:
    if not path.exists():
        parent = next(one for one in path.parents if one.exists())
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return Row("data", State.ON, f"{path}, made at the first start")
        return Row("data", State.PROBLEM, f"{path} cannot be made below {parent}", "choose another with --data-dir")
    if not path.is_dir():
        return Row("data", State.PROBLEM, f"{path} is no directory", "choose another with --data-dir")
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Row("data", State.PROBLEM, f"you may not write to {path}", "run as its owner, or choose another")
    if mode & 0o077 and (mode & stat.S_ISVTX or any(path.iterdir())):
        return Row("data", State.PROBLEM, f"{path} is open to others ({mode:04o})", f"chmod 700 {path}")
    if is_running(path):
        return Row("data", State.LIMITED, f"{path}: a node runs on it, and a second one would not start")
    return Row("data", State.ON, str(path))


def _pepper(config: ServerConfig, path: Path) -> Row:
    try:
        if config.pepper:
            resolve_pepper(config.pepper, secrets_dir(path))
            return Row("pepper", State.ON, config.pepper)
        file = path / PEPPER_FILE
        if not file.exists():
            if config.database_url is None and (path / DATABASE_FILE).exists():
                return Row("pepper", State.PROBLEM, f"{file} is missing beside a database", "restore it from a backup")
            return Row("pepper", State.ON, f"{file}, made at the first start")
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            return Row("pepper", State.PROBLEM, f"{file} is open to others ({mode:04o})", f"chmod 600 {file}")
        check_pepper(str(file), file.read_bytes())
    except ValueError as error:
        return Row("pepper", State.PROBLEM, f"{error}", "restore it from a backup")
    except OSError as error:
        return Row("pepper", State.PROBLEM, f"it cannot be read: {error.strerror}", "run as its owner")
    if config.database_url is not None:
        return Row("pepper", State.LIMITED, f"{file}: other nodes of the database need the same", "see server.pepper")
    return Row("pepper", State.ON, str(file))


def _table(config: Path) -> dict[str, Any]:
    """Return the table [server] of a file that was read before."""
    found = tomllib.loads(config.read_text(encoding="utf-8")).get("server", {})
    assert isinstance(found, dict)
    return found
