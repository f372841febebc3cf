"""What looks after usage journals while no node writes them: what they hold, and how it reaches the database."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tokendance_server.config import ServerConfig
from tokendance_server.domain.usage.drain import Drain
from tokendance_server.domain.usage.entries import FinishedEntry, unknown
from tokendance_server.domain.usage.ledger import Ledger
from tokendance_server.domain.usage.store import EntryRefusedError
from tokendance_server.startup import StartupError
from tokendance_server.storage import open_directory
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.journal_files import (
    JOURNAL_FOLDER,
    Found,
    JournalInUseError,
    is_locked,
    read,
    segments,
    take_lock,
)
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.usage import SqlUsageStore
from tokendance_server.stores.usage_aside import ASIDE_FILE, AsideFile

_TORN = ".torn"


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What a journal holds. `finished` and `running` are requests; `aside` are those that the database never took.

    `torn` are files whose end cannot be read, as a killed process leaves one.
    """

    folder: Path
    in_use: bool
    files: int
    size: int
    finished: int
    running: int
    torn: int
    aside: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of a journal: requests in all, and those that were not in the database yet.

    `unknown` are charged by estimate because their node died; `refused` are those that the database never takes.
    """

    total: int
    new: int
    unknown: int
    refused: int


def status(folder: Path) -> JournalReport:
    """Return what the journal of a data directory holds, and change nothing. Raises StartupError."""
    journal = _journal_of(folder)
    try:
        in_use, found = is_locked(journal), read(journal)
        aside = journal / ASIDE_FILE
        lines = len(aside.read_bytes().splitlines()) if aside.exists() else 0
    except OSError as exc:
        raise StartupError(f"The usage journal {journal} cannot be read ({exc.strerror}).") from exc
    return JournalReport(
        folder=journal,
        in_use=in_use,
        files=len(found.segments),
        size=found.size,
        finished=len(found.finished),
        running=len(found.running),
        torn=len(found.torn),
        aside=lines,
    )


async def adopt(config: ServerConfig, folder: Path) -> Adopted:
    """Bring all that a dead node's journal holds into the configured database, and remove it there.

    Nothing counts twice, however often it is done and whatever of it the node had written itself. Raises StartupError:
    where a process still writes the journal, where a node runs on the SQLite file, and where the database is gone; what
    was not written stays.
    """
    journal = _journal_of(folder)
    try:
        lock = take_lock(journal)
    except JournalInUseError as exc:
        raise StartupError(f"The usage journal {journal} is in use: {exc}; stop that node first.") from exc
    except OSError as exc:
        raise StartupError(f"The usage journal {journal} cannot be taken ({exc.strerror}).") from exc
    try:
        found = read(journal)
        async with _database(config) as database:
            adopted = await _write(found, SqlUsageStore(database), journal)
        for segment in found.segments:
            # What cannot be read is no entry, but may tell somebody what happened.
            if segment in found.torn:
                segment.rename(segment.with_name(segment.name + _TORN))
            else:
                segment.unlink()
    except (StoreUnavailableError, EntryRefusedError) as exc:
        raise StartupError(f"The database did not take the usage ({exc}); the rest is still in {journal}.") from exc
    except OSError as exc:
        raise StartupError(f"The usage journal {journal} cannot be read or cleared ({exc.strerror}).") from exc
    finally:
        os.close(lock)
    return adopted


async def _write(found: Found, store: SqlUsageStore, journal: Path) -> Adopted:
    entries = [*found.finished, *map(unknown, found.running)]
    ledger = Ledger(_Kept(), "", lambda: time.time_ns() // 1000, _nothing)
    ledger.restore(entries)
    counting, refused = _Counting(store), list[FinishedEntry]()
    aside = AsideFile(journal, lambda entry, _: refused.append(entry))
    await Drain(
        ledger, counting, _nothing, aside=aside, report_prune=_nothing, keep_records_us=0, keep_hours_us=0
    ).flush()
    return Adopted(len(entries), counting.new, len(found.running), len(refused))


class _Counting:
    """A store that counts what was new."""

    def __init__(self, store: SqlUsageStore) -> None:
        self._store = store
        self.new = 0

    async def insert(self, entries: Sequence[FinishedEntry]) -> int:
        new = await self._store.insert(entries)
        self.new += new
        return new

    async def prune(self, records_before_us: int, hours_before_us: int, limit: int) -> int:
        return await self._store.prune(records_before_us, hours_before_us, limit)


class _Kept:
    """Satisfies Journal for one that is only read: its files go when all of it is in the database."""

    def has_room(self) -> bool:
        return False

    def open(self, record_id: str, payload: bytes) -> Awaitable[None]:
        raise AssertionError("nothing is opened here")

    def finish(self, record_id: str, payload: bytes) -> Awaitable[None]:
        raise AssertionError("nothing ends here")

    def drained(self, record_ids: Sequence[str]) -> None:
        """Keep them until the end: a repeat counts nothing twice."""


def _nothing(_: object) -> None:
    """What the drain would report is raised here."""


def _journal_of(folder: Path) -> Path:
    for place in (folder / JOURNAL_FOLDER, folder):
        if place.is_dir() and (place.name == JOURNAL_FOLDER or segments(place)):
            return place
    raise StartupError(f"There is no usage journal in {folder}: name a node's data directory.")


@asynccontextmanager
async def _database(config: ServerConfig) -> AsyncIterator[Database]:
    if config.database_url is not None:
        database = await Database.open_postgresql(config.database_url.get_secret_value())
        try:
            yield database
        finally:
            await database.close()
        return
    directory = open_directory(config)
    try:
        database = await Database.open_sqlite(directory.database)
        try:
            yield database
        finally:
            await database.close()
    finally:
        directory.close()
