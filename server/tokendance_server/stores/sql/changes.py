"""The feed of changes in SQL: a numbered row for each change, written in the transaction that makes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.domain.names import tenant_of
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import changes

_WRITERS_LOCK = 0x746B64_63686773
"""The advisory lock of PostgreSQL that whoever writes a change holds until its commit: `tkd chgs` in ASCII."""


async def record_change(connection: AsyncConnection, kind: ChangeKind, name: str, time: datetime) -> None:
    """Write down that `name`, a resource name, changed. Call it last in a transaction: writers queue up here.

    The number is taken while no other writer can commit, so numbers are in the order of commits, without a gap.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(_WRITERS_LOCK)))
    await connection.execute(
        _INSERT, {"kind": kind.value, "name": name, "organization_id": tenant_of(name), "time": time}
    )


class SqlChangeFeed:
    """Satisfies ChangeFeed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def latest(self) -> Change | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_LATEST)).first()
        return None if row is None else _change(row)

    async def since(self, number: int, limit: int) -> list[Change]:
        async with self._database.read() as connection:
            rows = (await connection.execute(_SINCE, {"after": number, "most": limit})).all()
        return [_change(row) for row in rows]

    async def prune(self, before: datetime, limit: int) -> int:
        async with self._database.transaction() as connection:
            oldest = await connection.execute(_OLDEST, {"most": limit + 1})
            # The newest row of all stays: numbers go on from it.
            old = [row.number for row in oldest.all()[:-1] if row.time < before][:limit]
            if old:
                await connection.execute(delete(changes).where(changes.c.number <= old[-1]))
        return len(old)


# Built once: the watcher runs them twice a second.
_INSERT = changes.insert().values(number=select(func.coalesce(func.max(changes.c.number), 0) + 1).scalar_subquery())
_LATEST = select(changes).order_by(changes.c.number.desc()).limit(1)
_SINCE = (
    select(changes).where(changes.c.number > bindparam("after")).order_by(changes.c.number).limit(bindparam("most"))
)
_OLDEST = select(changes.c.number, changes.c.time).order_by(changes.c.number).limit(bindparam("most"))


def _change(row: Row[Any]) -> Change:
    # A kind that a newer version on another node writes is unknown here, and so is nobody's concern.
    return Change(row.number, row.kind, row.name, row.organization_id, row.time)
