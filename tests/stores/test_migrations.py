"""Migrations on both databases: forward with data, never backward, whole or not at all, and by one at a time."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from tests.servers import PostgresServer
from tests.stores.old_schemas import DIGEST, KEY, make_first_schema, migrate_and_die

from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.migrations import HEAD, OLDEST_CODE_VERSION, VERSION_TABLE, upgrade
from tokendance_server.stores.migrations.state import SchemaState, Verdict, is_older, known_before
from tokendance_server.stores.sql import sqlite
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.schema import metadata


@dataclass(frozen=True)
class Place:
    """Where a database is: a SQLite file, or the URL of a PostgreSQL."""

    kind: str
    name: str

    async def connect(self) -> Database:
        """Open it whatever its schema."""
        if self.kind == "postgresql":
            return await Database.connect_postgresql(self.name)
        file = Path(self.name)
        return Database(sqlite.make_engine(file), str(file), read_options=sqlite.READ_OPTIONS, describe=sqlite.describe)

    async def open(self, code_version: str | None = None) -> Database:
        """Open it as a node does."""
        if self.kind == "postgresql":
            return await Database.open_postgresql(self.name, code_version=code_version)
        return await Database.open_sqlite(Path(self.name), code_version=code_version)

    async def run(self, act: Any) -> Any:
        """Run a function on one connection, in one transaction."""
        database = await self.connect()
        try:
            async with database.transaction() as connection:
                return await connection.run_sync(act)
        finally:
            await database.close()

    async def execute(self, statement: str) -> None:
        """Run one statement."""
        await self.run(lambda connection: connection.execute(text(statement)))

    async def schema(self) -> SchemaState:
        """The schema as it is now."""
        database = await self.connect()
        try:
            return await database.schema()
        finally:
            await database.close()

    async def migrate(self) -> bool:
        """Bring it up to date, as far as a start does not do it."""
        database = await self.connect()
        try:
            return await database.migrate()
        finally:
            await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database without a schema."""
    if request.param == "sqlite":
        yield Place("sqlite", str(tmp_path / "gateway.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as url:
        yield Place("postgresql", url)


def _named(folder: Path, part: str) -> list[str]:
    return [path.name for path in folder.iterdir() if part in path.name]


async def _key_of(place: Place) -> Any:
    database = await place.open()
    try:
        return await SqlKeyStore(database).find([DIGEST])
    finally:
        await database.close()


async def test_data_of_the_first_version_is_there_after_migrating(place: Place) -> None:
    """Its key is found by its digest, with all that it had, and the schema says whom it serves."""
    await place.run(make_first_schema)
    assert await place.schema() == SchemaState("0001", None)
    if place.kind == "postgresql":
        assert await place.migrate() is True
    key = await _key_of(place)
    assert (key.id, key.purpose, dict(key.labels)) == (KEY, "from an old version", {"a": "1"})
    assert await place.schema() == SchemaState(HEAD, OLDEST_CODE_VERSION)
    assert await place.migrate() is False


async def test_a_postgresql_is_migrated_by_its_operator_alone(postgres_server: PostgresServer) -> None:
    """A node refuses an empty one and an old one, says the command, and leaves it as it is."""
    with postgres_server.database() as url:
        place = Place("postgresql", url)
        for revision in (None, "0001"):
            with pytest.raises(StartupError, match="run `tokendance migrate apply`") as caught:
                await place.open()
            assert "\n" not in str(caught.value)
            assert (await place.schema()).revision == revision
            if revision is None:
                await place.run(make_first_schema)


async def test_a_schema_that_serves_newer_versions_only_is_refused(place: Place) -> None:
    """By a start and by a migration, with a line that names the version that is needed; it stays as it is."""
    await place.run(make_first_schema)
    await place.migrate()
    await place.execute("UPDATE schema_version SET version_num = '9999'")
    await place.execute("UPDATE schema_info SET oldest_code_version = '7.2.0'")
    for refuse in (place.open, place.migrate):
        with pytest.raises(StartupError, match=r"serves version 7\.2\.0 or newer") as caught:
            await refuse()
        assert "\n" not in str(caught.value)
    assert await place.schema() == SchemaState("9999", "7.2.0")


async def test_older_code_may_start_on_a_newer_schema_that_still_serves_it(place: Place) -> None:
    """So that nodes of two versions can run while the first ones are replaced; nothing is migrated."""
    await place.run(make_first_schema)
    await place.migrate()
    await place.execute("UPDATE schema_version SET version_num = '9999'")
    await place.execute("UPDATE schema_info SET oldest_code_version = '0.5.0'")
    for code_version in ("0.5.0", "0.10.0", "1.0"):
        database = await place.open(code_version)
        assert (await SqlKeyStore(database).find([DIGEST])) is not None
        await database.close()
    with pytest.raises(StartupError, match="newer version"):
        await place.open("0.4.9")
    assert (await place.schema()).revision == "9999"


@pytest.mark.parametrize("fatal", ["CREATE TABLE changes", "INSERT INTO schema_info"])
async def test_a_crash_inside_leaves_the_old_schema_and_its_data(place: Place, fatal: str) -> None:
    """Killed in the first step or right before the commit; the next attempt goes through."""
    await place.run(make_first_schema)
    await asyncio.to_thread(migrate_and_die, place.name, fatal)
    assert await place.schema() == SchemaState("0001", None)
    if place.kind == "postgresql":
        assert await place.migrate() is True
    assert (await _key_of(place)).id == KEY
    assert await place.schema() == SchemaState(HEAD, OLDEST_CODE_VERSION)


async def test_a_migration_that_fails_leaves_nothing_behind(place: Place) -> None:
    """The table in the way is there before and after, and nothing else."""
    await place.run(make_first_schema)
    await place.execute("CREATE TABLE peppers (x INTEGER)")
    with pytest.raises((StartupError, StoreUnavailableError)):
        await (place.migrate() if place.kind == "postgresql" else place.open())
    assert await place.schema() == SchemaState("0001", None)
    await place.execute("DROP TABLE peppers")
    await place.migrate()
    assert (await place.schema()).revision == HEAD


async def test_the_migrations_make_the_tables_that_the_stores_use(database: Database) -> None:
    """The schema by migration and the schema by declaration have no difference, and the stated head is the last."""

    def differences(connection: Connection) -> list[Any]:
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return found

    async with database.transaction() as connection:
        assert await connection.run_sync(differences) == []
    assert [number for number, _ in upgrade.pending(None)] == [*sorted(known_before(HEAD)), HEAD]
    assert upgrade.pending(HEAD) == []
    assert (await database.schema()).revision == HEAD


async def test_a_sqlite_file_is_copied_before_it_is_migrated(tmp_path: Path) -> None:
    """The copy is private, is what was there before, and can be put back; a new file needs none."""
    place = Place("sqlite", str(tmp_path / "gateway.db"))
    await place.run(make_first_schema)
    await (await place.open()).close()
    copy = tmp_path / f"gateway.db.before-{HEAD}"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert _named(tmp_path, "before") == [copy.name]
    before = Place("sqlite", str(copy))
    assert await before.schema() == SchemaState("0001", None)
    await (await Database.open_sqlite(tmp_path / "new.db")).close()
    assert _named(tmp_path, "before") == [copy.name]
    assert (await _key_of(before)).id == KEY


async def test_a_sqlite_file_that_cannot_be_copied_is_not_migrated(tmp_path: Path) -> None:
    """One line says where there is no room."""
    place = Place("sqlite", str(tmp_path / "gateway.db"))
    await place.run(make_first_schema)
    blocked = tmp_path / f"gateway.db.before-{HEAD}"
    (blocked / "x").mkdir(parents=True)
    with pytest.raises(StartupError, match=r"cannot be copied to .* is not migrated without") as caught:
        await place.open()
    assert "\n" not in str(caught.value)
    assert (await place.schema()).revision == "0001"
    assert _named(tmp_path, "draft") == []


@pytest.mark.parametrize(
    ("state", "code_version", "verdict"),
    [
        (SchemaState(None, None), "1.0", Verdict.BEHIND),
        (SchemaState("0002", None), "1.0", Verdict.BEHIND),
        (SchemaState("0003", "1.0"), "1.0", Verdict.CURRENT),
        (SchemaState("0003", "1.0.1"), "1.0", Verdict.REFUSED),
        (SchemaState("0004", "1.0"), "1.0", Verdict.SERVED),
        (SchemaState("0004", "1.0"), "1.0.0rc1", Verdict.SERVED),
        (SchemaState("0004", "1.1"), "1.0", Verdict.REFUSED),
        (SchemaState("0004", None), "1.0", Verdict.REFUSED),
        (SchemaState("somebody's", None), "1.0", Verdict.REFUSED),
    ],
)
def test_what_a_version_may_do_with_a_schema(state: SchemaState, code_version: str, verdict: Verdict) -> None:
    """Seen from a version that knows schema 0003."""
    assert state.verdict(code_version, head="0003") is verdict


def test_versions_are_compared_by_number() -> None:
    """0.10 comes after 0.9."""
    assert is_older("0.9", "0.10")
    assert not is_older("0.10", "0.9")
    assert not is_older("1.0", "1.0.0")
    assert is_older("", "0.1")
