"""What one script call carries: the operations that one organization has in one tick of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tokendance_server.domain.quota.claims import Hold, Row

MOST = 2**53 - 1
"""The largest number that the script counts exactly; what is larger counts as this much."""
RESERVE, EXTEND, SETTLE, RENEW, STANDINGS, LOAD, ASSERT = range(1, 8)


class Batch:
    """The operations of an organization, a resource name, and who waits for which answer."""

    __slots__ = ("_places", "operations", "rows", "waiting")

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], int] = {}
        self.rows: list[tuple[str, int, int, int]] = []
        self.operations: list[list[Any]] = []
        self.waiting: list[asyncio.Future[tuple[float, list[Any]]]] = []

    def add(self, operation: list[Any]) -> asyncio.Future[tuple[float, list[Any]]]:
        """Take one more operation, whose rows `place` and `parts` numbered; return what will hold its answer."""
        waiting: asyncio.Future[tuple[float, list[Any]]] = asyncio.get_running_loop().create_future()
        self.operations.append(operation)
        self.waiting.append(waiting)
        return waiting

    def place(self, row: Row) -> int:
        """Return the number of a row within this call, 1 for the first."""
        rule = row.rule
        limit = -1 if rule.soft else min(rule.limit, MOST)
        name = row.counter, limit
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = len(self.rows) + 1
            self.rows.append((row.counter, rule.window, limit, rule.metric))
        return place

    def parts(self, holds: Sequence[Hold]) -> list[tuple[int, int, int]]:
        """Return holds as the script takes them: row, window, amount."""
        return [(self.place(one.row), one.window, min(one.amount, MOST)) for one in holds]
