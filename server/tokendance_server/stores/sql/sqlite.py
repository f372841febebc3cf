"""SQLite: one connection to one file, set up so that a commit survives the power going."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from tokendance_server.startup import StartupError
from tokendance_server.stores.migrations.state import SchemaState, read_state

_WAIT_S = 10
_BUSY_MS = 5_000
READ_OPTIONS = {"one_statement": True}
"""Execution options of a connection that reads with one statement and needs no transaction around it."""


class _Connection(sqlite3.Connection):
    """Rolls back before it is closed.

    The statement of a caller who left in the middle would otherwise keep it open underneath, and the file locked.
    """

    def close(self) -> None:
        """Close the connection and end its transaction."""
        if self.in_transaction:
            self.rollback()
        super().close()


def make_engine(file: Path) -> AsyncEngine:
    """Return the engine of a file, which is made at the first connection where there is none."""
    # One connection does everything: SQLite has one writer at a time in any case, and the releases before 3.51.3
    # can damage a file whose write-ahead log two connections check in at once.
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=_WAIT_S,
        hide_parameters=True,
        connect_args={"factory": _Connection},
    )
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def make_reader(file: Path) -> AsyncEngine:
    """Return an engine that only reads a file, also while a node runs on it, and makes no other file beside it."""
    return create_async_engine(f"sqlite+aiosqlite:///{_read_only(file)}", poolclass=NullPool, hide_parameters=True)


def _read_only(file: Path) -> str:
    # Without a log beside it nobody has it open, and SQLite need make no files of its own to be told of others.
    used = file.with_name(f"{file.name}-wal").exists()
    return f"file:{quote(str(file.absolute()))}?{'mode=ro' if used else 'immutable=1'}&uri=true"


def peek(file: Path) -> SchemaState:
    """Return the schema of a file without changing it, also while a node runs on it. Raises StartupError."""
    if not file.exists():
        return SchemaState(None, None)
    engine = create_engine(f"sqlite:///{_read_only(file)}", poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return read_state(connection)
    except DBAPIError as exc:
        raise StartupError(f"The database {file} cannot be read ({describe(exc)}); restore a backup.") from exc


def describe(error: DBAPIError) -> str:
    """Return what the driver says went wrong; its words name tables and columns, never values."""
    return str(error.orig)


async def copy_to(connection: AsyncConnection, copy: Path) -> None:
    """Write the whole database to a file of mode 0600, which is there complete or not at all.

    `connection` must be outside of a transaction. Raises StartupError where the file cannot be written.
    """
    draft = copy.with_name(f"{copy.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        # SQLite fills a file that is empty and keeps its mode.
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        await connection.exec_driver_sql("VACUUM INTO ?", (str(draft),))
        _flush(draft)
        draft.replace(copy)
        _flush(copy.parent)
    except (OSError, DBAPIError) as exc:
        draft.unlink(missing_ok=True)
        reason = describe(exc) if isinstance(exc, DBAPIError) else exc.strerror
        raise StartupError(
            f"The database cannot be copied to {copy} ({reason}), and is not migrated without; "
            "make room there, then start again."
        ) from exc


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _set_up(dbapi_connection: Any, _record: Any) -> None:
    # The driver would begin transactions late and commit schema changes by itself; _begin begins them instead.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # NORMAL may lose the last commits when the power goes.
        "synchronous=FULL",
        "foreign_keys=ON",
        # What was erased is overwritten; some builds of SQLite would leave it in the free pages of the file.
        "secure_delete=ON",
        f"busy_timeout={_BUSY_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    if not connection.get_execution_options().get("one_statement"):
        # At once for writing, waiting for a writer before it: one that begins to read, and writes later, would fail
        # where the connection of a caller who left commits in between.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
