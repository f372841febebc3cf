"""What only a database in a file can get wrong: its schema, its settings, its failures."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from tests.stores.records import keep

from tokendance.errors import GatewayError
from tokendance.ids import new_id
from tokendance_server.domain.keys.key import Key, KeyCursor, KeyFilter, KeyQuota, KeySecret, Rotation
from tokendance_server.domain.organizations import Organization, Team
from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.organizations import SqlOrganizationStore
from tokendance_server.stores.sql.people import SqlPeopleStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database in a file."""
    database = await Database.open_sqlite(tmp_path / "gateway.db")
    yield database
    await database.close()


async def test_what_was_kept_is_there_after_closing(tmp_path: Path) -> None:
    """A second start finds the first one's rows and migrates nothing."""
    organization = Organization(new_id("org"), "x", NOW)
    for start in range(3):
        database = await Database.open_sqlite(tmp_path / "gateway.db")
        store = SqlOrganizationStore(database)
        if not start:
            await keep(SqlPeopleStore(database), organization)
        assert await store.get(organization.id) == organization
        await database.close()


async def test_the_connection_is_set_up_for_money(database: Database) -> None:
    """A commit survives the power going; references are checked; there is one connection however many ask."""

    async def settings() -> tuple[object, ...]:
        async with database.transaction() as connection:
            names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete")
            return tuple([(await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in names])

    assert set(await asyncio.gather(*(settings() for _ in range(5)))) == {("wal", 2, 1, 5000, 1)}
    assert database._engine.pool.status().startswith("Pool size: 1 ")


@pytest.mark.parametrize("content", [b"this is no database, but it is long enough " * 100, os.urandom(4096)])
async def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    """The line names the file and no driver."""
    file = tmp_path / "gateway.db"
    file.write_bytes(content)
    with pytest.raises(StartupError) as caught:
        await Database.open_sqlite(file)
    message = str(caught.value)
    assert str(file) in message
    assert "\n" not in message
    assert "sqlite" not in message.replace(str(file), "").lower()
    assert file.read_bytes() == content


async def test_errors_of_the_driver_never_leave_the_stores(database: Database) -> None:
    """A table that went missing, a reference to nothing, a connection that closed: each typed, without the values."""
    people, keys = SqlPeopleStore(database), SqlKeyStore(database)
    with pytest.raises(StoreUnavailableError) as conflict:
        await keep(people, Team(new_id("org"), new_id("team"), "secret-team", NOW))
    assert isinstance(conflict.value.__cause__, ConflictError)
    assert "secret-team" not in f"{conflict.value} {conflict.value.__cause__}"
    home = Organization(new_id("org"), "x", NOW)
    team = Team(home.id, new_id("team"), "x", NOW)
    await keep(people, home, team)
    orphan = Key(
        organization_id=home.id,
        id=new_id("key"),
        purpose="secret-purpose",
        owner_id=new_id("user"),
        team_id=team.id,
        quota=KeyQuota(inherited_from="x"),
        rotation=Rotation(86_400, new_id("user"), NOW),
        create_time=NOW,
        update_time=NOW,
        secrets=(KeySecret(b"d" * 32, "pep_1", NOW),),
    )
    for request_id in ("", "r"):
        with pytest.raises(StoreUnavailableError) as caught:
            await keys.add(orphan, request_id, b"f" * 32)
        chain = [caught.value, caught.value.__cause__, caught.value.__cause__ and caught.value.__cause__.__cause__]
        assert "secret-purpose" not in " ".join(str(link) for link in chain)
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE key_secrets"))
    with pytest.raises(StoreUnavailableError):
        await keys.get(orphan.id)
    with pytest.raises(GatewayError) as refused:
        await keys.find([b"d" * 32])
    assert refused.value.code == "key_store_unavailable"


async def test_a_lock_held_by_another_program_is_waited_for(database: Database, tmp_path: Path) -> None:
    """Somebody's open sqlite3 shell delays a write for a moment and fails none."""
    shell = sqlite3.connect(tmp_path / "gateway.db")
    shell.execute("BEGIN IMMEDIATE")
    organization = Organization(new_id("org"), "x", NOW)
    adding = asyncio.create_task(keep(SqlPeopleStore(database), organization))
    await asyncio.sleep(0.2)
    assert not adding.done()
    shell.rollback()
    await adding
    assert shell.execute("SELECT count(*) FROM organizations").fetchone() == (1,)
    shell.close()


async def test_every_read_goes_by_an_index(database: Database) -> None:
    """A million keys cost what ten cost: the statements that the store really sends scan no table."""
    sent: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        sent.append((statement, parameters))

    event.listen(database._engine.sync_engine, "before_cursor_execute", note)
    keys = SqlKeyStore(database)
    await keys.get("x")
    await keys.find([b"x", b"y"])
    await keys.list(KeyFilter(now=NOW), None, 3)
    await keys.list(KeyFilter(now=NOW, organization_id="x"), KeyCursor(NOW, "x"), 3)
    event.remove(database._engine.sync_engine, "before_cursor_execute", note)
    selects = [one for one in sent if one[0].startswith("SELECT")]
    assert len(selects) == 4
    for statement, parameters in selects:
        async with database.transaction() as connection:
            rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan = [row["detail"] for row in rows.mappings()]
        touched = [step for step in plan if step.startswith(("SCAN key", "SEARCH key"))]
        assert len(touched) >= 2, plan
        assert all("USING" in step and "INDEX" in step for step in touched), plan


async def test_a_caller_that_leaves_in_the_middle_of_a_change_locks_nobody_out(database: Database) -> None:
    """Whatever its statement was at: its transaction is undone or done, and the next one begins at once."""
    people, dice = SqlPeopleStore(database), random.Random(2)
    organization = Organization(new_id("org"), "x", NOW)
    await keep(people, organization)

    async def change() -> None:
        async with people.tenant(organization.id) as tenant:
            for _ in range(5):
                await tenant.organization()
            await tenant.put(organization, NOW)

    left = []
    for _ in range(60):
        leaving = asyncio.create_task(change())
        await asyncio.sleep(dice.random() * 0.006)
        leaving.cancel()
        # What the caller was told holds on to where it was, as a log or a debugger would.
        left.append((await asyncio.gather(leaving, return_exceptions=True))[0])
        await asyncio.wait_for(change(), 2)
