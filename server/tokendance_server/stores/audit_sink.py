"""Where the audit trail is streamed to: a file that others may rotate away, or standard output."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_MODE = 0o600


class FileSink:
    """Appends lines to a file, made with mode 0600, and opened anew where it was moved or removed. Satisfies Sink."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    async def write(self, lines: Sequence[str]) -> None:
        await asyncio.to_thread(self._write, "".join(f"{line}\n" for line in lines).encode())

    async def close(self) -> None:
        self._close()

    def _write(self, content: bytes) -> None:
        file = self._current()
        if _is_torn(file):
            # A process died midway, or the disk was full: that line is written again, whole.
            content = b"\n" + content
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)

    def _current(self) -> int:
        """Return the file that is at the path now."""
        if self._file is not None and not self._is_at_path(self._file):
            self._close()
        if self._file is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, _MODE)
        return self._file

    def _is_at_path(self, file: int) -> bool:
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(file))

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class StandardOutput:
    """Writes lines to standard output. Satisfies Sink."""

    async def write(self, lines: Sequence[str]) -> None:
        await asyncio.to_thread(self._write, "".join(f"{line}\n" for line in lines))

    async def close(self) -> None:
        """Leave it open: it is the process's own."""

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _is_torn(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"
