"""`tokendance migrate` on both databases, and what it says when there is nothing or nobody."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.servers import PostgresServer
from tests.tools.tokendance_cli.conftest import Run, command_environment

from tokendance_server.stores.migrations import HEAD
from tokendance_server.stores.sql.database import _MIGRATION_LOCK, Database

VARIABLE = "TOKENDANCE_GATEWAY_SERVER__DATABASE_URL"


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database without a schema."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables that name each database."""
    return {} if request.param == "sqlite" else {VARIABLE: request.getfixturevalue("url")}


def test_plan_changes_nothing_and_apply_does_what_it_says(run: Run, where: dict[str, str]) -> None:
    """Status tells by its exit code whether a node could start; a second apply does nothing."""
    before = run("migrate", "status", "--format", "json", **where)
    assert before.returncode == 1, before.stderr
    document = json.loads(before.stdout)
    assert (document["schema"], document["state"], document["nodes"]) == (None, "behind", [])
    plan = run("migrate", "plan", **where)
    assert plan.stdout.splitlines()[0].split() == ["MIGRATION", "DOES"]
    assert [line.split()[0] for line in plan.stdout.splitlines()[1:]] == [
        f"{number:04}" for number in range(1, int(HEAD) + 1)
    ]
    assert run("migrate", "plan", **where).stdout == plan.stdout
    applied = run("migrate", "apply", **where)
    assert (applied.returncode, applied.stdout) == (0, plan.stdout), applied.stderr
    again = run("migrate", "apply", **where)
    assert (again.returncode, again.stdout) == (0, "")
    assert "Nothing to do" in again.stderr
    after = run("migrate", "status", **where)
    assert after.returncode == 0
    assert f"{HEAD}, up to date" in after.stdout


@pytest.fixture
def execute(
    where: dict[str, str], tmp_path: Path, postgres_server: PostgresServer
) -> Callable[[str], list[tuple[object, ...]]]:
    """What runs a statement on the database of `where`."""

    def execute(statement: str) -> list[tuple[object, ...]]:
        if where:
            return postgres_server.execute(statement, where[VARIABLE])
        with closing(sqlite3.connect(tmp_path / ".tokendance" / "gateway.db")) as database, database:
            return [tuple(row) for row in database.execute(statement)]

    return execute


def test_a_schema_that_is_too_new_is_shown_and_left(
    run: Run, where: dict[str, str], execute: Callable[[str], list[tuple[object, ...]]]
) -> None:
    """Every command says so and fails, and apply does not touch it."""
    assert run("migrate", "apply", **where).returncode == 0
    execute("UPDATE schema_version SET version_num = '9999'")
    execute("UPDATE schema_info SET oldest_code_version = '7.0'")
    status = run("migrate", "status", **where)
    assert status.returncode == 1
    assert "may not serve" in status.stdout
    assert "7.0 or newer" in status.stdout
    for command in ("plan", "apply"):
        for form in ("table", "json"):
            refused = run("migrate", command, "--format", form, **where)
            assert (refused.returncode, refused.stdout) == (1, ""), command
            assert "written by a newer version of the gateway (schema 9999)" in refused.stderr
            assert "serves version 7.0 or newer" in refused.stderr
            assert refused.stderr.count("\n") == 1
    assert execute("SELECT version_num FROM schema_version") == [("9999",)]


def test_a_newer_schema_that_serves_this_version_is_no_trouble(
    run: Run, where: dict[str, str], execute: Callable[[str], list[tuple[object, ...]]]
) -> None:
    """Nothing to do, and every command ends well."""
    assert run("migrate", "apply", **where).returncode == 0
    execute("UPDATE schema_version SET version_num = '9999'")
    for command in ("status", "plan", "apply"):
        done = run("migrate", command, **where)
        assert done.returncode == 0, done.stderr
        assert "on which this version may serve" in done.stdout + done.stderr


def test_a_node_that_would_be_left_behind_holds_up_the_migration(
    run: Run, url: str, postgres_server: PostgresServer
) -> None:
    """The line names it and the version that it needs."""
    assert run("migrate", "apply", **{VARIABLE: url}).returncode == 0
    postgres_server.execute(
        "INSERT INTO node_leases VALUES ('node_old', 'run_1', '0.0.9', false, now(), now(), now() + interval '1 hour')",
        url,
    )
    # What a schema from before its last migration looks like to `apply`, which must not get as far as migrating it.
    postgres_server.execute("UPDATE schema_version SET version_num = '0003'", url)
    refused = run("migrate", "apply", **{VARIABLE: url})
    assert refused.returncode == 1
    assert "node_old runs version 0.0.9" in refused.stderr
    assert postgres_server.execute("SELECT version_num FROM schema_version", url) == [("0003",)]


async def test_two_at_once_wait_for_each_other(url: str, tmp_path: Path) -> None:
    """One migrates, the other one finds it done; both end well."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    database = await Database.connect_postgresql(url)
    async with database.transaction() as connection:
        await database.lock(connection, _MIGRATION_LOCK)
        processes = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tokendance_cli", "migrate", "apply"),
                env=command_environment(**{VARIABLE: url}),
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            for _ in range(2)
        ]
        async with asyncio.timeout(30):
            while (await connection.execute(waiting)).scalar() != 2:
                await asyncio.sleep(0.05)
    ended: list[Any] = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0], ended
    assert sorted(b"Nothing to do" in errors for _, errors in ended) == [False, True]
    assert (await database.schema()).revision == HEAD
    await database.close()


@pytest.mark.parametrize("command", ["status", "plan", "apply"])
def test_a_database_that_is_not_there_is_told_in_one_line(run: Run, command: str) -> None:
    """Without the password."""
    done = run("migrate", command, **{VARIABLE: "postgresql://u:hunter2@127.0.0.1:1/gateway"})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "127.0.0.1:1/gateway" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


def test_a_file_is_not_migrated_under_a_node_that_runs_on_it(run: Run, tmp_path: Path) -> None:
    """The data directory's lock keeps it out."""
    from tokendance_server.stores.paths import DataDirectory

    directory = DataDirectory.open(tmp_path / ".tokendance")
    refused = run("migrate", "apply")
    directory.close()
    assert refused.returncode == 1
    assert "Another process" in refused.stderr
