"""The database: its connections, its schema, and the only place where the errors of drivers are seen."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import ContentRefusedError, StoreUnavailableError
from tokendance_server.stores.migrations import HEAD
from tokendance_server.stores.migrations.state import SchemaState, Verdict, read_state, running_version
from tokendance_server.stores.sql import sqlite

_LOCK_CLASS = 0x746B64  # "tkd": keeps our advisory locks apart from those of others in one PostgreSQL database
_MIGRATION_LOCK = "migration"
# A schema change waits behind whoever reads the table, and everybody else waits behind it.
_SCHEMA_CHANGE_WAIT = "10s"
_CHECK_URL = "check server.database_url, and that it runs"


class ConflictError(Exception):
    """A row of the same key is there already, or a row that it belongs to is not. Never leaves the stores."""


class Database:
    """One database; `place` names it to operators. The `open_…` check that its schema serves this version."""

    def __init__(
        self,
        engine: AsyncEngine,
        place: str,
        *,
        read_options: Mapping[str, Any],
        describe: Callable[[DBAPIError], str],
    ) -> None:
        self.place = place
        self._engine = engine
        self._reads = engine.execution_options(**read_options)
        self._describe = describe

    @classmethod
    async def open_sqlite(cls, file: Path, *, code_version: str | None = None) -> Database:
        """Open a SQLite file, made where there is none, and bring its schema up to date after taking a copy of it.

        `code_version` is that of the running gateway, when None. Raises StartupError where the file is no database,
        is damaged, or serves newer versions only, and where it cannot be copied.
        """
        database = cls(sqlite.make_engine(file), str(file), read_options=sqlite.READ_OPTIONS, describe=sqlite.describe)
        async with database.closed_on_failure("check the disk, or restore a backup"):
            state = await database.schema()
            verdict = state.verdict(code_version or running_version())
            if verdict is Verdict.REFUSED:
                raise too_new(database.place, state)
            if verdict is Verdict.BEHIND:
                if state.revision is not None:
                    async with database.read() as connection:
                        await sqlite.copy_to(connection, file.with_name(f"{file.name}.before-{HEAD}"))
                await database.migrate()
        return database

    @classmethod
    async def open_postgresql(cls, url: str, *, code_version: str | None = None) -> Database:
        """Connect to `postgresql://USER:PASSWORD@HOST:PORT/NAME`, whose schema is left as it is.

        `code_version` is that of the running gateway, when None. Raises StartupError, without the password, where it
        cannot be reached, must be migrated first, or serves newer versions only.
        """
        database = await cls.connect_postgresql(url)
        async with database.closed_on_failure(_CHECK_URL):
            state = await database.schema()
            verdict = state.verdict(code_version or running_version())
            if verdict is Verdict.REFUSED:
                raise too_new(database.place, state)
            if verdict is Verdict.BEHIND:
                raise StartupError(
                    f"The database {database.place} has schema {state.revision or 'none'}, and this version needs "
                    f"{HEAD}; run `tokendance migrate apply`."
                )
        return database

    @classmethod
    def read_sqlite(cls, file: Path) -> Database:
        """Open a SQLite file that is there, whatever its schema, only to read it; also while a node runs on it."""
        return cls(sqlite.make_reader(file), str(file), read_options={}, describe=sqlite.describe)

    @classmethod
    async def connect_postgresql(cls, url: str, *, read_only: bool = False) -> Database:
        """Connect as `open_postgresql`, whatever the schema: for what looks after it. Raises StartupError."""
        # The driver is loaded only by who needs it: it is a good part of the time to start.
        from tokendance_server.stores.sql import postgresql

        database = cls(
            postgresql.make_engine(url, read_only=read_only),
            postgresql.place_of(url),
            read_options=postgresql.READ_OPTIONS,
            describe=postgresql.describe,
        )
        async with database.closed_on_failure(_CHECK_URL), database.read() as connection:
            await connection.run_sync(postgresql.check_encoding)
        return database

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for one transaction, committed at the end, rolled back where anything was raised.

        Raises ConflictError for a row that cannot be there, StoreUnavailableError for everything else of the driver.
        """
        with self._typed_errors():
            async with self._engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for one statement that reads; it needs no transaction around it, which costs two trips.

        Raises StoreUnavailableError.
        """
        with self._typed_errors():
            async with self._reads.connect() as connection:
                yield connection

    async def lock(self, connection: AsyncConnection, name: str) -> None:
        """Let one transaction at a time hold the lock of a name, until its end; the others wait.

        SQLite has one connection, and so one transaction at a time in any case.
        """
        if self.is_shared:
            number = zlib.crc32(name.encode()) - 2**31
            await connection.execute(
                text("SELECT pg_advisory_xact_lock(:class, :number)"), {"class": _LOCK_CLASS, "number": number}
            )

    @property
    def is_shared(self) -> bool:
        """True where other processes may use the database at the same time."""
        return self._engine.dialect.name == "postgresql"

    async def schema(self) -> SchemaState:
        """Return what schema the database has. Raises StoreUnavailableError."""
        with self._typed_errors():
            async with self._reads.connect() as connection:
                return await connection.run_sync(read_state)

    async def migrate(self) -> bool:
        """Bring the schema to that of this version, in one transaction; returns False where nothing was to be done.

        Several at once wait for each other. Raises StartupError for a newer schema, StoreUnavailableError.
        """
        try:
            async with self.transaction() as connection:
                if self.is_shared:
                    await connection.execute(text("SET LOCAL statement_timeout = 0"))
                await self.lock(connection, _MIGRATION_LOCK)
                if self.is_shared:
                    await connection.execute(text(f"SET LOCAL lock_timeout = '{_SCHEMA_CHANGE_WAIT}'"))
                return await connection.run_sync(self._upgrade)
        except ConflictError as exc:
            raise StoreUnavailableError(f"what the database holds contradicts the new schema: {exc}") from exc

    def _upgrade(self, connection: Connection) -> bool:
        state = read_state(connection)
        if state.revision == HEAD:
            return False
        if state.verdict(running_version()) is not Verdict.BEHIND:
            raise too_new(self.place, state)
        # Alembic is loaded only where there is something to do: it is a good part of the time to start.
        from tokendance_server.stores.migrations.upgrade import upgrade

        upgrade(connection)
        return True

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        # None of them is chained: what drivers say may hold values of rows, and goes into logs with the traceback.
        try:
            yield
        except IntegrityError as exc:
            raise ConflictError(self._describe(exc)) from None
        except DBAPIError as exc:
            # SQLSTATE class 22, data exceptions: not every driver's come as a DataError.
            if isinstance(exc, DataError) or str(getattr(exc.orig, "sqlstate", "")).startswith("22"):
                raise ContentRefusedError(f"the database takes no such value: {self._describe(exc)}") from None
            raise StoreUnavailableError(f"the database failed: {self._describe(exc)}") from None
        except (SQLAlchemyError, OSError) as exc:
            raise StoreUnavailableError(f"the database failed: {type(exc).__name__}") from None

    @asynccontextmanager
    async def closed_on_failure(self, remedy: str) -> AsyncIterator[None]:
        """Close the database where what is done raises; what is the stores' becomes a StartupError with `remedy`."""
        try:
            yield
        except StoreUnavailableError as exc:
            await self.close()
            raise StartupError(f"The database {self.place} cannot be opened ({exc}); {remedy}.") from exc
        except BaseException:
            await self.close()
            raise


def too_new(place: str, state: SchemaState) -> StartupError:
    """Return what refuses a schema on which this version would do harm."""
    needed = f"version {state.oldest_code_version} or newer" if state.oldest_code_version else "a newer version"
    return StartupError(
        f"The database {place} was written by a newer version of the gateway (schema {state.revision}) and serves "
        f"{needed}, not {running_version()}; start that one instead, or restore a copy from before."
    )
