"""The stores under test, each empty, over one suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.servers import PostgresServer

from tokendance_server.domain.audit.store import AuditStore
from tokendance_server.domain.catalogue.entries import CatalogueStore
from tokendance_server.domain.changes import ChangeFeed
from tokendance_server.domain.identity.sign_ins import Directory
from tokendance_server.domain.keys.request_store import KeyRequestStore
from tokendance_server.domain.keys.store import KeyStore
from tokendance_server.domain.organizations import OrganizationStore
from tokendance_server.domain.people.store import PeopleStore
from tokendance_server.stores.memory import (
    MemoryCatalogueStore,
    MemoryChangeFeed,
    MemoryKeyStore,
    MemoryOrganizationStore,
)
from tokendance_server.stores.memory_audit import MemoryAuditStore
from tokendance_server.stores.memory_directory import MemoryDirectory
from tokendance_server.stores.memory_key_requests import MemoryKeyRequestStore
from tokendance_server.stores.memory_people import MemoryPeopleStore
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.catalogue import SqlCatalogueStore
from tokendance_server.stores.sql.changes import SqlChangeFeed
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.directory import SqlDirectory
from tokendance_server.stores.sql.key_requests import SqlKeyRequestStore
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.organizations import SqlOrganizationStore
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.stores.sql.schema import metadata
from tokendance_server.stores.sql.tables import schema_info


@dataclass(frozen=True, slots=True)
class Stores:
    """One set of stores that belong together."""

    keys: KeyStore
    organizations: OrganizationStore
    changes: ChangeFeed
    catalogue: CatalogueStore
    audit: AuditStore
    people: PeopleStore
    directory: Directory
    requests: KeyRequestStore


def sql_stores(database: Database) -> Stores:
    """Return all stores on one database."""
    return Stores(
        SqlKeyStore(database),
        SqlOrganizationStore(database),
        SqlChangeFeed(database),
        SqlCatalogueStore(database),
        SqlAuditStore(database),
        SqlPeopleStore(database),
        SqlDirectory(database),
        SqlKeyRequestStore(database),
    )


async def migrate(url: str) -> None:
    """Bring a PostgreSQL database to the schema of today."""
    database = await Database.connect_postgresql(url)
    await database.migrate()
    await database.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database that has the schema."""
    with postgres_server.template(migrate) as name:
        yield name


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a database of this test, empty and with the schema."""
    with postgres_server.database(postgres_template) as url:
        yield url


@pytest.fixture(scope="session")
def _postgres_for_rows(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A database for tests that leave its schema alone: emptying it is ten times quicker than making one."""
    with postgres_server.database(postgres_template) as url:
        yield url


async def _open(kind: str, request: pytest.FixtureRequest, folder: Path) -> Database:
    if kind == "sqlite":
        return await Database.open_sqlite(folder / "gateway.db")
    database = await Database.open_postgresql(request.getfixturevalue("_postgres_for_rows"))
    filled = [table.name for table in metadata.sorted_tables if table is not schema_info]
    async with database.transaction() as connection:
        await connection.execute(text(f"TRUNCATE {', '.join(filled)}"))
    return database


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Each database in turn, empty: SQLite in a real file, and PostgreSQL on a real server. Leave its schema alone."""
    database = await _open(request.param, request, tmp_path)
    yield database
    await database.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Each implementation in turn, on the databases of `database`."""
    if request.param == "memory":
        changes, audit = MemoryChangeFeed(), MemoryAuditStore()
        catalogue = MemoryCatalogueStore(changes, audit)
        records = MemoryOrganizationStore(changes)
        keys = MemoryKeyStore(changes, audit, records)
        people = MemoryPeopleStore(records, keys)
        directory, requests = MemoryDirectory(records), MemoryKeyRequestStore(people)
        yield Stores(keys, records, changes, catalogue, audit, people, directory, requests)
        return
    database = await _open(request.param, request, tmp_path)
    yield sql_stores(database)
    await database.close()
