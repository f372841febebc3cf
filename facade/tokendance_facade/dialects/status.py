"""The status as JSON: the gateway's own form, for `GET /v1/status`. Names public models and public labels only."""

from __future__ import annotations

from urllib.parse import parse_qs

import orjson
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance_facade.dialects.documents import Document

MOST_DAYS = 90
_PARAMETER = "history_days"


def decode(query: str) -> pb.GetStatusRequest:
    """Return the question of a query string: `history_days`, 0 to 90. Raises invalid_request."""
    try:
        given = parse_qs(query, keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise _invalid("Give at most 10 parameters.", None) from None
    for name in given:
        if name != _PARAMETER:
            raise _invalid(f"The only parameter is {_PARAMETER}.", name[:100])
    days = given.get(_PARAMETER, ["0"])[-1]
    if not (days.isascii() and days.isdecimal() and len(days) <= 2 and int(days) <= MOST_DAYS):
        raise _invalid(f"{_PARAMETER} is a whole number from 0 to {MOST_DAYS}.", _PARAMETER)
    return pb.GetStatusRequest(history_days=int(days))


def encode(status: pb.StatusSnapshot) -> bytes:
    """Return the state of now. Times are RFC 3339 in UTC; `history` is there only where it was asked for."""
    return orjson.dumps(
        {
            "object": "status",
            "state": _state(status.state),
            "summary": status.summary,
            "time": _time(status.time),
            "models": [_model(one) for one in status.models],
            "incidents": [_incident(one) for one in status.incidents],
            "maintenances": [_maintenance(one) for one in status.maintenances],
            **({"history": [_day(day) for day in status.history]} if status.history else {}),
        }
    )


def _model(one: pb.ModelStatus) -> Document:
    return {
        "id": one.model,
        "state": _state(one.state),
        "since": _time(one.state_start_time),
        "reason": one.reason or None,
        "incident": one.incident or None,
        "providers": list(one.provider_labels),
        # Of the last five minutes; null where there were too few requests to tell.
        "success_rate": one.success_permille / 1000 if one.HasField("success_permille") else None,
        "median_first_byte_ms": _milliseconds(one.median_first_byte_latency)
        if one.HasField("median_first_byte_latency")
        else None,
        **({"history": [_day(day) for day in one.history]} if one.history else {}),
    }


def _incident(one: pb.Incident) -> Document:
    return {
        "name": one.name,
        "title": one.title,
        "state": _state(one.state),
        "phase": pb.IncidentPhase.Name(one.phase).removeprefix("INCIDENT_PHASE_").lower(),
        # Empty: it touches all.
        "models": list(one.models),
        "started_at": _time(one.start_time),
        "resolved_at": _time(one.resolve_time) if one.HasField("resolve_time") else None,
        "updates": [
            {
                "time": _time(update.time),
                "phase": pb.IncidentPhase.Name(update.phase).removeprefix("INCIDENT_PHASE_").lower(),
                "message": update.message,
            }
            for update in one.updates
        ],
    }


def _maintenance(one: pb.Maintenance) -> Document:
    return {
        "name": one.name,
        "title": one.title,
        "description": one.description,
        "models": list(one.models),
        "starts_at": _time(one.start_time),
        "ends_at": _time(one.end_time),
    }


def _day(day: pb.DayStatus) -> Document:
    return {
        "day": _time(day.start_time)[:10],
        # Null: nothing is known of it.
        "worst_state": _state(day.worst_state) if day.worst_state else None,
        "degraded_s": day.degraded_duration.seconds,
        "outage_s": day.outage_duration.seconds,
        "maintenance_s": day.maintenance_duration.seconds,
        "unknown_s": day.unknown_duration.seconds,
    }


def _state(state: pb.ServiceState.ValueType) -> str:
    return pb.ServiceState.Name(state).removeprefix("SERVICE_STATE_").lower()


def _time(moment: Timestamp) -> str:
    return str(moment.ToJsonString())


def _milliseconds(duration: Duration) -> int:
    return duration.ToMilliseconds()


def _invalid(message: str, param: str | None) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param, origin="caller")
