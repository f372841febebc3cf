"""Messages of the gateway as what templates show: texts, words and numbers. Pure, and wary of what operators wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import completion_pb2, models_service_pb2, status_service_pb2

UNKNOWN = "unknown"
Clean = Callable[[str], str]
"""Puts another word in the place of names that must not be public."""

_IN_PLACE = "a controlled runtime component"
_PRICES = {
    "input": "Input",
    "cached_input": "Cached input",
    "cache_write": "Cache write",
    "output": "Output",
    "reasoning": "Reasoning",
    "audio_input": "Audio input",
    "audio_output": "Audio output",
    "image": "Images",
}
_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model of the public list. `words` is what a search looks at, in lower case."""

    id: str
    anchor: str
    title: str
    description: str
    aliases: tuple[str, ...]
    context_window: str
    max_output: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    serves: tuple[str, ...]
    prices: tuple[tuple[str, str], ...]
    note: str
    gone: str
    successor: str
    owner: str
    words: str


@dataclass(frozen=True, slots=True)
class DayView:
    """One day of history; times in whole minutes."""

    date: str
    state: str
    degraded: int
    out: int
    maintenance: int


@dataclass(frozen=True, slots=True)
class UpdateView:
    """What was said of an incident at one time."""

    when: str
    phase: str
    message: str


@dataclass(frozen=True, slots=True)
class IncidentView:
    """An incident; `end` is empty while it is open."""

    title: str
    state: str
    phase: str
    models: tuple[str, ...]
    start: str
    end: str
    updates: tuple[UpdateView, ...]


@dataclass(frozen=True, slots=True)
class MaintenanceView:
    """Work that is announced or under way."""

    title: str
    description: str
    models: tuple[str, ...]
    start: str
    end: str
    cancelled: bool


@dataclass(frozen=True, slots=True)
class ModelStateView:
    """The state of one model."""

    model: str
    state: str
    since: str
    reason: str
    labels: tuple[str, ...]
    success: str
    first_byte: str
    history: tuple[DayView, ...]


@dataclass(frozen=True, slots=True)
class StatusView:
    """Everything that the status page shows; `state` is `unknown` where nobody can tell."""

    state: str
    summary: str
    models: tuple[ModelStateView, ...] = ()
    incidents: tuple[IncidentView, ...] = ()
    maintenances: tuple[MaintenanceView, ...] = ()
    history: tuple[DayView, ...] = ()


def cleaner(names: Iterable[str]) -> Clean:
    """Return what takes private names out of a text, as whole words and whatever their case."""
    wanted = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    if not wanted:
        return lambda text: text
    pattern = re.compile(rf"(?<!\w)(?:{wanted})(?!\w)", re.IGNORECASE)
    return lambda text: pattern.sub(_IN_PLACE, text)


def model_view(model: models_service_pb2.Model, clean: Clean) -> ModelView:
    """Return one model as the list shows it."""
    serves = tuple(_word(models_service_pb2.ModelCapability, one, "MODEL_CAPABILITY_") for one in model.capabilities)
    takes = tuple(_word(completion_pb2.Modality, one, "MODALITY_") for one in model.input_modalities)
    gives = tuple(_word(completion_pb2.Modality, one, "MODALITY_") for one in model.output_modalities)
    texts = (model.id, model.display_name, model.description, model.owned_by, *model.aliases, *serves, *takes, *gives)
    return ModelView(
        id=model.id,
        anchor=anchor(model.id),
        title=clean(model.display_name),
        description=clean(model.description),
        aliases=tuple(model.aliases),
        context_window=f"{model.context_window:,}" if model.HasField("context_window") else "",
        max_output=f"{model.max_output_tokens:,}" if model.HasField("max_output_tokens") else "",
        takes=takes,
        gives=gives,
        serves=serves,
        prices=tuple(map(_price, model.prices)),
        note=clean(model.availability_note),
        gone=model.deprecate_time.ToDatetime().date().isoformat() if model.HasField("deprecate_time") else "",
        successor=model.successor,
        owner=clean(model.owned_by),
        words=clean(" ".join(texts)).lower(),
    )


def status_view(status: status_service_pb2.StatusSnapshot | None, clean: Clean) -> StatusView:
    """Return the state as the pages show it."""
    if status is None:
        return StatusView(UNKNOWN, "The state cannot be read right now; the page asks again by itself.")
    return StatusView(
        state=_state(status.state),
        summary=clean(status.summary),
        models=tuple(_model_state(one, clean) for one in status.models),
        incidents=tuple(incident_view(one, clean) for one in status.incidents),
        maintenances=tuple(_maintenance(one, clean) for one in status.maintenances),
        history=tuple(map(_day, status.history)),
    )


