"""Usage read from SQL: whole days and hours from their sums, what is left at both ends from the requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Integer, Select, Table, and_, case, func, literal, literal_column, or_, select

from tokendance.gateway.v1 import usage_pb2
from tokendance_server.domain.usage.entries import FinishedEntry
from tokendance_server.domain.usage.store import DAY_US, HOUR_US, MEASURES, Group, Grouping, Sums, UsageFilter
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.usage_tables import usage_days, usage_hours, usage_records

MOST_GROUPS = 100_000
"""More groups than these are not summed up in one answer; the largest are returned."""

_decoder = msgspec.json.Decoder(FinishedEntry)
_encoder = msgspec.json.Encoder()

Span = tuple[int, int]
"""From when on and until when, not included, in microseconds since 1970."""


def encode_document(entry: FinishedEntry) -> str:
    """Return an entry as it is kept."""
    return _encoder.encode(entry).decode()


def decode_document(document: str) -> FinishedEntry:
    """Return an entry that was kept."""
    return _decoder.decode(document)


def pseudonymised(entry: FinishedEntry, pseudonym: str) -> FinishedEntry:
    """Return an entry that tells no more who asked."""
    request = msgspec.structs.replace(entry.request, member_id=pseudonym, user="", metadata={}, address="")
    return msgspec.structs.replace(entry, request=request)


async def sum_up(
    database: Database, wanted: UsageFilter, span: Span, groups: Sequence[Grouping], interval_us: int
) -> list[Group]:
    """Sum up; see UsageStore.sum_up."""
    found: dict[tuple[Any, ...], Group] = {}
    records_only = wanted.needs_records or any(one.column in ("labels", "user_name") for one in groups)
    for table, part in _parts(span, interval_us, records_only=records_only):
        async with database.read() as connection:
            query = _sums(table, wanted, part, groups, interval_us, postgresql=database.is_shared)
            rows = () if part[0] >= part[1] else (await connection.execute(query)).all()
        for row in rows:
            bucket, values, sums = int(row[0]) * interval_us, tuple(row[1 : 1 + len(groups)]), row[1 + len(groups) :]
            group = found.get((bucket, values))
            if group is None:
                found[bucket, values] = Group(bucket, values, Sums(*map(int, sums)))
            else:
                group.sums.add(Sums(*map(int, sums)))
    return list(found.values())


def _parts(span: Span, interval_us: int, *, records_only: bool) -> Iterator[tuple[Table, Span]]:
    """Cut a time into what each table knows."""
    start, end = span
    if records_only:
        yield usage_records, span
        return
    hours = -(-start // HOUR_US) * HOUR_US, end // HOUR_US * HOUR_US
    if hours[0] >= hours[1]:
        yield usage_records, span
        return
    yield usage_records, (start, hours[0])
    yield usage_records, (hours[1], end)
    days = -(-start // DAY_US) * DAY_US, end // DAY_US * DAY_US
    if interval_us == HOUR_US or days[0] >= days[1]:
        yield usage_hours, hours
        return
    yield usage_hours, (hours[0], days[0])
    yield usage_hours, (days[1], hours[1])
    yield usage_days, days


def _sums(
    table: Table,
    wanted: UsageFilter,
    span: Span,
    groups: Sequence[Grouping],
    interval_us: int,
    *,
    postgresql: bool,
) -> Select[Any]:
    time, length = _time_of(table)
    conditions = [
        *_conditions(table, wanted, postgresql=postgresql),
        time >= span[0] // length,
        time < _end(span, length),
    ]
    if not interval_us:
        bucket: ColumnElement[Any] = literal(0, Integer)
    else:
        bucket = literal_column(f"({table.name}.{time.name} / {interval_us // length})")
    columns = [_group(table, one, postgresql=postgresql) for one in groups]
    sums = [func.coalesce(func.sum(one), 0) for one in _measures(table)]
    query = select(bucket, *columns, *sums).where(*conditions)
    if groups or interval_us:
        places: list[ColumnElement[Any]] = [literal_column(str(1 + number)) for number in range(1 + len(groups))]
        query = query.group_by(*(places if interval_us else places[1:])).limit(MOST_GROUPS)
    return query


def _end(span: Span, length: int) -> int:
    return -(-span[1] // length)


def _time_of(table: Table) -> tuple[Any, int]:
    if table is usage_records:
        return usage_records.c.start_us, 1
    return (usage_hours.c.hour, HOUR_US) if table is usage_hours else (usage_days.c.day, DAY_US)


def _group(table: Table, one: Grouping, *, postgresql: bool) -> ColumnElement[Any]:
    if one.column == "labels":
        return func.coalesce(_label(one.label, postgresql=postgresql), "")
    return table.c[one.column]


def _label(name: str, *, postgresql: bool) -> ColumnElement[Any]:
    """Return the value of a label; the name is a parameter, whatever is in it."""
    if postgresql:
        return func.jsonb_extract_path_text(usage_records.c.labels.op("::")(literal_column("jsonb")), literal(name))
    # Quoted as SQLite's paths want it; a quote inside cannot be written, and no label has one.
    return func.json_extract(usage_records.c.labels, literal('$."' + name.replace('"', "") + '"'))


def _conditions(table: Table, wanted: UsageFilter, *, postgresql: bool) -> list[ColumnElement[bool]]:
    columns = table.c
    conditions: list[ColumnElement[bool]] = []
    if wanted.organization_id:
        conditions.append(columns.organization_id == wanted.organization_id)
    for name, values in (
        ("key_id", wanted.keys),
        ("member_id", wanted.members),
        ("team_id", wanted.teams),
        ("model", wanted.models),
        ("outcome", wanted.outcomes),
        ("surface", wanted.surfaces),
    ):
        if values:
            conditions.append(columns[name].in_(list(values)))
    if wanted.users:
        conditions.append(columns.user_name.in_(list(wanted.users)))
    conditions += [_label(name, postgresql=postgresql) == value for name, value in wanted.labels.items()]
    if wanted.seen_by is not None:
        conditions.append(or_(columns.member_id == wanted.seen_by, columns.team_id.in_(sorted(wanted.seen_teams))))
    return conditions


def _measures(table: Table) -> list[ColumnElement[Any]]:
    if table is not usage_records:
        return [table.c[name] for name in MEASURES]
    one, columns = literal(1, Integer), usage_records.c

    def flag(condition: ColumnElement[bool]) -> ColumnElement[Any]:
        return case((condition, 1), else_=0)

    succeeded = columns.outcome == usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    refused = columns.outcome == usage_pb2.REQUEST_OUTCOME_REFUSED
    took = case((columns.end_us > columns.start_us, columns.end_us - columns.start_us), else_=0)
    return [
        one,
        flag(succeeded),
        flag(refused),
        flag(~or_(succeeded, refused)),
        # See `is_charged`.
        flag(
            and_(
                columns.attempt_count > 0,
                or_(
                    columns.outcome != usage_pb2.REQUEST_OUTCOME_FAILED,
                    columns.input_tokens > 0,
                    columns.output_tokens > 0,
                ),
            )
        ),
        columns.input_tokens,
        columns.cached_input_tokens,
        columns.cache_write_tokens,
        columns.output_tokens,
        columns.reasoning_tokens,
        func.coalesce(columns.cost_micros, 0),
        flag(columns.cost_micros.is_(None)),
        flag(columns.estimated),
        func.coalesce(columns.first_byte_us, 0),
        flag(columns.first_byte_us.is_not(None)),
        took,
        flag(columns.end_us.is_not(None)),
    ]


async def page(
    database: Database, wanted: UsageFilter, span: Span, before: tuple[int, str] | None, limit: int
) -> list[FinishedEntry]:
    """Return requests, newest first; see UsageStore.page."""
    columns = usage_records.c
    conditions = _of_records(database, wanted, span)
    if before is not None:
        # The first condition lets an index be used; rows of the very time are told apart by the second.
        conditions.append(columns.start_us <= before[0])
        conditions.append(
            or_(columns.start_us < before[0], and_(columns.start_us == before[0], columns.id < before[1]))
        )
    query = (
        select(columns.document).where(*conditions).order_by(columns.start_us.desc(), columns.id.desc()).limit(limit)
    )
    async with database.read() as connection:
        return [decode_document(row.document) for row in await connection.execute(query)]


async def count(database: Database, wanted: UsageFilter, span: Span, most: int) -> int:
    """Count requests, up to a bound."""
    found = (
        select(literal(1, Integer)).select_from(usage_records).where(*_of_records(database, wanted, span)).limit(most)
    )
    async with database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(found.subquery()))).scalar_one()


async def find(database: Database, name: str, organization_id: str, limit: int) -> list[FinishedEntry]:
    """Return requests by an id; see UsageStore.find."""
    columns = usage_records.c
    conditions = [or_(columns.id == name, columns.request_id == name)]
    if organization_id:
        conditions.append(columns.organization_id == organization_id)
    query = (
        select(columns.document).where(*conditions).order_by(columns.start_us.desc(), columns.id.desc()).limit(limit)
    )
    async with database.read() as connection:
        return [decode_document(row.document) for row in await connection.execute(query)]


def _of_records(database: Database, wanted: UsageFilter, span: Span) -> list[ColumnElement[bool]]:
    time = usage_records.c.start_us
    return [*_conditions(usage_records, wanted, postgresql=database.is_shared), time >= span[0], time < span[1]]
