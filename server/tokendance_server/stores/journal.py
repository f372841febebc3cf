"""The usage journal of a node: an append-only file, written once an event-loop tick for all that is due.

What survives, by mode:

| mode | a process that is killed | a power cut, or a kernel that stops | a lost disk |
|---|---|---|---|
| off | everything | what the kernel wrote by itself, usually all but 30 s | what the database has |
| batch | everything | all but the last 50 ms | what the database has |
| always | everything | everything | what the database has |

An entry counts as written once the kernel has it (off, batch) or the disk says so (always).
"""

from __future__ import annotations

import asyncio
import enum
import os
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tokendance_server.domain.usage.ledger import JournalError
from tokendance_server.stores.journal_files import (
    MAGIC,
    Found,
    frame,
    number_of,
    read,
    segment_path,
    sync_folder,
    take_lock,
)

SEGMENTS = 16
"""Into how many files a full journal is cut, so that what is drained can be dropped."""

_SYNC_EVERY_S = 0.05
_RETRY_S = 1.0
# Below this share nothing is copied to make room; above it, requests that run for long are moved forward.
_PRESSED = 0.25
_END_BYTES = 2048


class FsyncMode(enum.StrEnum):
    """When the disk is asked to keep what was written."""

    OFF = "off"
    BATCH = "batch"
    ALWAYS = "always"


class _Segment:
    """One file. `live` requests have an entry in it that is still needed; `running` of them are not over."""

    __slots__ = ("live", "path", "running", "size")

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.live = 0
        self.running = 0


