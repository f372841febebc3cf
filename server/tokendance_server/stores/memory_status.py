"""Counts, states, days, incidents and maintenance in memory: for tests, and as the measure of the stores in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from tokendance.status_words import State
from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.status.history import KEPT_DAYS, Day, MinuteRow
from tokendance_server.domain.status.incidents import Incident, Maintenance
from tokendance_server.domain.status.store import Decide
from tokendance_server.domain.status.tally import Counts, read_counts

_MINUTES_KEPT = timedelta(hours=1)


class MemoryStatusStore:
    """Satisfies StatusStore."""

    def __init__(self) -> None:
        self._rows: dict[tuple[datetime, str], MinuteRow] = {}
        self._states: dict[str, tuple[State, datetime]] = {}
        self._days: dict[tuple[date, str], Day] = {}
        self._mark: datetime | None = None

    async def write_minutes(self, rows: Sequence[MinuteRow]) -> None:
        """Keep them."""
        for row in rows:
            counts = {model: _copy(counted) for model, counted in row.counts.items()}
            self._rows[row.minute, row.run_id] = MinuteRow(row.minute, row.run_id, counts)

    async def minutes(self, since: datetime) -> Sequence[MinuteRow]:
        """Return those from a minute on."""
        return [row for row in self._rows.values() if row.minute >= since]

    async def begin(self, states: Mapping[str, State], now: datetime) -> Mapping[str, datetime]:
        """Note states."""
        for model, state in states.items():
            if model not in self._states or self._states[model][0] is not state:
                self._states[model] = (state, now)
        return {model: self._states[model][1] for model in states}

    async def folded_until(self) -> datetime | None:
        """Return the mark."""
        return self._mark

    async def fold(self, until: datetime, decide: Decide) -> bool:
        """Judge up to a time."""
        mark = self._mark
        if mark is not None and mark >= until:
            return False
        if mark is not None:
            for added in decide(mark, [row for row in self._rows.values() if mark <= row.minute < until]):
                self._days.setdefault((added.day, added.model), Day(added.model, added.day)).add(added)
        self._mark = until
        self._rows = {key: row for key, row in self._rows.items() if row.minute >= until - _MINUTES_KEPT}
        oldest = until.date() - timedelta(days=KEPT_DAYS)
        self._days = {key: day for key, day in self._days.items() if day.day >= oldest}
        return True

    async def days(self, since: date) -> Sequence[Day]:
        """Return those from a day on."""
        return [day for day in self._days.values() if day.day >= since]


class MemoryNoticeStore:
    """Satisfies NoticeStore; `told` are the events of what was changed."""

    def __init__(self) -> None:
        self.told: list[EventDraft] = []
        self._incidents: dict[str, Incident] = {}
        self._maintenances: dict[str, Maintenance] = {}

    async def incident(self, incident_id: str) -> Incident | None:
        """Return one."""
        return self._incidents.get(incident_id)

    async def incidents(
        self,
        *,
        before: str = "",
        limit: int,
        open_only: bool = False,
        model: str = "",
        start_time: datetime | None = None,
    ) -> Sequence[Incident]:
        """Return those that match."""
        found = [
            one
            for one in self._incidents.values()
            if (not before or one.id < before)
            and not (open_only and one.resolve_time)
            and (not model or one.touches(model))
            and (start_time is None or one.start_time >= start_time)
        ]
        return sorted(found, key=lambda one: one.id, reverse=True)[:limit]

    async def incident_made_by(self, request_id: str) -> Incident | None:
        """Return what a request made."""
        made = (one for one in self._incidents.values() if request_id and one.create_request_id == request_id)
        return next(made, None)

    async def put_incident(self, incident: Incident, event: EventDraft) -> bool:
        """Keep it."""
        kept = self._incidents.get(incident.id)
        if (kept.version if kept else 0) != incident.version - 1:
            return False
        if kept is None and await self.incident_made_by(incident.create_request_id):
            return False
        self._incidents[incident.id] = incident
        self.told.append(event)
        return True

    async def maintenance(self, maintenance_id: str) -> Maintenance | None:
        """Return one."""
        return self._maintenances.get(maintenance_id)

    async def maintenances(
        self, *, before: tuple[datetime, str] | None = None, limit: int, ends_after: datetime | None = None
    ) -> Sequence[Maintenance]:
        """Return those that match."""
        found = [
            one
            for one in self._maintenances.values()
            if (before is None or (one.draft.start_time, one.id) < before)
            and (ends_after is None or (one.draft.end_time > ends_after and not one.draft.cancelled))
        ]
        return sorted(found, key=lambda one: (one.draft.start_time, one.id), reverse=True)[:limit]

    async def maintenance_made_by(self, request_id: str) -> Maintenance | None:
        """Return what a request made."""
        made = (one for one in self._maintenances.values() if request_id and one.create_request_id == request_id)
        return next(made, None)

    async def put_maintenance(self, maintenance: Maintenance, event: EventDraft) -> bool:
        """Keep it."""
        kept = self._maintenances.get(maintenance.id)
        if (kept.version if kept else 0) != maintenance.version - 1:
            return False
        if kept is None and await self.maintenance_made_by(maintenance.create_request_id):
            return False
        self._maintenances[maintenance.id] = maintenance
        self.told.append(event)
        return True

    async def in_force(self, since: datetime) -> tuple[Sequence[Incident], Sequence[Maintenance]]:
        """Return what may matter from a time on."""
        said = [one for one in self._incidents.values() if one.resolve_time is None or one.resolve_time >= since]
        work = [one for one in self._maintenances.values() if one.draft.end_time >= since]
        return (
            sorted(said, key=lambda one: one.id, reverse=True),
            sorted(work, key=lambda one: (one.draft.start_time, one.id)),
        )


def _copy(counts: Counts) -> Counts:
    return read_counts(counts.document())
