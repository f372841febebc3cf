"""States, incidents and maintenance as messages, and what callers write of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time

from google.protobuf.duration_pb2 import Duration

from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance.status_words import BY_WORD, State
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.status.board import ModelView, Picture
from tokendance_server.domain.status.history import Day
from tokendance_server.domain.status.incidents import Incident, IncidentDraft, Maintenance, MaintenanceDraft, Phase
from tokendance_server.services.key_messages import timestamp

INCIDENT_FIELDS = {one: one for one in ("title", "state", "phase", "models", "start_time")}
"""The fields of an incident that callers set, under their names in the domain."""
MAINTENANCE_FIELDS = {one: one for one in ("title", "description", "models", "start_time", "end_time", "cancelled")}
"""Those of maintenance."""

_STATES: Mapping[State, pb.ServiceState.ValueType] = {
    state: pb.ServiceState.Value(f"SERVICE_STATE_{state.name}") for state in State
}
_PHASES: Mapping[Phase, pb.IncidentPhase.ValueType] = {
    phase: pb.IncidentPhase.Value(f"INCIDENT_PHASE_{phase.name}") for phase in Phase
}
_STATE_OF = {number: state for state, number in _STATES.items()}
_PHASE_OF = {number: phase for phase, number in _PHASES.items()}

Sees = Callable[[str], bool]
Days = Callable[[str], Sequence[Day]]


def snapshot(picture: Picture, sees: Sees, days: Days | None = None, whole: str = "") -> pb.StatusSnapshot:
    """Return a picture as a caller sees it who sees some models; `whole` is the name of the whole in `days`."""
    shown = [view for model, view in sorted(picture.models.items()) if sees(model)]
    return pb.StatusSnapshot(
        state=state_number(picture.whole.state),
        summary=_summary(picture.whole.state, shown),
        models=[model_status(view, days(view.model) if days else ()) for view in shown],
        incidents=[incident_message(one, sees) for one in picture.incidents if touches_seen(one, sees)],
        maintenances=[maintenance_message(one, sees) for one in picture.maintenances if touches_seen(one, sees)],
        history=map(_day, days(whole) if days else ()),
        time=timestamp(picture.time),
    )


def model_status(view: ModelView, days: Sequence[Day] = ()) -> pb.ModelStatus:
    """Return one model."""
    message = pb.ModelStatus(
        model=view.model,
        state=state_number(view.verdict.state),
        state_start_time=timestamp(view.since),
        reason=view.verdict.reason,
        incident=f"incidents/{view.verdict.incident}" if view.verdict.incident else "",
        provider_labels=view.labels,
        success_permille=view.success_permille,
        history=map(_day, days),
    )
    if view.median_s is not None:
        message.median_first_byte_latency.FromNanoseconds(round(view.median_s * 1e9))
    return message


def touches_seen(one: Incident | Maintenance, sees: Sees) -> bool:
    """Tell whether somebody who sees some models may know of an incident or of maintenance."""
    models = one.models if isinstance(one, Incident) else one.draft.models
    return not models or any(map(sees, models))


def incident_message(one: Incident, sees: Sees) -> pb.Incident:
    """Return an incident, with those of its models that a caller sees. What only moved it is no update to read."""
    return pb.Incident(
        name=one.name,
        title=one.title,
        state=state_number(one.state),
        phase=_PHASES[one.phase],
        models=filter(sees, one.models),
        updates=[
            pb.IncidentUpdate(time=timestamp(update.time), phase=_PHASES[update.phase], message=update.message)
            for update in one.updates
            if update.message
        ],
        start_time=timestamp(one.start_time),
        resolve_time=timestamp(one.resolve_time),
        create_time=timestamp(one.create_time),
        etag=one.etag,
    )


def maintenance_message(one: Maintenance, sees: Sees) -> pb.Maintenance:
    """Return maintenance, with those of its models that a caller sees."""
    draft = one.draft
    return pb.Maintenance(
        name=one.name,
        title=draft.title,
        description=draft.description,
        models=filter(sees, draft.models),
        start_time=timestamp(draft.start_time),
        end_time=timestamp(draft.end_time),
        cancelled=draft.cancelled,
        create_time=timestamp(one.create_time),
        etag=one.etag,
    )


def incident_draft(one: pb.Incident, *, named: frozenset[str] | None = None) -> IncidentDraft:
    """Return what is asked for; `named` are the fields of a change, None for something new. Raises invalid_request."""
    if one.state not in _STATE_OF and (named is None or "state" in named):
        raise invalid("incident.state", "is required: the state that it means for the models")
    if one.phase not in _PHASE_OF and named is not None and "phase" in named:
        raise invalid("incident.phase", "must be a phase")
    return IncidentDraft(
        title=one.title,
        state=_STATE_OF.get(one.state, State.OPERATIONAL),
        phase=_PHASE_OF.get(one.phase, Phase.INVESTIGATING),
        models=tuple(dict.fromkeys(one.models)),
        start_time=_time(one.start_time) if one.HasField("start_time") else None,
    )


def maintenance_draft(one: pb.Maintenance, *, named: frozenset[str] | None = None) -> MaintenanceDraft:
    """Return what is asked for, as `incident_draft`."""
    for field in ("start_time", "end_time"):
        if not one.HasField(field) and (named is None or field in named):
            raise invalid(f"maintenance.{field}", "is required")
    return MaintenanceDraft(
        title=one.title,
        start_time=_time(one.start_time),
        end_time=_time(one.end_time),
        description=one.description,
        models=tuple(dict.fromkeys(one.models)),
        cancelled=one.cancelled,
    )


def state_number(state: State) -> pb.ServiceState.ValueType:
    """Return a state of the domain as one of the messages."""
    return _STATES[state]


def _time(moment: object) -> datetime:
    return moment.ToDatetime(UTC)  # type: ignore[attr-defined, no-any-return]  # a Timestamp; its range is validated


def _summary(state: State, shown: Sequence[ModelView]) -> str:
    word = BY_WORD[state]
    troubled = sum(view.verdict.state is not State.OPERATIONAL for view in shown)
    if state is not State.OPERATIONAL:
        return f"{word.meaning} {word.advice}"
    if not troubled:
        return "Everything works."
    return f"Most requests are answered as usual; {troubled} of {len(shown)} models are not fully available."


def _day(day: Day) -> pb.DayStatus:
    return pb.DayStatus(
        start_time=timestamp(datetime.combine(day.day, time(), UTC)),
        worst_state=pb.SERVICE_STATE_UNSPECIFIED if day.worst is None else state_number(day.worst),
        degraded_duration=Duration(seconds=day.degraded_s),
        outage_duration=Duration(seconds=day.outage_s),
        maintenance_duration=Duration(seconds=day.maintenance_s),
        unknown_duration=Duration(seconds=day.unknown_s),
    )
