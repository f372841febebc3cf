"""Usage in SQL: batches written in one step, in which nothing counts twice however often it is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import BigInteger, Boolean, Integer, String, Table, delete, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance.gateway.v1 import usage_pb2
from tokendance_server.domain.usage.entries import FinishedEntry
from tokendance_server.domain.usage.store import (
    DAY_US,
    HOUR_US,
    MEASURES,
    EntryRefusedError,
    Group,
    Grouping,
    UsageFilter,
    is_charged,
    labels_of,
    model_of,
)
from tokendance_server.stores.errors import ContentRefusedError
from tokendance_server.stores.sql import usage_reads
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.usage_reads import decode_document, encode_document
from tokendance_server.stores.sql.usage_tables import (
    DIMENSIONS,
    usage_attempts,
    usage_days,
    usage_hours,
    usage_records,
)

# A few texts, so that the driver keeps them all prepared; the most stays far below SQLite's bound on values.
_ROWS_AT_A_TIME = (100, 10, 1)
_OUTCOME_SUMS: dict[int, str] = {
    usage_pb2.REQUEST_OUTCOME_SUCCEEDED: "succeeded",
    usage_pb2.REQUEST_OUTCOME_REFUSED: "refused",
}


def _texts(table: Table) -> list[tuple[str, int]]:
    """Return the columns that hold text, each with its length in characters; 0: no bound."""
    found = [(column.name, getattr(column.type, "impl", column.type)) for column in table.columns]
    return [(name, getattr(kind, "length", None) or 0) for name, kind in found if isinstance(kind, String)]


_RECORD_TEXTS, _ATTEMPT_TEXTS = _texts(usage_records), _texts(usage_attempts)


_dimensions = itemgetter(*DIMENSIONS)


class SqlUsageStore:
    """Satisfies UsageStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, entries: Sequence[FinishedEntry]) -> int:
        if not entries:
            return 0
        try:
            async with self._database.transaction() as connection:
                return await self.write(connection, entries)
        except (ConflictError, ContentRefusedError, ValueError, TypeError, OverflowError) as exc:
            # The last three come of values that cannot be put in the database's words.
            raise EntryRefusedError(f"{type(exc).__name__}: {exc}") from exc

    async def write(self, connection: AsyncConnection, entries: Sequence[FinishedEntry]) -> int:
        """Insert requests as a part of a transaction that does more."""
        rows = {one.id: _record_row(one) for one in entries}
        new = await self._write_records(connection, list(rows.values()))
        fresh = [(one, rows[one.id]) for one in {one.id: one for one in entries if one.id in new}.values()]
        if fresh:
            attempts = [row for one, _ in fresh for row in _attempt_rows(one)]
            if attempts:
                await self._write(connection, usage_attempts, attempts)
            for table, interval, length in ((usage_hours, "hour", HOUR_US), (usage_days, "day", DAY_US)):
                await self._write(connection, table, _sum_rows(fresh, interval, length))
        return len(fresh)

    async def sum_up(
        self, wanted: UsageFilter, start_us: int, end_us: int, groups: Sequence[Grouping], interval_us: int
    ) -> list[Group]:
        return await usage_reads.sum_up(self._database, wanted, (start_us, end_us), groups, interval_us)

    async def page(
        self, wanted: UsageFilter, start_us: int, end_us: int, before: tuple[int, str] | None, limit: int
    ) -> list[FinishedEntry]:
        return await usage_reads.page(self._database, wanted, (start_us, end_us), before, limit)

    async def count(self, wanted: UsageFilter, start_us: int, end_us: int, most: int) -> int:
        return await usage_reads.count(self._database, wanted, (start_us, end_us), most)

    async def find(self, name: str, organization_id: str, limit: int) -> list[FinishedEntry]:
        return await usage_reads.find(self._database, name, organization_id, limit)

    async def prune(self, records_before_us: int, hours_before_us: int, limit: int) -> int:
        removed = 0
        for table, column, before in (
            (usage_records, usage_records.c.start_us, records_before_us),
            (usage_attempts, usage_attempts.c.start_us, records_before_us),
            (usage_hours, usage_hours.c.hour, hours_before_us // HOUR_US),
        ):
            key = list(table.primary_key.columns)
            oldest = select(*key).where(column < before).order_by(column).limit(limit)
            async with self._database.transaction() as connection:
                done = await connection.execute(delete(table).where(tuple_(*key).in_(oldest)))
            removed += done.rowcount
        return removed

    async def pseudonymise(self, organization_id: str, member_id: str, pseudonym: str) -> None:
        own = (usage_records.c.organization_id == organization_id, usage_records.c.member_id == member_id)
        query = select(usage_records.c.start_us, usage_records.c.id, usage_records.c.document).where(*own).limit(500)
        while True:
            async with self._database.transaction() as connection:
                rows = (await connection.execute(query)).all()
                for row in rows:
                    entry = usage_reads.pseudonymised(decode_document(row.document), pseudonym)
                    place = (*own, usage_records.c.start_us == row.start_us, usage_records.c.id == row.id)
                    values = {"member_id": pseudonym, "user_name": "", "document": encode_document(entry)}
                    await connection.execute(update(usage_records).where(*place), values)
            if not rows:
                break
        async with self._database.transaction() as connection:
            for table in (usage_hours, usage_days):
                its = (table.c.organization_id == organization_id, table.c.member_id == member_id)
                await connection.execute(update(table).where(*its), {"member_id": pseudonym})

    async def _write_records(self, connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> set[str]:
        """Add the records that are not there yet; return their ids."""
        if self._database.is_shared:
            statement = text(f"{_insert(usage_records, postgresql=True)} RETURNING id")
            added = await connection.execute(statement, {"rows": orjson.dumps(rows).decode()})
            return set(added.scalars())
        ids = orjson.dumps([row["id"] for row in rows]).decode()
        there = set((await connection.execute(_KNOWN, {"ids": ids})).scalars())
        # One writer at a time: nobody adds them between the question and the answer.
        fresh = [row for row in rows if row["id"] not in there]
        if fresh:
            await self._write(connection, usage_records, fresh)
        return {row["id"] for row in fresh}

    async def _write(self, connection: AsyncConnection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        if self._database.is_shared:
            statement = _insert(table, postgresql=True)
            await connection.execute(text(statement), {"rows": orjson.dumps(rows).decode()})
        else:
            # Many rows at a time: for each step of SQLite the event loop has to let go of the interpreter and get it
            # back. A document for all rows would be read again for each column of each row.
            in_order = itemgetter(*(column.name for column in table.columns))
            done = 0
            for size in _ROWS_AT_A_TIME:
                statement = _insert(table, postgresql=False, rows=size)
                while len(rows) - done >= size:
                    values = tuple(chain.from_iterable(map(in_order, rows[done : done + size])))
                    await connection.exec_driver_sql(statement, values)
                    done += size


_KNOWN = text("SELECT id FROM usage_records WHERE id IN (SELECT value FROM json_each(:ids))")


@cache
def _insert(table: Table, *, postgresql: bool, rows: int = 1) -> str:
    """Return an insert whose text, and so its plan, never changes.

    PostgreSQL takes any number of rows as one JSON text; SQLite `rows` of them, their values in the columns' order.
    """
    names = [column.name for column in table.columns]
    key = ", ".join(column.name for column in table.primary_key.columns)
    if postgresql:
        types = ", ".join(f"{column.name} {_type(column.type)}" for column in table.columns)
        source = f"SELECT {', '.join(names)} FROM json_to_recordset(CAST(:rows AS json)) AS r({types})"  # noqa: S608 - names of ours
    else:
        row = f"({', '.join('?' for _ in names)})"
        source = f"VALUES {', '.join([row] * rows)}"
    if table in (usage_hours, usage_days):
        sums = ", ".join(f"{one} = {table.name}.{one} + excluded.{one}" for one in MEASURES)
        conflict = f"DO UPDATE SET {sums}"
    else:
        conflict = "DO NOTHING"
    return f"INSERT INTO {table.name} ({', '.join(names)}) {source} ON CONFLICT ({key}) {conflict}"


def _type(column: Any) -> str:
    if isinstance(column, BigInteger):
        return "bigint"
    if isinstance(column, Integer):
        return "integer"
    return "boolean" if isinstance(column, Boolean) else "text"


def _record_row(entry: FinishedEntry) -> dict[str, Any]:
    request, counts = entry.request, entry.counts
    return _fitting(
        {
            "organization_id": request.organization_id,
            "start_us": request.start_us,
            "id": entry.id,
            "request_id": request.request_id,
            "node": entry.node,
            "end_us": entry.end_us,
            "key_id": request.key_id,
            "member_id": request.member_id,
            "team_id": request.team_id,
            "model": model_of(entry),
            "provider_label": entry.attempts[-1].provider_label if entry.attempts else "",
            "surface": request.surface,
            "outcome": entry.outcome,
            "reason": entry.reason,
            "client_kind": request.client_kind,
            "user_name": request.user,
            "labels": orjson.dumps(labels_of(entry)).decode(),
            "input_tokens": counts.input_tokens,
            "cached_input_tokens": counts.cached_input_tokens,
            "cache_write_tokens": counts.cache_write_tokens,
            "output_tokens": counts.output_tokens,
            "reasoning_tokens": counts.reasoning_tokens,
            "cost_micros": entry.cost_micros,
            "estimated": entry.estimated,
            "attempt_count": len(entry.attempts),
            "first_byte_us": entry.first_byte_us,
            "document": encode_document(entry),
        },
        _RECORD_TEXTS,
    )


def _attempt_rows(entry: FinishedEntry) -> Iterable[dict[str, Any]]:
    for one in entry.attempts:
        yield _fitting(
            {
                "organization_id": entry.request.organization_id,
                "start_us": entry.request.start_us,
                "record_id": entry.id,
                "number": one.number,
                "provider": one.provider,
                "upstream_model": one.upstream_model,
                "upstream_request_id": one.upstream_request_id,
                "outcome": one.outcome,
                "reason": one.reason,
                "upstream_status": one.upstream_status,
                "input_tokens": one.counts.input_tokens,
                "output_tokens": one.counts.output_tokens,
                "estimated": one.estimated,
                "cost_micros": one.cost_micros,
            },
            _ATTEMPT_TEXTS,
        )


def _fitting(row: dict[str, Any], texts: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """Return a row that every database takes: one that does not fit would hold up all behind it."""
    for name, most in texts:
        value = row[name]
        if (most and len(value) > most) or "\0" in value:
            row[name] = (value[:most] if most else value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    return row


def _sum_rows(
    entries: Iterable[tuple[FinishedEntry, dict[str, Any]]], interval: str, length_us: int
) -> list[dict[str, Any]]:
    """Return what a batch adds to the sums, in the order of their key, in which writers wait for each other."""
    sums: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry, row in entries:
        place = (row["organization_id"], row["start_us"] // length_us, *_dimensions(row))
        into = sums.get(place)
        if into is None:
            into = sums[place] = {
                "organization_id": place[0],
                interval: place[1],
                **{name: row[name] for name in DIMENSIONS},
                **dict.fromkeys(MEASURES, 0),
            }
        _add(into, entry)
    return [sums[place] for place in sorted(sums)]


def _add(into: dict[str, Any], entry: FinishedEntry) -> None:
    counts = entry.counts
    into["requests"] += 1
    into[_OUTCOME_SUMS.get(entry.outcome, "failed")] += 1
    into["charged"] += is_charged(entry)
    into["input_tokens"] += counts.input_tokens
    into["cached_input_tokens"] += counts.cached_input_tokens
    into["cache_write_tokens"] += counts.cache_write_tokens
    into["output_tokens"] += counts.output_tokens
    into["reasoning_tokens"] += counts.reasoning_tokens
    into["cost_micros"] += entry.cost_micros or 0
    into["unpriced"] += entry.cost_micros is None
    into["estimated"] += entry.estimated
    if entry.first_byte_us is not None:
        into["first_byte_us"] += entry.first_byte_us
        into["first_bytes"] += 1
    if entry.end_us is not None:
        into["total_us"] += max(entry.end_us - entry.request.start_us, 0)
        into["ended"] += 1
