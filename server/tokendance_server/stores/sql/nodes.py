"""The reports of nodes in SQL: one row for each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from tokendance_server.domain.nodes.roster import JournalDepth, NodeState, Report, Role
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.status_tables import node_reports

_COLUMNS = ("run_id", "start_time", "report_time", "config_version")
_KNOWN = frozenset(Report.__dataclass_fields__) - {*_COLUMNS, "roles", "state", "journal"}
_JOURNAL = frozenset(JournalDepth.__dataclass_fields__)


class SqlNodeStore:
    """Satisfies NodeStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, report: Report) -> None:
        document = asdict(report)
        row: dict[str, Any] = {column: document.pop(column) for column in _COLUMNS}
        row["document"] = document
        async with self._database.transaction() as connection:
            mine = node_reports.c.run_id == report.run_id
            written = await connection.execute(update(node_reports).where(mine).values(**row))
            if not written.rowcount:
                await connection.execute(insert(node_reports), row)

    async def remove(self, run_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(node_reports).where(node_reports.c.run_id == run_id))

    async def reports(self) -> Sequence[Report]:
        async with self._database.read() as connection:
            return [_report(row) for row in (await connection.execute(select(node_reports))).all()]

    async def forget(self, before: datetime) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(node_reports).where(node_reports.c.report_time < before))


def _report(row: Row[Any]) -> Report:
    """Return a report; what only a newer version says is passed over."""
    said = row.document
    return Report(
        run_id=row.run_id,
        start_time=row.start_time,
        report_time=row.report_time,
        config_version=row.config_version,
        roles=tuple(Role(one) for one in said["roles"] if one in set(Role)),
        state=NodeState(said["state"]),
        journal=JournalDepth(**{name: value for name, value in said["journal"].items() if name in _JOURNAL}),
        **{name: value for name, value in said.items() if name in _KNOWN},
    )
