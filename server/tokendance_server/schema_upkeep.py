"""What looks after the schema of the configured database, while nodes run on it or none does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tokendance_server.config import ServerConfig
from tokendance_server.startup import StartupError
from tokendance_server.storage import open_directory
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.migrations import OLDEST_CODE_VERSION
from tokendance_server.stores.migrations.state import SchemaState, Verdict, is_older, running_version
from tokendance_server.stores.paths import DATABASE_FILE
from tokendance_server.stores.sql import sqlite
from tokendance_server.stores.sql.database import Database, too_new
from tokendance_server.stores.sql.leases import Holder, holders


@dataclass(frozen=True, slots=True)
class SchemaReport:
    """The schema of a database, what this version of the gateway makes of it, and the nodes that serve it now.

    `pending` are the migrations that are missing, in order: number and what each does.
    """

    place: str
    state: SchemaState
    verdict: Verdict
    pending: Sequence[tuple[str, str]]
    holders: Sequence[Holder]


async def report(config: ServerConfig) -> SchemaReport:
    """Return what there is and change nothing. Raises StartupError."""
    if config.database_url is None:
        file = config.data_dir / DATABASE_FILE
        return _report(str(file), sqlite.peek(file), [])
    async with _postgresql(config) as database:
        state = await database.schema()
        serving = await holders(database) if _has_leases(state) else []
        return _report(database.place, state, serving)


async def plan(config: ServerConfig) -> SchemaReport:
    """Return what there is to do and change nothing. Raises StartupError, also for a schema that is too new."""
    found = await report(config)
    if found.verdict is Verdict.REFUSED:
        raise too_new(found.place, found.state)
    return found


async def apply(config: ServerConfig) -> SchemaReport:
    """Bring the schema to that of this version and return what there was to do. Raises StartupError.

    Refused where it is too new, and where a node that runs would no longer be served. A SQLite file is copied first,
    and no node may run on it.
    """
    before = await plan(config)
    if before.verdict is not Verdict.BEHIND:
        return before
    left_behind = [one for one in before.holders if is_older(one.code_version, OLDEST_CODE_VERSION)]
    if left_behind:
        raise StartupError(
            f"The node {left_behind[0].node_id} runs version {left_behind[0].code_version}, and the new schema serves "
            f"{OLDEST_CODE_VERSION} or newer; stop it, or start that version there first."
        )
    if config.database_url is None:
        directory = open_directory(config)
        try:
            database = await Database.open_sqlite(directory.database)
            await database.close()
        finally:
            directory.close()
        return before
    async with _postgresql(config) as database:
        done = await database.migrate()
    # Another one was quicker, where this one had nothing to do.
    return before if done else await plan(config)


def _report(place: str, state: SchemaState, serving: Sequence[Holder]) -> SchemaReport:
    verdict = state.verdict(running_version())
    pending: Sequence[tuple[str, str]] = []
    if verdict is Verdict.BEHIND:
        # Alembic is loaded only where there is something to do.
        from tokendance_server.stores.migrations.upgrade import pending as pending_after

        pending = pending_after(state.revision)
    return SchemaReport(place, state, verdict, pending, serving)


def _has_leases(state: SchemaState) -> bool:
    return state.revision is not None and state.revision >= "0003"


@asynccontextmanager
async def _postgresql(config: ServerConfig) -> AsyncIterator[Database]:
    assert config.database_url is not None
    database = await Database.connect_postgresql(config.database_url.get_secret_value())
    try:
        yield database
    except StoreUnavailableError as exc:
        raise StartupError(
            f"The database {database.place} could not be migrated and is as it was ({exc}); try again."
        ) from exc
    finally:
        await database.close()
