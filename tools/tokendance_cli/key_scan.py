"""Keys in files: where something looks like a live one, by the published form and its checksum. Shows no secret."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tokendance.credentials import SECRET_PATTERN, check_form
from tokendance.errors import GatewayError

MOST_BYTES = 10 * 1024 * 1024
"""What is larger is not read."""

_FIND = re.compile(SECRET_PATTERN.encode())
# Their objects are packed, so nothing would be found in them; what is checked out beside them is scanned.
_REPOSITORIES = frozenset({".git", ".hg", ".svn", ".jj"})
_LOOK_AT = 8192


@dataclass(frozen=True, slots=True)
class Find:
    """A place where something looks like a key. Lines and columns (in bytes) count from 1."""

    path: str
    line: int
    column: int
    secret: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The secret's first and last characters, by which a list of keys tells it."""
        return f"{self.secret[:8]}…{self.secret[-4:]}"


@dataclass(slots=True)
class Tally:
    """What was looked at; `skipped` and `unread` count files that were not."""

    files: int = 0
    size: int = 0
    skipped: int = 0
    unread: int = 0


def finds_in(data: bytes, path: str) -> Iterator[Find]:
    """Yield what looks like a live key in the content of a file."""
    line, line_start, place = 1, 0, 0
    for match in _FIND.finditer(data):
        secret = match[0].decode("ascii")
        if not _looks_live(secret):
            continue
        line += data.count(b"\n", place, match.start())
        place = match.start()
        line_start = data.rfind(b"\n", 0, place) + 1
        yield Find(path, line, place - line_start + 1, secret)


def scan(
    paths: Iterable[Path], tally: Tally, note: Callable[[str], None], looked: Callable[[], None]
) -> Iterator[Find]:
    """Yield the finds in files and in all that lies below folders. `-` is the standard input.

    Links are not followed below a folder. `note` gets a line for each file that is not looked into, and `looked` is
    called after each one.
    """
    for path in paths:
        if str(path) == "-":
            yield from _look_into(sys.stdin.buffer.read(MOST_BYTES + 1), "-", tally, note)
            continue
        for file in _files_below(path, tally, note):
            data = _content_of(file, tally, note)
            if data is not None:
                yield from _look_into(data, str(file), tally, note)
            looked()


def _looks_live(secret: str) -> bool:
    try:
        check_form(secret)
    except GatewayError:
        return False
    return True


def _files_below(path: Path, tally: Tally, note: Callable[[str], None]) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return

    def failed(error: OSError) -> None:
        tally.unread += 1
        note(f"{error.filename}: cannot be read ({error.strerror})")

    for folder, names, files in os.walk(path, onerror=failed):
        for name in sorted(_REPOSITORIES.intersection(names)):
            note(f"{Path(folder, name)}: skipped, a repository's own folder; its history is not scanned")
        names[:] = sorted(name for name in names if name not in _REPOSITORIES)
        for name in sorted(files):
            file = Path(folder, name)
            if not file.is_symlink():
                yield file


def _content_of(file: Path, tally: Tally, note: Callable[[str], None]) -> bytes | None:
    """Return the content of a regular file that is not too large, or None."""
    try:
        # Not blocking, so that a pipe or a device in the way is no place to wait.
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                tally.skipped += 1
                note(f"{file}: skipped, no regular file")
                return None
            return opened.read(MOST_BYTES + 1)
    except OSError as error:
        tally.unread += 1
        note(f"{file}: cannot be read ({error.strerror})")
        return None


def _look_into(data: bytes, path: str, tally: Tally, note: Callable[[str], None]) -> Iterator[Find]:
    why = ""
    if len(data) > MOST_BYTES:
        why = f"larger than {MOST_BYTES // 2**20} MiB"
    elif b"\0" in data[:_LOOK_AT]:
        why = "binary"
    if why:
        tally.skipped += 1
        note(f"{path}: skipped, {why}")
        return
    tally.files += 1
    tally.size += len(data)
    yield from finds_in(data, path)
