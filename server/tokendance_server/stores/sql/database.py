"""The database: its one connection, its schema, and the only place where the errors of drivers are seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.migrations import HEAD, VERSION_TABLE

_WAIT_S = 10
_BUSY_MS = 5_000
_ONE_STATEMENT = "one_statement"


class ConflictError(Exception):
    """A row of the same key is there already, or a row that it belongs to is not. Never leaves the stores."""


class Database:
    """One database. `open` brings its schema up to date."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(**{_ONE_STATEMENT: True})

    @classmethod
    async def open_sqlite(cls, file: Path) -> Database:
        """Open a SQLite file, made where there is none.

        Raises StartupError where the file is no database, is damaged, or was written by a newer version.
        """
        # One connection does everything: SQLite has one writer at a time in any case, and the releases before 3.51.3
        # can damage a file whose write-ahead log two connections check in at once.
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(file)),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=1,
            max_overflow=0,
            pool_timeout=_WAIT_S,
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        database = cls(engine)
        try:
            async with database.transaction() as connection:
                await connection.run_sync(_upgrade)
        except (StoreUnavailableError, ConflictError) as exc:
            await engine.dispose()
            raise StartupError(
                f"The database {file} cannot be opened ({exc}); check the disk, or restore a backup."
            ) from exc
        except BaseException:
            await engine.dispose()
            raise
        return database

    async def close(self) -> None:
        """Close the connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for one transaction, committed at the end, rolled back where anything was raised.

        Raises ConflictError for a row that cannot be there, StoreUnavailableError for everything else of the driver.
        """
        with _typed_errors():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for one statement that reads; it needs no transaction around it, which costs two trips.

        Raises StoreUnavailableError.
        """
        with _typed_errors():
            async with self._reads.connect() as connection:
                yield connection


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except IntegrityError as exc:
        raise ConflictError(str(exc.orig)) from exc
    except SQLAlchemyError as exc:
        raise StoreUnavailableError(f"the database failed: {type(exc).__name__}") from exc


def _upgrade(connection: Connection) -> None:
    version = None
    if inspect(connection).has_table(VERSION_TABLE):
        version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - ours
    if version == HEAD:
        return
    # Alembic is loaded only where there is something to do: it is a good part of the time to start.
    from tokendance_server.stores.migrations.upgrade import is_known, upgrade

    if version is not None and not is_known(version):
        raise StartupError(
            f"The database was written by a newer version of the gateway (schema {version}); start that one instead."
        )
    upgrade(connection)


def _set_up_sqlite(dbapi_connection: Any, _record: Any) -> None:
    # The driver would begin transactions late and commit schema changes by itself; _begin_sqlite begins them instead.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        # NORMAL may lose the last commits when the power goes.
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if not connection.get_execution_options().get(_ONE_STATEMENT):
        connection.exec_driver_sql("BEGIN")
