"""The files of a usage journal: numbered segments of framed entries, and the lock of whoever writes them.

A segment is a first line that says what it is, then frames: length and CRC-32 of the payload, four bytes each, least
significant first, then the payload. A frame that is cut or does not match its CRC ends its segment.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokendance_server.domain.usage.entries import FinishedEntry, OpenEntry, decode

JOURNAL_FOLDER = "journal"
"""Its place in a data directory."""

MAGIC = b"tokendance usage journal 1\n"
_FRAME = struct.Struct("<II")
_SUFFIX = ".usage"
_LOCK = "lock"


class JournalInUseError(Exception):
    """Another process writes this journal."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the segments of a journal hold: the requests that are over, and those that are not, in their order.

    `torn` are segments whose end cannot be read: what a killed process was writing last.
    """

    finished: Sequence[FinishedEntry] = ()
    running: Sequence[OpenEntry] = ()
    segments: Sequence[Path] = ()
    size: int = 0
    torn: Sequence[Path] = field(default=())


def frame(payload: bytes) -> bytes:
    """Return a payload as it is in a segment."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def segment_path(folder: Path, number: int) -> Path:
    """Return where a segment is; numbers count from 1."""
    return folder / f"{number:012}{_SUFFIX}"


def segments(folder: Path) -> list[Path]:
    """Return the segments of a journal from the oldest on; none where there is no journal."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def number_of(segment: Path) -> int:
    """Return the number of a segment."""
    return int(segment.name.removesuffix(_SUFFIX))


def read(folder: Path) -> Found:
    """Return all that the segments hold. Entries of one id are one request; raises OSError."""
    finished: dict[str, FinishedEntry] = {}
    running: dict[str, OpenEntry] = {}
    torn, size = [], 0
    paths = segments(folder)
    for path in paths:
        content = path.read_bytes()
        size += len(content)
        end = len(MAGIC) if content.startswith(MAGIC) else 0
        for payload, behind in _frames(content, end):
            try:
                entry = decode(payload)
            except ValueError:
                break
            end = behind
            if isinstance(entry, FinishedEntry):
                finished[entry.id] = entry
            else:
                running[entry.id] = entry
        if end != len(content) or not end:
            torn.append(path)
    still = [entry for record_id, entry in running.items() if record_id not in finished]
    return Found(list(finished.values()), still, paths, size, torn)


def _frames(content: bytes, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield each whole payload with the place behind it."""
    if not start:
        return
    while start + _FRAME.size <= len(content):
        length, crc = _FRAME.unpack_from(content, start)
        begin, end = start + _FRAME.size, start + _FRAME.size + length
        payload = content[begin:end]
        if not length or end > len(content) or zlib.crc32(payload) != crc:
            return
        yield payload, end
        start = end


def take_lock(folder: Path) -> int:
    """Return the descriptor of the lock of a journal, to be closed. Raises JournalInUseError, OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise JournalInUseError(f"another process writes the journal {folder}") from None
    return lock


def is_locked(folder: Path) -> bool:
    """Tell whether a process writes this journal now."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
