"""The data directory of a node: its lock, its pepper, its database file and the places of its sockets.

Refuses to share a directory with another process, and to run with secrets that others can read.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokendance.ids import new_id
from tokendance_server.domain.keys.secrets import PEPPER_BYTES as SECRET_BYTES
from tokendance_server.domain.keys.secrets import check_pepper
from tokendance_server.domain.sealing import check_ring_key
from tokendance_server.startup import StartupError

_SOCKETS_FILE = "sockets.json"
PEPPER_FILE = "pepper"
RING_FILE = "ring"
DATABASE_FILE = "gateway.db"
_NODE_FILE = "node"
_NODE_ID = re.compile(r"node_[0-9a-z]{26}")
# The kernel takes 107 bytes; some of its callers take less.
_LONGEST_SOCKET_PATH = 100
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where a node listens for its own facade and for its operator. Absolute paths."""

    admin: Path
    facade: Path


@dataclass(frozen=True, slots=True)
class NodeSecrets:
    """The 32-byte secrets of a node, of each kind the one in force first: peppers of digests, keys that seal."""

    peppers: tuple[bytes, ...] = field(repr=False)
    ring: tuple[bytes, ...] = field(repr=False)


class DataDirectory:
    """A data directory, held by this process until `close`."""

    def __init__(self, path: Path, lock: int, node_id: str, secrets: NodeSecrets, sockets: Sockets) -> None:
        self.path = path
        self.database = path / DATABASE_FILE
        self.node_id = node_id
        self.secrets = secrets
        self.admin_socket = sockets.admin
        self.facade_socket = sockets.facade
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        peppers: Sequence[bytes] = (),
        ring: Sequence[bytes] = (),
        own_database: bool = True,
    ) -> DataDirectory:
        """Take a data directory, made with mode 0700 where there is none, and its secrets, made at the first start.

        With `peppers` or `ring` the directory needs none of its own, and without `own_database` no file of SQLite's.
        Raises StartupError where the directory cannot be written, is open to others or is used by another process,
        and where the pepper is missing beside a database, too short, or open to others.
        """
        path = path.absolute()
        try:
            _make_private(path)
            lock = _lock(path)
            try:
                kept = NodeSecrets(
                    tuple(peppers) or _read_peppers(path, own_database=own_database), tuple(ring) or _read_ring(path)
                )
                node_id = _read_node_id(path)
                if own_database:
                    _touch_private(path / DATABASE_FILE)
                sockets = _place_sockets(path)
            except BaseException:
                os.close(lock)
                raise
        except OSError as exc:
            raise StartupError(
                f"The data directory {path} cannot be used ({exc.strerror}); "
                "choose one that you may write to with --data-dir DIR."
            ) from exc
        return cls(path, lock, node_id, kept, sockets)

    def close(self) -> None:
        """Remove the sockets and let another process have the directory."""
        for socket in (self.admin_socket, self.facade_socket):
            socket.unlink(missing_ok=True)
        if self.admin_socket.parent != self.path:
            self.admin_socket.parent.rmdir()
            (self.path / _SOCKETS_FILE).unlink(missing_ok=True)
        os.close(self._lock)


def find_sockets(data_dir: Path) -> Sockets:
    """Return where the node of a data directory listens, or would listen; whether one runs is not asked."""
    data_dir = data_dir.absolute()
    return _elsewhere(data_dir) or _in(data_dir)


