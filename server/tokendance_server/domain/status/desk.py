"""Incidents and maintenance as people write them: opened, told of, changed, resolved and cancelled."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.ids import new_id
from tokendance_server.domain.audit.events import AUTOMATIC, PLATFORM, EventDraft, Origin, event
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.rules import check_printable, check_text, invalid
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.people.rules import check_repeat, failed, nothing_here
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.status.incidents import (
    Incident,
    IncidentDraft,
    Maintenance,
    MaintenanceDraft,
    NoticeStore,
    Phase,
    Update,
)

MOST_UPDATES = 200
LONGEST_WORK = timedelta(days=30)
_PAGE_SIZE = 100
_EARLIEST = timedelta(days=90)
_INCIDENT = re.compile(r"incidents/(inc_[0-9a-z]{26})")
_MAINTENANCE = re.compile(r"maintenances/(mnt_[0-9a-z]{26})")


class Notices:
    """What is done with incidents and maintenance. `has_model` knows the ids of models; `changed` runs behind a change.

    Every method raises invalid_request, and those that change something model_not_found and version_conflict.
    """

    def __init__(
        self,
        store: NoticeStore,
        has_model: Callable[[str], bool],
        tokens: PageTokens,
        clock: Clock,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._has_model = has_model
        self._tokens = tokens
        self._clock = clock
        self._changed = changed

    async def open_incident(
        self,
        caller: Principal,
        draft: IncidentDraft,
        message: str,
        request_id: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> Incident:
        """Open an incident with its first words. Raises idempotency_conflict for another repeat of a request."""
        now = self._clock.now()
        self._check_incident(draft, now)
        _check_message(message)
        if draft.phase is Phase.RESOLVED:
            raise invalid("incident.phase", "must not be resolved for what is opened; resolve it by an update")
        check_printable(request_id, "request_id")
        mark = _fingerprint(draft, message)
        if request_id and (earlier := await self._store.incident_made_by(request_id)) is not None:
            check_repeat(earlier.fingerprint, mark)
            return earlier
        made = Incident(
            id=new_id("inc"),
            title=draft.title,
            state=draft.state,
            phase=draft.phase,
            models=draft.models,
            updates=(Update(now, draft.phase, draft.state, message),),
            start_time=draft.start_time or now,
            create_time=now,
            create_request_id=request_id,
            fingerprint=mark,
        )
        told = _event(caller, origin, "incident.create", now, made.name, before=None, after=_incident_facts(made))
        if not await self._store.put_incident(made, told):
            earlier = await self._store.incident_made_by(request_id)
            if earlier is None:
                raise _conflict("incident.etag")
            check_repeat(earlier.fingerprint, mark)
            return earlier
        await self._changed()
        return made

    async def incident(self, name: str, sees: Callable[[Incident], bool]) -> Incident:
        """Return an incident. Raises not_found, also for one that the caller does not see."""
        found = await self._store.incident(_id_of(_INCIDENT, name, "name", "incidents/{incident}"))
        if found is None or not sees(found):
            raise nothing_here("incident")
        return found

    async def incidents(
        self,
        caller: Principal,
        sees: Callable[[Incident], bool],
        *,
        page_size: int = 0,
        page_token: str = "",
        open_only: bool = False,
        model: str = "",
        start_time: datetime | None = None,
    ) -> tuple[list[Incident], str]:
        """Return a page, newest first, and the token of the next one: empty where this was the last."""
        binding = json.dumps(["incidents", caller.name, open_only, model, str(start_time)])
        before = self._tokens.open(page_token, binding) if page_token else ""
        size = page_size or _PAGE_SIZE
        found: list[Incident] = []
        while len(found) <= size:
            batch = await self._store.incidents(
                before=before, limit=size + 1, open_only=open_only, model=model, start_time=start_time
            )
            found += [one for one in batch if sees(one)]
            if len(batch) <= size:
                break
            before = batch[-1].id
        if len(found) <= size:
            return found, ""
        return found[:size], self._tokens.seal(found[size - 1].id, binding)

    async def update_incident(
        self,
        caller: Principal,
        name: str,
        wanted: IncidentDraft,
        fields: frozenset[str],
        *,
        message: str = "",
        etag: str = "",
        origin: Origin = AUTOMATIC,
    ) -> Incident:
        """Take over the named fields of a draft, and add a message where there is one; the phase resolved closes it.

        Raises not_found, and failed_precondition for changes of a closed one: only words can be added to it.
        """
        before = await self.incident(name, lambda _: True)
        _check_etag(before.etag, etag, "incident.etag")
        if fields and before.resolve_time is not None:
            raise failed("This incident is resolved; open a new one, or add a message alone.", "incident.name")
        if message:
            _check_message(message)
        if len(before.updates) >= MOST_UPDATES:
            raise failed(f"An incident holds at most {MOST_UPDATES} updates; open a new one.", "incident.name")
        now = self._clock.now()
        kept = IncidentDraft(before.title, before.state, before.phase, before.models, before.start_time)
        given: dict[str, Any] = {field: getattr(wanted, field) for field in fields}
        draft = replace(kept, **given)
        self._check_incident(draft, now)
        moved = (draft.phase, draft.state) != (before.phase, before.state)
        if draft == kept and not message:
            return before
        updates = before.updates
        if message or moved:
            updates = (*updates, Update(now, draft.phase, draft.state, message))
        after = replace(
            before,
            title=draft.title,
            state=draft.state,
            phase=draft.phase,
            models=draft.models,
            updates=updates,
            start_time=draft.start_time or before.start_time,
            resolve_time=now if draft.phase is Phase.RESOLVED and before.resolve_time is None else before.resolve_time,
            version=before.version + 1,
        )
        facts = _incident_facts(after) | ({"message": message} if message else {})
        told = _event(caller, origin, "incident.update", now, before.name, before=_incident_facts(before), after=facts)
        if not await self._store.put_incident(after, told):
            raise _conflict("incident.etag")
        await self._changed()
        return after

    async def announce(
        self, caller: Principal, draft: MaintenanceDraft, request_id: str = "", *, origin: Origin = AUTOMATIC
    ) -> Maintenance:
        """Announce maintenance. Raises idempotency_conflict for another repeat of a request."""
        now = self._clock.now()
        self._check_maintenance(draft)
        if draft.cancelled:
            raise invalid("maintenance.cancelled", "must be false for what is announced")
        if draft.end_time <= now:
            raise invalid("maintenance.end_time", "must be in the future")
        check_printable(request_id, "request_id")
        mark = _fingerprint(draft, "")
        if request_id and (earlier := await self._store.maintenance_made_by(request_id)) is not None:
            check_repeat(earlier.fingerprint, mark)
            return earlier
        made = Maintenance(
            id=new_id("mnt"), draft=draft, create_time=now, create_request_id=request_id, fingerprint=mark
        )
        told = _event(caller, origin, "maintenance.create", now, made.name, before=None, after=_work_facts(made))
        if not await self._store.put_maintenance(made, told):
            earlier = await self._store.maintenance_made_by(request_id)
            if earlier is None:
                raise _conflict("maintenance.etag")
            check_repeat(earlier.fingerprint, mark)
            return earlier
        await self._changed()
        return made

    async def maintenances(
        self,
        caller: Principal,
        sees: Callable[[Maintenance], bool],
        *,
        page_size: int = 0,
        page_token: str = "",
        upcoming_only: bool = False,
    ) -> tuple[list[Maintenance], str]:
        """Return a page, the latest start first, and the token of the next one: empty where this was the last."""
        binding = json.dumps(["maintenances", caller.name, upcoming_only])
        before = None
        if page_token:
            time, identity = json.loads(self._tokens.open(page_token, binding))
            before = (datetime.fromisoformat(time), identity)
        size = page_size or _PAGE_SIZE
        found: list[Maintenance] = []
        while len(found) <= size:
            batch = await self._store.maintenances(
                before=before, limit=size + 1, ends_after=self._clock.now() if upcoming_only else None
            )
            found += [one for one in batch if sees(one)]
            if len(batch) <= size:
                break
            before = (batch[-1].draft.start_time, batch[-1].id)
        if len(found) <= size:
            return found, ""
        last = found[size - 1]
        return found[:size], self._tokens.seal(json.dumps([last.draft.start_time.isoformat(), last.id]), binding)

    async def update_maintenance(
        self,
        caller: Principal,
        name: str,
        wanted: MaintenanceDraft,
        fields: frozenset[str],
        etag: str = "",
        *,
        origin: Origin = AUTOMATIC,
    ) -> Maintenance:
        """Take over the named fields of a draft. Raises not_found, and failed_precondition for what is over."""
        now = self._clock.now()
        before = await self._store.maintenance(
            _id_of(_MAINTENANCE, name, "maintenance.name", "maintenances/{maintenance}")
        )
        if before is None:
            raise nothing_here("maintenance", "maintenance.name")
        _check_etag(before.etag, etag, "maintenance.etag")
        if before.draft.end_time <= now or before.draft.cancelled:
            raise failed("This maintenance is over or cancelled; announce a new one.", "maintenance.name")
        given: dict[str, Any] = {field: getattr(wanted, field) for field in fields}
        draft = replace(before.draft, **given)
        self._check_maintenance(draft)
        if draft == before.draft:
            return before
        after = replace(before, draft=draft, version=before.version + 1)
        told = _event(
            caller, origin, "maintenance.update", now, before.name, before=_work_facts(before), after=_work_facts(after)
        )
        if not await self._store.put_maintenance(after, told):
            raise _conflict("maintenance.etag")
        await self._changed()
        return after

    def _check_incident(self, draft: IncidentDraft, now: datetime) -> None:
        check_text(draft.title, "incident.title", 200, "what happened")
        self._check_models(draft.models, "incident.models")
        if draft.start_time is not None and not now - _EARLIEST <= draft.start_time <= now + timedelta(minutes=1):
            raise invalid("incident.start_time", "must be within the last 90 days, and not in the future")

    def _check_maintenance(self, draft: MaintenanceDraft) -> None:
        check_text(draft.title, "maintenance.title", 200, "what is done")
        _check_words(draft.description, "maintenance.description")
        self._check_models(draft.models, "maintenance.models")
        if draft.end_time <= draft.start_time:
            raise invalid("maintenance.end_time", "must be behind its start")
        if draft.end_time - draft.start_time > LONGEST_WORK:
            raise invalid("maintenance.end_time", f"must be at most {LONGEST_WORK.days} days behind its start")

    def _check_models(self, models: tuple[str, ...], param: str) -> None:
        for place, model in enumerate(models):
            if not self._has_model(model):
                raise GatewayError(
                    errors_pb2.ERROR_REASON_MODEL_NOT_FOUND,
                    f"There is no model {model!r}; name models by their ids, not by aliases.",
                    param=f"{param}[{place}]",
                    metadata={"model": model},
                    origin="caller",
                )


def _check_message(message: str) -> None:
    if not message.strip():
        raise invalid("message", "is required: what the public reads")
    _check_words(message, "message")


def _check_words(text: str, param: str) -> None:
    """Raise invalid_request for a text of several lines with other control characters than their ends."""
    if len(text) > 4000:
        raise invalid(param, "must have at most 4000 characters")
    check_printable(text.replace("\n", "").replace("\t", ""), param)


def _id_of(form: re.Pattern[str], name: str, param: str, shape: str) -> str:
    found = form.fullmatch(name)
    if found is None:
        raise invalid(param, f"must have the form {shape}")
    return found[1]


def _check_etag(kept: str, etag: str, param: str) -> None:
    if etag and etag != kept:
        raise _conflict(param)


def _conflict(param: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_VERSION_CONFLICT,
        "This was changed since it was read; read it again and decide anew.",
        param=param,
        origin="caller",
    )


def _fingerprint(draft: IncidentDraft | MaintenanceDraft, message: str) -> bytes:
    return hashlib.sha256(json.dumps([asdict(draft), message], sort_keys=True, default=str).encode()).digest()


def _incident_facts(one: Incident) -> dict[str, Any]:
    return {
        "title": one.title,
        "state": one.state.value,
        "phase": one.phase.value,
        "models": list(one.models),
        "start_time": one.start_time,
        "version": one.version,
    }


def _work_facts(one: Maintenance) -> dict[str, Any]:
    return asdict(one.draft) | {"models": list(one.draft.models), "version": one.version}


def _event(
    caller: Principal,
    origin: Origin,
    action: str,
    time: datetime,
    resource: str,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
) -> EventDraft:
    return event(
        caller,
        origin,
        organization_id=PLATFORM,
        time=time,
        action=action,
        resource=resource,
        before=before,
        after=after,
    )
