"""What is known of the routes and models of this node: for those who ask, such as the status of the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.routing.circuit import CircuitState


@dataclass(frozen=True, slots=True)
class RouteHealth:
    """One route of one model, as this node sees it now. Times are aware, UTC; `model` is the public id.

    `provider` is its name without `providers/`, `label` the one that callers may see. `reason` is one sentence for
    operators, empty where calls are sent there; `last_error` the reason of the last failure, 0 where none was.
    `retry_time` is None where it is used. The recent figures are of the last 60 s; failures are the upstream's only.
    `mean_first_byte_s` decays, and is None before the first call.
    """

    model: str
    provider: str
    label: str
    upstream_model: str
    state: CircuitState
    since: datetime
    reason: str = ""
    last_error: ErrorReason.ValueType = errors_pb2.ERROR_REASON_UNSPECIFIED
    retry_time: datetime | None = None
    recent_calls: int = 0
    recent_failures: int = 0
    running_calls: int = 0
    mean_first_byte_s: float | None = None
    last_success_time: datetime | None = None
    last_failure_time: datetime | None = None
    credential_rejected: bool = False


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """How calls of one model, by its public id, ended for their callers within the last 300 s on this node.

    `calls` are those that could be answered: refusals of the caller's own are not among them, and neither are callers
    that left. `failed` of them got an error of the provider family or of the gateway's own. `degraded` were answered
    only after a retry, by another route than the first or by another model. `median_first_byte_s` is exact to about a
    fifth, and None where there were fewer than 5 answers.
    """

    model: str
    calls: int = 0
    failed: int = 0
    degraded: int = 0
    median_first_byte_s: float | None = None


class HealthSource(Protocol):
    """Tells how routes and models are, without waiting for anything."""

    def route_health(self) -> Sequence[RouteHealth]:
        """Return every route of the catalogue in force: by model, then in the order of the model."""

    def model_health(self) -> Sequence[ModelHealth]:
        """Return every model of the catalogue in force, by id, also where nobody called it."""
