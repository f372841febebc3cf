"""The counts of nodes, the states of now and the days of the history in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance.status_words import State
from tokendance_server.domain.status.history import KEPT_DAYS, Day, MinuteRow
from tokendance_server.domain.status.store import Decide
from tokendance_server.domain.status.tally import read_counts
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.status_tables import status_days, status_minutes, status_states

_MARK = "-"
# Other nodes look back for minutes only; a judged one is of no more use to anybody.
_MINUTES_KEPT = timedelta(hours=1)


class SqlStatusStore:
    """Satisfies StatusStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write_minutes(self, rows: Sequence[MinuteRow]) -> None:
        if not rows:
            return
        async with self._database.transaction() as connection:
            for row in rows:
                counts = {model: counted.document() for model, counted in row.counts.items()}
                mine = (status_minutes.c.minute == row.minute, status_minutes.c.run_id == row.run_id)
                written = await connection.execute(update(status_minutes).where(*mine).values(counts=counts))
                if not written.rowcount:
                    # Nobody else writes rows of this run.
                    values = {"minute": row.minute, "run_id": row.run_id, "counts": counts}
                    await connection.execute(insert(status_minutes), values)

    async def minutes(self, since: datetime) -> Sequence[MinuteRow]:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(status_minutes).where(status_minutes.c.minute >= since))).all()
        return [_minute(row) for row in rows]

    async def begin(self, states: Mapping[str, State], now: datetime) -> Mapping[str, datetime]:
        starts: dict[str, datetime] = {}
        async with self._database.transaction() as connection:
            await self._database.lock(connection, "status states")
            kept = {row.model: row for row in (await connection.execute(select(status_states))).all()}
            for model, state in states.items():
                row = kept.get(model)
                starts[model] = now
                if row is not None and row.state == state.value:
                    starts[model] = row.start_time
                else:
                    await _put_state(connection, model, state.value, now, is_new=row is None)
        return starts

    async def folded_until(self) -> datetime | None:
        async with self._database.read() as connection:
            return await _mark(connection)

    async def fold(self, until: datetime, decide: Decide) -> bool:
        mark = await self.folded_until()
        if mark is not None and mark >= until:
            return False
        async with self._database.transaction() as connection:
            await self._database.lock(connection, "status history")
            mark = await _mark(connection)
            if mark is not None and mark >= until:
                return False
            if mark is not None:
                between = (status_minutes.c.minute >= mark, status_minutes.c.minute < until)
                rows = (await connection.execute(select(status_minutes).where(*between))).all()
                for day in decide(mark, [_minute(row) for row in rows]):
                    await _add_day(connection, day)
            await _put_state(connection, _MARK, _MARK, until, is_new=mark is None)
            await connection.execute(delete(status_minutes).where(status_minutes.c.minute < until - _MINUTES_KEPT))
            too_old = until.date() - timedelta(days=KEPT_DAYS)
            await connection.execute(delete(status_days).where(status_days.c.day < too_old))
        return True

    async def days(self, since: date) -> Sequence[Day]:
        async with self._database.read() as connection:
            rows = (await connection.execute(select(status_days).where(status_days.c.day >= since))).all()
        return [_day(row) for row in rows]


async def _mark(connection: AsyncConnection) -> datetime | None:
    query = select(status_states.c.start_time).where(status_states.c.model == _MARK)
    found: datetime | None = (await connection.execute(query)).scalar()
    return found


async def _put_state(connection: AsyncConnection, model: str, state: str, time: datetime, *, is_new: bool) -> None:
    values = {"state": state, "start_time": time}
    if is_new:
        await connection.execute(insert(status_states), {"model": model, **values})
    else:
        await connection.execute(update(status_states).where(status_states.c.model == model).values(**values))


async def _add_day(connection: AsyncConnection, added: Day) -> None:
    same = (status_days.c.day == added.day, status_days.c.model == added.model)
    row = (await connection.execute(select(status_days).where(*same))).first()
    day = Day(added.model, added.day) if row is None else _day(row)
    day.add(added)
    values = {
        "worst": day.worst.value if day.worst is not None else "",
        "degraded_s": day.degraded_s,
        "outage_s": day.outage_s,
        "maintenance_s": day.maintenance_s,
        "unknown_s": day.unknown_s,
        "counts": day.counts.document(),
    }
    if row is None:
        await connection.execute(insert(status_days), {"day": day.day, "model": day.model, **values})
    else:
        await connection.execute(update(status_days).where(*same).values(**values))


def _minute(row: Row[Any]) -> MinuteRow:
    return MinuteRow(row.minute, row.run_id, {model: read_counts(counts) for model, counts in row.counts.items()})


def _day(row: Row[Any]) -> Day:
    return Day(
        model=row.model,
        day=row.day,
        worst=State(row.worst) if row.worst else None,
        degraded_s=row.degraded_s,
        outage_s=row.outage_s,
        maintenance_s=row.maintenance_s,
        unknown_s=row.unknown_s,
        counts=read_counts(row.counts),
    )
