"""What only PostgreSQL can get wrong: reaching it, what its driver says, and connections that end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, text
from tests.servers import PostgresServer, own_postgres
from tests.stores.conftest import migrate
from tests.stores.records import keep

from tokendance.ids import new_id
from tokendance_server.domain.keys.key import Key, KeyCursor, KeyFilter, KeyQuota, KeySecret, Rotation
from tokendance_server.domain.organizations import Organization, Team
from tokendance_server.startup import StartupError
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql import postgresql
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.organizations import SqlOrganizationStore
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.stores.sql.people_rows import organization_row
from tokendance_server.stores.sql.tables import organizations

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PASSWORD = "hunter2"


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """A PostgreSQL with the schema, and no row."""
    database = await Database.open_postgresql(postgres_url)
    yield database
    await database.close()


def _told(error: BaseException) -> str:
    """Everything that a traceback of the error would show."""
    words = []
    link: BaseException | None = error
    while link is not None:
        words.append(f"{type(link).__name__}: {link}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join(words)


async def _refusal(url: str) -> str:
    with pytest.raises(StartupError) as caught:
        await Database.open_postgresql(url)
    assert PASSWORD not in _told(caught.value)
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_a_server_that_cannot_be_reached_is_named_without_the_password(postgres_server: PostgresServer) -> None:
    """One line: where, what is wrong, and what to check."""
    message = await _refusal(f"postgresql://u:{PASSWORD}@127.0.0.1:1/gateway?sslmode=disable")
    assert message == (
        "The database 127.0.0.1:1/gateway cannot be opened (the database cannot be reached: nothing listens there); "
        "check server.database_url, and that it runs."
    )
    assert "does not exist" in await _refusal(postgres_server.url("nowhere"))
    assert "cannot be reached" in await _refusal(f"postgresql://u:{PASSWORD}@/x?host=/nowhere")
    assert "cannot be used" in await _refusal(f"postgresql://u:{PASSWORD}@127.0.0.1:1/x?sslmode={PASSWORD}")


async def test_a_wrong_password_is_told_apart(postgres_server: PostgresServer, postgres_url: str) -> None:
    """Whoever may not log in learns that, and not which of the two is wrong."""
    role = "tokendance_test_nologin"
    postgres_server.execute(f"CREATE ROLE {role} NOLOGIN")
    try:
        url = postgres_url.replace("postgresql://postgres@", f"postgresql://{role}:{PASSWORD}@")
        assert "refuses the user or the password" in await _refusal(url)
    finally:
        postgres_server.execute(f"DROP ROLE {role}")


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    """Somebody who accepts and says nothing costs the stated seconds, not a minute."""
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    engine = postgresql.make_engine(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/x?sslmode=disable", connect_s=0.3)
    database = Database(engine, "x", read_options=postgresql.READ_OPTIONS, describe=postgresql.describe)
    with pytest.raises(StoreUnavailableError, match=r"does not answer within 0\.3 s"):
        await database.schema()
    await database.close()
    silent.close()
    for writer in held:
        writer.close()
    await silent.wait_closed()


async def test_a_database_that_keeps_no_unicode_is_refused(postgres_server: PostgresServer) -> None:
    """With the command that makes one that does."""
    name = "tokendance_test_ascii"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        assert "createdb --encoding=UTF8" in await _refusal(postgres_server.url(name))
    finally:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_errors_of_the_driver_never_leave_the_stores(database: Database) -> None:
    """Nor its words, which hold the values of rows: only the kind of the failure and the constraint."""
    people, keys = SqlPeopleStore(database), SqlKeyStore(database)
    organization = Organization(new_id("org"), "secret-name", NOW)
    await keep(people, organization)
    with pytest.raises(ConflictError, match=r"UniqueViolationError 23505 pk_organizations") as conflict:
        async with database.transaction() as connection:
            await connection.execute(organizations.insert(), organization_row(organization))
    assert organization.id not in _told(conflict.value)
    with pytest.raises(StoreUnavailableError) as no_parent:
        await keep(people, Team(new_id("org"), new_id("team"), "secret-team", NOW))
    assert "fk_teams_organization_id" in str(no_parent.value.__cause__)
    with pytest.raises(StoreUnavailableError) as too_long:
        await keep(people, Organization(new_id("org"), "secret-name" * 100, NOW))
    team = Team(organization.id, new_id("team"), "x", NOW)
    await keep(people, team)
    orphan = Key(
        organization_id=organization.id,
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
    with pytest.raises(StoreUnavailableError) as contradicts:
        await keys.add(orphan, "r", b"f" * 32)
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE key_secrets"))
    with pytest.raises(StoreUnavailableError, match="UndefinedTableError 42P01") as missing:
        await keys.get(orphan.id)
    for caught in (no_parent, too_long, contradicts, missing):
        assert "secret-" not in _told(caught.value)


async def test_connections_that_end_are_replaced(postgres_server: PostgresServer, database: Database) -> None:
    """A restart of the server fails no call that comes after it; the pool does not grow over its size."""
    store = SqlOrganizationStore(database)
    organization = Organization(new_id("org"), "x", NOW)
    await keep(SqlPeopleStore(database), organization)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tokendance-gateway'"
    for _ in range(3):
        assert await asyncio.gather(*(store.get(organization.id) for _ in range(40))) == [organization] * 40
        assert len(postgres_server.execute(ended)) <= 10
    assert await store.get(organization.id) == organization


async def test_a_server_that_stands_still_holds_nobody_longer_than_he_waits(
    postgres_server: PostgresServer,
) -> None:
    """A caller who gives up is let go within two seconds; afterwards every connection is of use again."""
    ours = own_postgres() if postgres_server.process is None else nullcontext(postgres_server)
    with ours as server, server.database() as url:
        await migrate(url)
        database = await Database.open_postgresql(url)
        await _freeze(server, database)
        await database.close()


async def _freeze(server: PostgresServer, database: Database) -> None:
    store = SqlOrganizationStore(database)

    async def give_up() -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.get("x")
        return time.monotonic() - began

    await asyncio.gather(*(store.get("x") for _ in range(20)))
    with server.frozen():
        assert max(await asyncio.gather(*(give_up() for _ in range(15)))) < 4
    assert await asyncio.gather(*(store.get("x") for _ in range(20))) == [None] * 20
    assert database._engine.pool.status().endswith("Current Checked out connections: 0")


async def _sleep(database: Database, limit: str) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(f"SET LOCAL statement_timeout = '{limit}'"))
        await connection.execute(text("SELECT pg_sleep(5)"))


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(database: Database) -> None:
    """The connection is of use afterwards; the limit is part of each connection."""
    async with database.transaction() as connection:
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "10s"
        assert (await connection.execute(text("SHOW application_name"))).scalar() == "tokendance-gateway"
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="QueryCanceledError 57014"):
        await _sleep(database, limit="200ms")
    assert time.monotonic() - began < 3
    assert await SqlOrganizationStore(database).get("x") is None


async def test_a_lock_by_name_is_held_until_the_end_of_the_transaction(database: Database) -> None:
    """One at a time under one name, and nobody waits for another name."""
    inside = 0

    async def enter(name: str) -> None:
        nonlocal inside
        async with database.transaction() as connection:
            await database.lock(connection, name)
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(enter("a") for _ in range(8)))
    async with database.transaction() as connection:
        await database.lock(connection, "a")
        await asyncio.wait_for(enter("b"), 5)


async def test_every_read_goes_by_an_index(database: Database) -> None:
    """A million keys cost what ten cost: where it can, the server scans no table for what the store asks."""
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
    assert len(sent) == 4
    for statement, parameters in sent:
        async with database.transaction() as connection:
            # An empty table is quickest read whole; what counts is whether it must be.
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
            await connection.execute(text("SET LOCAL enable_sort = off"))
            plan = (await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars().all()
        assert not any("Seq Scan" in step for step in plan), plan
        assert sum("Index" in step and "Scan" in step for step in plan) >= 2, plan
