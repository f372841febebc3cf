"""The status, incidents, maintenance and nodes as commands show them."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from tokendance.gateway.v1 import nodes_service_pb2 as nodes_pb
from tokendance.gateway.v1 import status_service_pb2 as pb
from tokendance_cli.key_view import utc

MODEL_COLUMNS = ("model", "state", "since", "answered", "first byte", "providers", "reason")
INCIDENT_COLUMNS = ("incident", "phase", "state", "began", "resolved", "models", "title")
MAINTENANCE_COLUMNS = ("maintenance", "begins", "ends", "state", "models", "title")
ROUTE_COLUMNS = ("model", "provider", "upstream model", "circuit", "calls", "failures", "running", "first byte", "why")
NODE_COLUMNS = (
    "node", "state", "version", "roles", "host", "started", "reported", "config", "lag", "requests", "memory",
    "unwritten", "reason",
)  # fmt: skip


def state_word(state: pb.ServiceState.ValueType) -> str:
    """Return a state as `tokendance.status_words` has it."""
    return pb.ServiceState.Name(state).removeprefix("SERVICE_STATE_").lower()


def phase_word(phase: pb.IncidentPhase.ValueType) -> str:
    """Return a phase in lower case."""
    return pb.IncidentPhase.Name(phase).removeprefix("INCIDENT_PHASE_").lower()


def model_row(one: pb.ModelStatus) -> list[str]:
    """Return the row of a model."""
    return [
        one.model,
        state_word(one.state),
        utc(one.state_start_time),
        f"{one.success_permille / 10:g} %" if one.HasField("success_permille") else "",
        _span(one.median_first_byte_latency) if one.HasField("median_first_byte_latency") else "",
        ", ".join(one.provider_labels),
        one.reason,
    ]


def incident_row(one: pb.Incident) -> list[str]:
    """Return the row of an incident."""
    return [
        one.name,
        phase_word(one.phase),
        state_word(one.state),
        utc(one.start_time),
        utc(one.resolve_time) if one.HasField("resolve_time") else "",
        ", ".join(one.models) or "all",
        one.title,
    ]


def incident_lines(one: pb.Incident) -> list[tuple[str, str]]:
    """Return the lines of an incident, with what was said of it."""
    row = incident_row(one)
    lines = [(column, value) for column, value in zip(INCIDENT_COLUMNS, row, strict=True) if value]
    said = [(utc(update.time), f"{phase_word(update.phase)}: {update.message}") for update in one.updates]
    return [*lines, ("etag", one.etag), *said]


def maintenance_row(one: pb.Maintenance) -> list[str]:
    """Return the row of maintenance."""
    state = "cancelled" if one.cancelled else "announced"
    return [one.name, utc(one.start_time), utc(one.end_time), state, ", ".join(one.models) or "all", one.title]


def route_row(one: pb.RouteHealth) -> list[str]:
    """Return the row of a route."""
    why = one.reason
    if one.HasField("retry_time"):
        why = f"{why} Tried again at {utc(one.retry_time)}.".strip()
    return [
        one.model,
        one.provider,
        one.upstream_model,
        pb.CircuitState.Name(one.circuit).removeprefix("CIRCUIT_STATE_").lower(),
        str(one.recent_calls),
        str(one.recent_failures),
        str(one.running_calls),
        _span(one.mean_first_byte_latency) if one.HasField("mean_first_byte_latency") else "",
        why,
    ]


def node_row(one: nodes_pb.Node, newest: int) -> list[str]:
    """Return the row of a node; `newest` is the newest change of all, which it may not serve yet."""
    behind = newest - one.config_version
    roles = [nodes_pb.NodeRole.Name(role).removeprefix("NODE_ROLE_").lower() for role in one.roles]
    return [
        one.name,
        nodes_pb.NodeState.Name(one.state).removeprefix("NODE_STATE_").lower(),
        one.version,
        ", ".join(roles),
        one.hostname,
        utc(one.start_time),
        utc(one.report_time),
        f"{one.config_version}" + (f" ({behind} behind)" if behind > 0 else ""),
        _span(one.loop_lag),
        f"{one.running_requests}",
        f"{one.resident_bytes / 1e6:.0f} MB",
        f"{one.journal.pending_entries}",
        one.reason,
    ]


def change_line(change: pb.StatusChange) -> str:
    """Return a change in one line."""
    kind = change.WhichOneof("change")
    if kind == "state":
        told = f"everything: {state_word(change.state)}"
    elif kind == "model":
        told = f"model {change.model.model}: {state_word(change.model.state)} {change.model.reason}"
    elif kind == "incident":
        last = change.incident.updates[-1].message if change.incident.updates else ""
        told = f"{change.incident.name} {phase_word(change.incident.phase)}: {change.incident.title} - {last}"
    elif kind == "maintenance":
        work = change.maintenance
        told = f"{work.name} {utc(work.start_time)} to {utc(work.end_time)}: {work.title}"
        told += " (cancelled)" if work.cancelled else ""
    else:
        told = f"model {change.removed_model}: not there any more"
    return f"{utc(change.time)}  {told.strip()}"


def head_lines(status: pb.StatusSnapshot) -> Sequence[str]:
    """Return what stands above the table of models."""
    lines = [f"{state_word(status.state)}  {status.summary}"]
    lines += [f"{one.name}  {phase_word(one.phase)}  {one.title}" for one in status.incidents]
    lines += [f"{one.name}  {utc(one.start_time)} to {utc(one.end_time)}  {one.title}" for one in status.maintenances]
    return lines


def _span(duration: Duration) -> str:
    milliseconds = duration.ToNanoseconds() / 1e6
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.0f} ms"
