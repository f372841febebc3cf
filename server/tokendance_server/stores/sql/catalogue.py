"""The catalogue in SQL: providers and models, one row each, and one row that counts their changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.catalogue.entries import (
    CHANGES,
    AnyEntry,
    Edit,
    Entry,
    EntryKind,
    Rows,
    document_of,
    read_model,
    read_provider,
)
from tokendance_server.stores.sql.audit import record_event
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import catalogue_state, models, providers

_TABLES = {EntryKind.PROVIDER: providers, EntryKind.MODEL: models}


class SqlCatalogueStore:
    """Satisfies CatalogueStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Rows:
        async with self._database.transaction() as connection:
            # Writers wait meanwhile, so the three statements see one moment.
            await self._database.lock(connection, "catalogue")
            return await _load(connection)

    async def edit(self, decide: Callable[[Rows], Edit]) -> AnyEntry | None:
        async with self._database.transaction() as connection:
            await self._database.lock(connection, "catalogue")
            rows = await _load(connection)
            edit = decide(rows)
            if rows.find(edit.kind, edit.name) == edit.entry:
                return edit.entry
            table = _TABLES[edit.kind]
            await connection.execute(table.delete().where(table.c.name == edit.name))
            if edit.entry is not None:
                await connection.execute(table.insert(), _row(edit.entry))
            await connection.execute(catalogue_state.delete())
            await connection.execute(catalogue_state.insert(), {"version": rows.version + 1})
            if edit.event is not None:
                await record_event(connection, edit.event)
            await record_change(connection, CHANGES[edit.kind], edit.resource_name, edit.time)
        return edit.entry


async def _load(connection: AsyncConnection) -> Rows:
    version = (await connection.execute(select(catalogue_state.c.version))).scalar() or 0
    found: dict[str, list[Row[Any]]] = {}
    for table in (providers, models):
        found[table.name] = [*(await connection.execute(_all(table))).all()]
    return Rows(
        version,
        {row.name: _entry(row, read_provider(row.document)) for row in found["providers"]},
        {row.name: _entry(row, read_model(row.document)) for row in found["models"]},
    )


def _all(table: Table) -> Any:
    return select(table).order_by(table.c.name)


def _entry(row: Row[Any], spec: Any) -> Entry[Any]:
    return Entry(row.name, spec, row.create_time, row.update_time, row.version, row.request_id)


def _row(entry: AnyEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "document": document_of(entry.spec),
        "request_id": entry.request_id,
        "create_time": entry.create_time,
        "update_time": entry.update_time,
        "version": entry.version,
    }