class FileJournal:
    """Satisfies Journal. Holds the folder's lock until `close`; used from one event loop.

    `capacity` is in bytes: new requests are refused while there is no room for the ends of those that run, so that
    these can be written down.
    """

    def __init__(self, folder: Path, capacity: int, mode: FsyncMode = FsyncMode.BATCH) -> None:
        """Take the journal, of which `found` tells what an earlier process left in it.

        Raises JournalInUseError, OSError.
        """
        self._folder = folder
        self._capacity = capacity
        self._mode = mode
        self._lock = take_lock(folder)
        try:
            self.found: Found = read(folder)
            self._segments = deque(_Segment(path, path.stat().st_size) for path in self.found.segments)
            self._size = sum(one.size for one in self._segments)
            self._finished: dict[str, _Segment] = {}
            self._opened: dict[str, tuple[_Segment, bytes]] = {}
            self._number = number_of(self.found.segments[-1]) if self.found.segments else 0
            self._file = -1
            self._start_segment()
        except BaseException:
            os.close(self._lock)
            raise
        # What was found stays until all of it is in the database: nobody counts which entry lies in which old file.
        self._left = {entry.id for entry in self.found.finished} | {entry.id for entry in self.found.running}
        self._buffer: list[bytes] = []
        # Bytes that are not in the files yet, and those that the ends of running requests may take.
        self._unwritten = 0
        self._owed = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._due = False
        self._writing: asyncio.Future[None] | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._broken: str | None = None
        self._retry_at = 0.0
        # The one thread that waits for the disk, so that nobody else has to.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage-journal")

    @property
    def size(self) -> int:
        """Bytes in its files."""
        return self._size

    @property
    def capacity(self) -> int:
        """The bytes at which new requests are refused."""
        return self._capacity

    @property
    def running(self) -> int:
        """Requests that are open in it."""
        return len(self._opened)

    @property
    def broken(self) -> str | None:
        """Why it cannot be written now, or None."""
        return self._broken

    def has_room(self) -> bool:
        if self._broken is not None and not self._mended():
            return False
        return self._size + self._unwritten + self._owed < self._capacity

    def open(self, record_id: str, payload: bytes) -> Awaitable[None]:
        self._forget_open(record_id)
        segment = self._segments[-1]
        segment.live += 1
        segment.running += 1
        self._opened[record_id] = (segment, payload)
        self._owed += _end_of(payload)
        return self._append(payload)

    def finish(self, record_id: str, payload: bytes) -> Awaitable[None]:
        if (opened := self._opened.get(record_id)) is not None and record_id not in self._finished:
            opened[0].running -= 1
            self._owed -= _end_of(opened[1])
            # It is moved forward no more: only where it lies must be known.
            self._opened[record_id] = (opened[0], b"")
        segment = self._segments[-1]
        segment.live += 1
        self._finished[record_id] = segment
        return self._append(payload)

    def drained(self, record_ids: Sequence[str]) -> None:
        for record_id in record_ids:
            self._forget_open(record_id)
            if (segment := self._finished.pop(record_id, None)) is not None:
                segment.live -= 1
        if self._left:
            self._left.difference_update(record_ids)
        self._drop_drained()

    async def close(self) -> None:
        """Write what is due, and let another process have the journal; its files go where nothing is left in them."""
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        while self._writing is not None or self._buffer:
            if self._writing is not None:
                await asyncio.wait({self._writing})
            else:
                self._write_now()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._sync_quietly)
        self._thread.shutdown()
        os.close(self._file)
        if not self._opened and not self._finished and not self._left:
            for segment in self._segments:
                segment.path.unlink(missing_ok=True)
        os.close(self._lock)

    def _forget_open(self, record_id: str) -> None:
        if (opened := self._opened.pop(record_id, None)) is not None:
            segment = opened[0]
            segment.live -= 1
            if record_id not in self._finished:
                segment.running -= 1
                self._owed -= _end_of(opened[1])

    def _append(self, payload: bytes) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        framed = frame(payload)
        self._buffer.append(framed)
        self._unwritten += len(framed)
        self._waiters.append(waiter)
        if not self._due and self._writing is None:
            self._due = True
            loop.call_soon(self._write_now)
        return waiter

    def _write_now(self) -> None:
        """Write all that is due with one call."""
        self._due = False
        if not self._buffer:
            return
        data, waiters = b"".join(self._buffer), self._waiters
        self._buffer, self._waiters = [], []
        if self._mode is FsyncMode.ALWAYS:
            task = asyncio.get_running_loop().run_in_executor(self._thread, self._write_and_sync, data)
            self._writing = task
            task.add_done_callback(lambda done: self._written_by_thread(done, len(data), waiters))
            return
        try:
            self._write(data)
        except OSError as exc:
            self._unwritten -= len(data)
            self._fail(exc, waiters)
            return
        self._written(len(data), waiters)
        if self._mode is FsyncMode.BATCH and self._sync_timer is None:
            self._sync_timer = asyncio.get_running_loop().call_later(_SYNC_EVERY_S, self._sync_soon)

    def _written_by_thread(
        self, done: asyncio.Future[None], size: int, waiters: Sequence[asyncio.Future[None]]
    ) -> None:
        self._writing = None
        error = done.exception()
        if isinstance(error, OSError):
            self._unwritten -= size
            self._fail(error, waiters)
        elif error is not None:
            raise error
        else:
            self._written(size, waiters)
        if self._buffer:
            self._write_now()

    def _written(self, size: int, waiters: Sequence[asyncio.Future[None]]) -> None:
        self._unwritten -= size
        self._size += size
        segment = self._segments[-1]
        segment.size += size
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if segment.size >= self._capacity // SEGMENTS:
            try:
                self._start_segment()
            except OSError as exc:
                self._fail(exc, ())

    def _write(self, data: bytes) -> None:
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, data[written:])

    def _write_and_sync(self, data: bytes) -> None:
        self._write(data)
        os.fdatasync(self._file)

    def _sync_soon(self) -> None:
        self._sync_timer = None
        # A descriptor of its own: the file may be closed for the next segment meanwhile.
        handle = os.dup(self._file)
        task = asyncio.get_running_loop().run_in_executor(self._thread, _sync_and_close, handle)
        task.add_done_callback(self._synced)

    def _synced(self, done: asyncio.Future[None]) -> None:
        if isinstance(error := done.exception(), OSError):
            self._fail(error, ())

    def _sync_quietly(self) -> None:
        if self._mode is not FsyncMode.OFF and self._broken is None:
            os.fdatasync(self._file)

    def _fail(self, error: OSError, waiters: Sequence[asyncio.Future[None]]) -> None:
        """Refuse everything until the disk works again; what was half written is cut off where that can be done."""
        self._broken = f"the usage journal {self._folder} cannot be written ({error.strerror})"
        self._retry_at = time.monotonic() + _RETRY_S
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(JournalError(self._broken))

    def _mended(self) -> bool:
        """Try a new segment, once a second at most: the end of the old one may be torn."""
        if time.monotonic() < self._retry_at or self._writing is not None:
            return False
        try:
            self._start_segment()
        except OSError as exc:
            self._fail(exc, ())
            return False
        self._broken = None
        return True

    def _start_segment(self) -> None:
        path = segment_path(self._folder, self._number + 1)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, MAGIC)
            if self._mode is not FsyncMode.OFF:
                sync_folder(self._folder)
                if self._file >= 0:
                    os.fdatasync(self._file)
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file = file
        self._number += 1
        self._segments.append(_Segment(path, len(MAGIC)))
        self._size += len(MAGIC)

    def _drop_drained(self) -> None:
        """Remove what nobody needs, always the oldest first: so no end goes before its start."""
        while len(self._segments) > 1 and not self._left:
            oldest = self._segments[0]
            if oldest.live and not self._move_forward(oldest):
                return
            self._segments.popleft()
            self._size -= oldest.size
            oldest.path.unlink(missing_ok=True)

    def _move_forward(self, segment: _Segment) -> bool:
        """Write the requests of a segment anew that run for so long that they alone hold it, where room is short."""
        pressed = self._size >= self._capacity * _PRESSED
        if segment.live != segment.running or not pressed or self._broken is not None or self._writing is not None:
            return False
        held = [(record_id, payload) for record_id, (one, payload) in self._opened.items() if one is segment]
        copied = b"".join(frame(payload) for _, payload in held)
        try:
            self._write(copied)
            if self._mode is not FsyncMode.OFF:
                os.fdatasync(self._file)
        except OSError as exc:
            self._fail(exc, ())
            return False
        target = self._segments[-1]
        for record_id, payload in held:
            self._opened[record_id] = (target, payload)
            target.live += 1
            target.running += 1
        target.size += len(copied)
        self._size += len(copied)
        segment.live = segment.running = 0
        return True


def _end_of(payload: bytes) -> int:
    """Return how many bytes the end of a request may take: its own words again, its attempts, limits and error."""
    return 2 * len(payload) + _END_BYTES


def _sync_and_close(handle: int) -> None:
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)
