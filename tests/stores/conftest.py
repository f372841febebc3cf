"""The stores under test, each empty, over one suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tokendance_server.domain.keys import KeyStore
from tokendance_server.domain.organizations import OrganizationStore
from tokendance_server.stores.memory import MemoryKeyStore, MemoryOrganizationStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.organizations import SqlOrganizationStore


@dataclass(frozen=True, slots=True)
class Stores:
    """One set of stores that belong together."""

    keys: KeyStore
    organizations: OrganizationStore


@pytest.fixture(params=["memory", "sqlite"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Each implementation in turn; SQLite in a real file."""
    if request.param == "memory":
        yield Stores(MemoryKeyStore(), MemoryOrganizationStore())
        return
    database = await Database.open_sqlite(tmp_path / "gateway.db")
    yield Stores(SqlKeyStore(database), SqlOrganizationStore(database))
    await database.close()
