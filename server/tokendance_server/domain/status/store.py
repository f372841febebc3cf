"""What keeps the counts of nodes, the states of now and the days of the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Protocol

from tokendance.status_words import State
from tokendance_server.domain.status.history import Day, MinuteRow

Decide = Callable[[datetime, Sequence[MinuteRow]], Sequence[Day]]


class StatusStore(Protocol):
    """Keeps what nodes count. Every method raises what the stores raise where the database is gone."""

    async def write_minutes(self, rows: Sequence[MinuteRow]) -> None:
        """Keep rows in place of those of the same run and minute: writing them again changes nothing."""

    async def minutes(self, since: datetime) -> Sequence[MinuteRow]:
        """Return the rows of all nodes from a minute on."""

    async def begin(self, states: Mapping[str, State], now: datetime) -> Mapping[str, datetime]:
        """Note the states of models, and return since when each holds: since now where it was another one before."""

    async def folded_until(self) -> datetime | None:
        """Return up to when the history is judged; None where it never was."""

    async def fold(self, until: datetime, decide: Decide) -> bool:
        """Judge what is not judged yet up to a time, once among all nodes; False where nothing was to be done.

        `decide` gets the time from which on nothing is judged, and the rows from there to `until`; what it returns is
        added to the days. The first fold of all only notes the time. Rows that nobody needs any more are removed.
        """

    async def days(self, since: date) -> Sequence[Day]:
        """Return the days of every model from one day on."""
