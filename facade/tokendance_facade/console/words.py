"""Messages of the gateway in words and figures for people. Pure: nothing here asks anybody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import (
    access_pb2,
    keys_service_pb2,
    models_service_pb2,
    nodes_service_pb2,
    organization_pb2,
    quota_pb2,
    status_service_pb2,
    usage_pb2,
)
from tokendance_facade.console.views import Cell, Option

_MICROS = 1_000_000
NOTHING = "\N{EN DASH}"
"""What stands where there is nothing."""
METRICS = {
    quota_pb2.LIMIT_METRIC_REQUESTS: "requests",
    quota_pb2.LIMIT_METRIC_INPUT_TOKENS: "input tokens",
    quota_pb2.LIMIT_METRIC_OUTPUT_TOKENS: "output tokens",
    quota_pb2.LIMIT_METRIC_TOTAL_TOKENS: "tokens",
    quota_pb2.LIMIT_METRIC_COST_MICROS: "cost",
    quota_pb2.LIMIT_METRIC_CONCURRENT_REQUESTS: "requests at a time",
}
WINDOWS = {
    quota_pb2.LIMIT_WINDOW_UNSPECIFIED: "",
    quota_pb2.LIMIT_WINDOW_MINUTE: "a minute",
    quota_pb2.LIMIT_WINDOW_HOUR: "an hour",
    quota_pb2.LIMIT_WINDOW_DAY: "a day",
    quota_pb2.LIMIT_WINDOW_MONTH: "a month",
    quota_pb2.LIMIT_WINDOW_TOTAL: "in total",
}


def word(enum: Any, value: int) -> str:
    """Return a value of an enum in words: `KEY_STATE_ACTIVE` is `active`, an unset one empty."""
    name = str(enum.Name(value)) if value in enum.values() else ""
    head = str(enum.Name(0)).removesuffix("UNSPECIFIED")
    text = name.removeprefix(head).lower()
    return "" if text == "unspecified" else text


def options(enum: Any, *, anything: str = "") -> list[Option]:
    """Return the values of an enum as choices, with one for any where it is named."""
    named = [(str(value), word(enum, value).replace("_", " ")) for value in enum.values() if value]
    return [("", anything), *named] if anything else named


def state(enum: Any, value: int) -> Cell:
    """Return a state with its colour."""
    text = word(enum, value) or "unknown"
    return Cell(text.replace("_", " ").capitalize(), kind="state", state=text)


def key_state(value: int) -> Cell:
    """Return whether a key works."""
    return state(keys_service_pb2.KeyState, value)


def moment(message: Any, field: str) -> Cell:
    """Return a time of a message, or a dash where it is absent."""
    return stamp(getattr(message, field)) if message.HasField(field) else Cell(NOTHING)


def stamp(value: Timestamp) -> Cell:
    """Return a time."""
    return Cell(value.ToDatetime(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), kind="time")


def length(value: Duration) -> str:
    """Return a duration in its largest whole unit."""
    return span(value.ToTimedelta())


def span(value: timedelta) -> str:
    """Return a duration in its largest whole unit."""
    seconds = value.total_seconds()
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return f"{count:,} {name}{'' if count == 1 else 's'}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:,.3g} s" if seconds < 60 else f"{seconds / 60:,.0f} minutes"


def latency(message: Any, field: str) -> str:
    """Return a latency of a message, or a dash where it is absent."""
    return span(getattr(message, field).ToTimedelta()) if message.HasField(field) else NOTHING


def count(value: int) -> str:
    """Return a number."""
    return f"{value:,}"


def money(micros: int) -> str:
    """Return an amount of millionths of a US dollar; small ones with all their digits."""
    dollars = micros / _MICROS
    if micros and abs(dollars) < 0.01:
        return f"${dollars:.6f}".rstrip("0")
    return f"${dollars:,.2f}"


def amount(metric: int, value: int) -> str:
    """Return a value in the unit of its metric."""
    return money(value) if metric == quota_pb2.LIMIT_METRIC_COST_MICROS else count(value)


def rule(limit: quota_pb2.LimitRule) -> str:
    """Return a limit in one phrase, such as `1,000 requests a day for demo-echo, soft`."""
    parts = [amount(limit.metric, limit.limit), METRICS.get(limit.metric, "?"), WINDOWS.get(limit.window, "")]
    if limit.metric == quota_pb2.LIMIT_METRIC_COST_MICROS:
        parts.pop(1)
    text = " ".join(part for part in parts if part)
    if limit.model:
        text += f" for {limit.model}"
    return f"{text}, soft" if limit.soft else text


def share(part: int, whole: int) -> int:
    """Return how many percent a part is of a whole, 0 to 100; of nothing it is all."""
    return 100 if whole <= 0 else max(0, min(100, round(part * 100 / whole)))


def id_of(name: str) -> str:
    """Return the last part of a resource name."""
    return name.rpartition("/")[2]


def when(text: str) -> datetime:
    """Return a time that a form holds: a date, or a date and a time, in UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


KEY_STATE = keys_service_pb2.KeyState
KEY_REQUEST_STATE = keys_service_pb2.KeyRequestState
MEMBER_ROLE = organization_pb2.MemberRole
MEMBER_STATE = organization_pb2.MemberState
ORGANIZATION_STATE = organization_pb2.OrganizationState
OUTCOME = usage_pb2.RequestOutcome
VISIBILITY = models_service_pb2.ModelVisibility
NODE_STATE = nodes_service_pb2.NodeState
SERVICE_STATE = status_service_pb2.ServiceState
PHASE = status_service_pb2.IncidentPhase
KIND = access_pb2.CallerKind