def find_node_id(data_dir: Path) -> str:
    """Return what the node of a data directory is called beside others; empty before its first start."""
    try:
        node_id = (data_dir / _NODE_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return node_id if _NODE_ID.fullmatch(node_id) else ""


def _in(directory: Path) -> Sockets:
    return Sockets(admin=directory / "admin.sock", facade=directory / "facade.sock")


def _elsewhere(data_dir: Path) -> Sockets | None:
    try:
        folder = json.loads((data_dir / _SOCKETS_FILE).read_text(encoding="utf-8"))["folder"]
        return _in(Path(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _place_sockets(data_dir: Path) -> Sockets:
    near = _in(data_dir)
    if max(len(os.fsencode(near.admin)), len(os.fsencode(near.facade))) <= _LONGEST_SOCKET_PATH:
        (data_dir / _SOCKETS_FILE).unlink(missing_ok=True)
        return near
    far = _elsewhere(data_dir)
    if far is not None and _is_ours(far.admin.parent):
        return far
    folder = tempfile.mkdtemp(prefix="tokendance-")
    _write_private(data_dir / _SOCKETS_FILE, json.dumps({"folder": folder}).encode())
    return _in(Path(folder))


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder left by a node that was killed is still a private one of this user."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and stat.S_IMODE(status.st_mode) == _PRIVATE


def _make_private(path: Path) -> None:
    path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077 == 0:
        return
    # A directory that was just made for us may be narrowed; one that holds anything may be somebody's home.
    if mode & stat.S_ISVTX or any(path.iterdir()):
        raise StartupError(
            f"The data directory {path} is open to others (mode {mode:04o}); run `chmod 700 {path}`, "
            "or choose another with --data-dir DIR."
        )
    path.chmod(_PRIVATE)


def _lock(path: Path) -> int:
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        raise StartupError(
            f"Another process ({holder or 'unknown'}) uses the data directory {path}; "
            "stop it, or choose another directory with --data-dir DIR."
        ) from exc
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def _read_node_id(path: Path) -> str:
    """Return what this node is called beside others, from its first start on."""
    node_id = find_node_id(path)
    if not node_id:
        node_id = new_id("node")
        _write_private(path / _NODE_FILE, node_id.encode())
    return node_id


def _read_peppers(path: Path, *, own_database: bool) -> tuple[bytes, ...]:
    file = path / PEPPER_FILE
    if own_database and not file.exists() and (path / DATABASE_FILE).exists():
        raise StartupError(
            f"The pepper {file} is missing, and without it no key in the database works; restore it from a backup."
        )
    return _read_secrets(file, check_pepper)


def _read_ring(path: Path) -> tuple[bytes, ...]:
    return _read_secrets(path / RING_FILE, lambda name, key: check_ring_key(key))


def _read_secrets(file: Path, check: Callable[[str, bytes], None]) -> tuple[bytes, ...]:
    """Return the secret in force, made where there is none, and those before it."""
    read_private(file, lambda: secrets.token_bytes(SECRET_BYTES))
    kept = kept_secrets(file)
    try:
        for one in kept:
            check(str(file), one)
    except ValueError as exc:
        raise StartupError(f"{str(exc)[0].upper()}{str(exc)[1:]}; restore {file} from a backup.") from exc
    return kept


def kept_secrets(file: Path) -> tuple[bytes, ...]:
    """Return the secret in force and those before it, which a file beside it holds; nothing where there is none.

    Raises StartupError where others may read them.
    """
    kept = []
    if file.exists():
        kept.append(read_private(file, bytes))
        if old_file(file).exists():
            older = read_private(old_file(file), bytes)
            kept += [older[start : start + SECRET_BYTES] for start in range(0, len(older), SECRET_BYTES)]
    return tuple(kept)


def old_file(file: Path) -> Path:
    """Return where those before the secret in force are kept, the newest first, without anything in between."""
    return file.with_name(f"{file.name}.old")


def replace_secrets(file: Path, kept: Sequence[bytes]) -> None:
    """Put secrets in the place of those of a file, the one in force first. At no moment is one of them nowhere."""
    _write_private(old_file(file), b"".join(kept[1:]))
    _write_private(file, kept[0])


def read_private(file: Path, make: Callable[[], bytes]) -> bytes:
    """Return what a private file holds, made at first and of mode 0600.

    Raises StartupError where others may read it, or it cannot be read or written.
    """
    try:
        if not file.exists():
            _write_private(file, make())
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise StartupError(f"The file {file} is open to others (mode {mode:04o}); run `chmod 600 {file}`.")
        return file.read_bytes()
    except OSError as exc:
        raise StartupError(f"The file {file} cannot be used ({exc.strerror}).") from exc


def _write_private(file: Path, content: bytes) -> None:
    """Write a file of mode 0600 whole or not at all, whatever happens in between."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _touch_private(file: Path) -> None:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
