"""`tokendance journal` on both databases: what a dead node left is counted once."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import PostgresServer
from tests.stores.test_journal import finished, opened, write
from tests.tools.tokendance_cli.conftest import Run

from tokendance_server.domain.usage.store import UsageFilter
from tokendance_server.stores.journal import FileJournal
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.usage import SqlUsageStore

VARIABLE = "TOKENDANCE_GATEWAY_SERVER__DATABASE_URL"


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables that name each database."""
    return {} if request.param == "sqlite" else {VARIABLE: request.getfixturevalue("url")}


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """The data directory of a node that died: three requests had ended, one ran, and the last write is torn."""
    folder = tmp_path / "dead"
    folder.mkdir()

    async def fill() -> None:
        journal = FileJournal(folder / "journal", 1 << 20)
        for number in range(3):
            await write(journal, f"rec_{number}")
        await write(journal, "rec_3", to_its_end=False)
        await journal.close()

    asyncio.run(fill())
    segment = next((folder / "journal").glob("*.usage"))
    with segment.open("ab") as file:
        file.write(b"\x40\0\0\0half a frame")
    return folder


async def ids(where: dict[str, str], tmp_path: Path) -> list[str]:
    """The requests in the database."""
    if where:
        database = await Database.open_postgresql(where[VARIABLE])
    else:
        database = await Database.open_sqlite(tmp_path / ".tokendance" / "gateway.db")
    try:
        entries = await SqlUsageStore(database).page(UsageFilter(), 0, 100, None, 100)
        assert {one.id: one for one in entries}["rec_1"] == finished("rec_1")
        return sorted(one.id for one in entries)
    finally:
        await database.close()


def test_journal_of_a_dead_node_is_adopted_once(run: Run, where: dict[str, str], dead: Path, tmp_path: Path) -> None:
    """However often: what ended as it was, what ran as unknown; then nothing is left, but what cannot be read."""
    if where:
        assert run("migrate", "apply", **where).returncode == 0
    saved = tmp_path / "saved"
    shutil.copytree(dead, saved)
    seen = json.loads(run("journal", "status", str(dead), "--format", "json").stdout)
    assert (seen["in_use"], seen["finished"], seen["running"], seen["torn"]) == (False, 3, 1, 1)
    assert opened("rec_3").id not in seen
    first = run("journal", "adopt", str(dead), "--format", "json", **where)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == {"total": 4, "new": 4, "unknown": 1, "refused": 0}
    again = run("journal", "adopt", str(saved), "--format", "json", **where)
    assert json.loads(again.stdout) == {"total": 4, "new": 0, "unknown": 1, "refused": 0}
    assert asyncio.run(ids(where, tmp_path)) == ["rec_0", "rec_1", "rec_2", "rec_3"]
    left = run("journal", "status", str(dead))
    assert "0 requests" in left.stdout
    assert [one.suffix for one in (dead / "journal").iterdir() if one.name != "lock"] == [".torn"]


def test_journal_that_is_written_is_left_alone(run: Run, dead: Path) -> None:
    """Its node is not dead; and a folder without a journal is named as one."""

    async def refused() -> None:
        journal = FileJournal(dead / "journal", 1 << 20)
        try:
            done = await asyncio.to_thread(run, "journal", "adopt", str(dead))
            assert done.returncode == 1
            assert "in use" in done.stderr
            status = await asyncio.to_thread(run, "journal", "status", str(dead))
            assert "a process that runs" in status.stdout
        finally:
            await journal.close()

    asyncio.run(refused())
    nothing = run("journal", "adopt", str(dead.parent))
    assert nothing.returncode == 1
    assert "no usage journal" in nothing.stderr