def incident_view(incident: status_service_pb2.Incident, clean: Clean) -> IncidentView:
    """Return an incident with its updates, the newest first."""
    return IncidentView(
        title=clean(incident.title),
        state=_state(incident.state),
        phase=_phase(incident.phase),
        models=tuple(incident.models),
        start=_moment(incident.start_time),
        end=_moment(incident.resolve_time) if incident.HasField("resolve_time") else "",
        updates=tuple(
            UpdateView(_moment(update.time), _phase(update.phase), clean(update.message))
            for update in reversed(incident.updates)
        ),
    )


def anchor(name: str) -> str:
    """Return an id for an element of a page, one for each name: letters, digits and `-`, the rest as `_` and hex."""
    return "m-" + "".join(one if one.isascii() and (one.isalnum() or one == "-") else f"_{ord(one):x}" for one in name)


def _model_state(model: status_service_pb2.ModelStatus, clean: Clean) -> ModelStateView:
    latency = model.median_first_byte_latency
    return ModelStateView(
        model=model.model,
        state=_state(model.state),
        since=_moment(model.state_start_time) if model.HasField("state_start_time") else "",
        reason=clean(model.reason),
        labels=tuple(map(clean, model.provider_labels)),
        success=f"{model.success_permille / 10:g} %" if model.HasField("success_permille") else "",
        first_byte=f"{latency.ToMilliseconds():,} ms" if model.HasField("median_first_byte_latency") else "",
        history=tuple(map(_day, model.history)),
    )


def _maintenance(work: status_service_pb2.Maintenance, clean: Clean) -> MaintenanceView:
    return MaintenanceView(
        title=clean(work.title),
        description=clean(work.description),
        models=tuple(work.models),
        start=_moment(work.start_time),
        end=_moment(work.end_time),
        cancelled=work.cancelled,
    )


def _day(day: status_service_pb2.DayStatus) -> DayView:
    return DayView(
        date=day.start_time.ToDatetime(UTC).date().isoformat(),
        state=_state(day.worst_state),
        degraded=day.degraded_duration.seconds // 60,
        out=day.outage_duration.seconds // 60,
        maintenance=day.maintenance_duration.seconds // 60,
    )


def _price(price: models_service_pb2.ModelPrice) -> tuple[str, str]:
    kind = getattr(price, "class")
    label = _PRICES.get(kind, kind)
    if price.service_tier:
        label += f", tier {price.service_tier}"
    if price.from_prompt_tokens:
        label += f", prompts from {price.from_prompt_tokens:,} tokens"
    return label, f"{_dollars(price.micros_per_million)} for a million {price.unit or 'token'}s"


def _dollars(micros: int) -> str:
    whole, rest = divmod(micros, _MICROS)
    cents = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"${whole:,}.{cents}"


def _state(number: int) -> str:
    word = _word(status_service_pb2.ServiceState, number, "SERVICE_STATE_")
    return UNKNOWN if word in {"unspecified", "other"} else word


def _phase(number: int) -> str:
    return _word(status_service_pb2.IncidentPhase, number, "INCIDENT_PHASE_")


def _word(enum: object, number: int, prefix: str) -> str:
    descriptor = enum.DESCRIPTOR.values_by_number.get(number)  # type: ignore[attr-defined]  # an enum's wrapper
    return "other" if descriptor is None else str(descriptor.name).removeprefix(prefix).lower()


def _moment(when: Timestamp) -> str:
    return datetime.fromtimestamp(when.seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")


def bars(history: Sequence[DayView], days: int) -> list[tuple[str, str]]:
    """Return the bars of a row of days, the newest at the right: for each state its word and the path of its bars.

    A bar is 8 wide and 36 high in a box of 10 for each of `days`; days that are not told are `unknown`.
    """
    states = [UNKNOWN] * max(days - len(history), 0) + [day.state for day in history[-days:]]
    paths: dict[str, list[str]] = {}
    for place, state in enumerate(states):
        paths.setdefault(state, []).append(f"M{place * 10 + 1} 0h8v36h-8z")
    return [(state, "".join(parts)) for state, parts in paths.items()]
