"""The limits in force: kept in memory by subject, read where they are not, and dropped when they change anywhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from tokendance_server.domain.changes import Change
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import Row, row_of

_MOST_SUBJECTS = 100_000
_MOST_PLANS = 100_000


class Subjects(NamedTuple):
    """Whose limits a call meets, as resource names, the nearest first."""

    key: str
    member: str
    team: str
    organization: str


class LimitReader(Protocol):
    """Reads the limits that are kept."""

    async def limits(self, subjects: Sequence[str]) -> Mapping[str, Sequence[LimitRule]]:
        """Return the limits of each subject that has some; of a key without a quota of its own, those it was made with.

        Raises CountersUnavailableError.
        """


class Limits:
    """Tells the limits of subjects. Satisfies ChangeListener; what was read while a change came in is read anew."""

    def __init__(self, reader: LimitReader) -> None:
        self._reader = reader
        self._known: OrderedDict[str, tuple[Row, ...]] = OrderedDict()
        self._plans: OrderedDict[tuple[Subjects, str], tuple[Row, ...]] = OrderedDict()
        self._version = 0

    def cached(self, subjects: Subjects, model: str) -> tuple[Row, ...] | None:
        """Return the limits of a call where they are at hand, and None where `plan` must be asked."""
        return self._plans.get((subjects, model))

    async def plan(self, subjects: Subjects, model: str) -> tuple[Row, ...]:
        """Return every limit that a call of a public model meets, the nearest subject's first."""
        plan = self._plans.get((subjects, model))
        if plan is not None:
            return plan
        while True:
            version = self._version
            rows = await self.of(subjects)
            plan = tuple(row for row in rows if row.rule.model in ("", model))
            if version == self._version:
                self._plans[subjects, model] = plan
                if len(self._plans) > _MOST_PLANS:
                    self._plans.popitem(last=False)
                return plan

    async def of(self, subjects: Sequence[str]) -> list[Row]:
        """Return all limits of subjects, whatever model they are for."""
        unknown = [one for one in subjects if one not in self._known]
        fresh: dict[str, tuple[Row, ...]] = {}
        if unknown:
            version = self._version
            read = await self._reader.limits(unknown)
            fresh = {one: tuple(row_of(one, rule) for rule in read.get(one, ())) for one in unknown}
            if version == self._version:
                self._known.update(fresh)
                while len(self._known) > _MOST_SUBJECTS:
                    self._known.popitem(last=False)
        return [row for one in subjects for row in (fresh.get(one) or self._known.get(one, ()))]

    def forget(self, subject: str) -> None:
        """Read a subject's limits anew."""
        self._version += 1
        self._known.pop(subject, None)
        self._plans.clear()

    def changed(self, change: Change) -> None:
        """Forget the limits of the key or subject that a change names."""
        if change.name in self._known:
            self.forget(change.name)
        else:
            # It may be read just now.
            self._version += 1

    def everything_changed(self) -> None:
        """Read everything anew."""
        self._version += 1
        self._known.clear()
        self._plans.clear()
