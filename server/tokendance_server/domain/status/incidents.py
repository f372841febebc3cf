"""Incidents and maintenance: what people say of the state, as it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from tokendance.status_words import State
from tokendance_server.domain.audit.events import EventDraft


class Phase(StrEnum):
    """How far an incident is."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Update:
    """What was said at one time, and the phase and the state of the incident then. An empty message only moves it."""

    time: datetime
    phase: Phase
    state: State
    message: str = ""


@dataclass(frozen=True, slots=True)
class IncidentDraft:
    """What an administrator says of an incident. `models` are ids; none: all. `start_time` None: now."""

    title: str
    state: State
    phase: Phase = Phase.INVESTIGATING
    models: tuple[str, ...] = ()
    start_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """An incident as kept."""

    id: str
    title: str
    state: State
    phase: Phase
    models: tuple[str, ...] = ()
    updates: tuple[Update, ...] = ()
    start_time: datetime
    resolve_time: datetime | None = None
    create_time: datetime
    version: int = 1
    create_request_id: str = ""
    fingerprint: bytes = bytes(32)

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"incidents/{self.id}"

    @property
    def etag(self) -> str:
        """What tells this version from others."""
        return f'"{self.version}"'

    def touches(self, model: str) -> bool:
        """Tell whether it speaks of a model."""
        return not self.models or model in self.models

    def state_at(self, time: datetime) -> State | None:
        """Return the state that it stated at a time; None while it was not open."""
        if time < self.create_time or (self.resolve_time is not None and time >= self.resolve_time):
            return None
        said = self.state
        for update in self.updates:
            if update.time <= time:
                said = update.state
        return said


@dataclass(frozen=True, slots=True)
class MaintenanceDraft:
    """What an administrator announces. `models` are ids; none: all."""

    title: str
    start_time: datetime
    end_time: datetime
    description: str = ""
    models: tuple[str, ...] = ()
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """Announced work as kept."""

    id: str
    draft: MaintenanceDraft
    create_time: datetime
    version: int = 1
    create_request_id: str = ""
    fingerprint: bytes = bytes(32)

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"maintenances/{self.id}"

    @property
    def etag(self) -> str:
        """What tells this version from others."""
        return f'"{self.version}"'

    def touches(self, model: str) -> bool:
        """Tell whether it speaks of a model."""
        return not self.draft.models or model in self.draft.models

    def runs_at(self, time: datetime) -> bool:
        """Tell whether the work is under way at a time."""
        return not self.draft.cancelled and self.draft.start_time <= time < self.draft.end_time


class NoticeStore(Protocol):
    """Keeps incidents and maintenance, newest ids last. Each method is one transaction; writes record the change."""

    async def incident(self, incident_id: str) -> Incident | None:
        """Return an incident."""

    async def incidents(
        self,
        *,
        before: str = "",
        limit: int,
        open_only: bool = False,
        model: str = "",
        start_time: datetime | None = None,
    ) -> Sequence[Incident]:
        """Return incidents by id downward, below the id `before`, where there is one, that match the rest."""

    async def incident_made_by(self, request_id: str) -> Incident | None:
        """Return the incident that a request opened."""

    async def put_incident(self, incident: Incident, event: EventDraft) -> bool:
        """Keep a new incident (version 1), or put it in the place of the version before; False where that is gone."""

    async def maintenance(self, maintenance_id: str) -> Maintenance | None:
        """Return one maintenance."""

    async def maintenances(
        self, *, before: tuple[datetime, str] | None = None, limit: int, ends_after: datetime | None = None
    ) -> Sequence[Maintenance]:
        """Return maintenance by start downward, below a place; `ends_after` leaves out what is over or cancelled."""

    async def maintenance_made_by(self, request_id: str) -> Maintenance | None:
        """Return the maintenance that a request announced."""

    async def put_maintenance(self, maintenance: Maintenance, event: EventDraft) -> bool:
        """Keep maintenance, as `put_incident`."""

    async def in_force(self, since: datetime) -> tuple[Sequence[Incident], Sequence[Maintenance]]:
        """Return what is open or to come, or was at `since` or later, as of one moment."""
