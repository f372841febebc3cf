"""What is told of each call when it ends: one log line, and its place in the metrics."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from tokendance.errors import spec_of
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason, Surface
from tokendance_server.services.call import Call
from tokendance_server.telemetry import OTHER_MODEL, Metrics, logger

_SURFACES = {number: name.removeprefix("SURFACE_").lower() for name, number in Surface.items()}
OK = "ok"


class Recorder:
    """Writes the log line and the metrics of each call. `known_model` tells whether a name may become a label."""

    def __init__(self, metrics: Metrics, known_model: Callable[[str], bool]) -> None:
        # Looking a label up costs more than counting; there are few, because their values are bounded.
        self._in_flight = functools.cache(metrics.in_flight.labels)
        self._requests = functools.cache(metrics.requests.labels)
        self._added = functools.cache(metrics.added.labels)
        self._upstream = functools.cache(metrics.upstream.labels)
        self._known_model = known_model
        self._log = logger().bind()

    def began(self, call: Call) -> None:
        """Count a call in."""
        self._in_flight(_surface(call)).inc()

    def answered(self, call: Call) -> None:
        """Observe how long the answer, or a stream's first message, took: upstream and here."""
        added = time.perf_counter() - call.started - call.upstream_s
        self._added(_surface(call)).observe(max(added, 0.0))
        if call.model:
            self._upstream(self._model(call)).observe(call.upstream_s)

    def ended(self, call: Call, reason: ErrorReason.ValueType | None) -> None:
        """Count a call out, with its code, and log its one line."""
        surface = _surface(call)
        code = OK if reason is None else spec_of(reason).code
        self._in_flight(surface).dec()
        self._requests(surface, self._model(call), code).inc()
        principal = call.principal
        self._log.info(
            "request",
            request_id=call.request_id,
            method=call.method,
            surface=surface,
            code=code,
            # Not as the caller wrote it: what is no model may be a key or a prompt, pasted into the wrong field.
            model=self._model(call),
            key=principal.key_id if principal else "",
            organization=principal.organization if principal else "",
            client=call.caller.client_kind if call.caller else "",
            duration_ms=round((time.perf_counter() - call.started) * 1000, 3),
            upstream_ms=round(call.upstream_s * 1000, 3),
        )

    def crashed(self, call: Call, exc: BaseException) -> None:
        """Log the cause of an internal error; it goes nowhere else."""
        self._log.error("internal_error", request_id=call.request_id, method=call.method, exc_info=exc)

    def _model(self, call: Call) -> str:
        if not call.model:
            return ""
        return call.model if self._known_model(call.model) else OTHER_MODEL


def _surface(call: Call) -> str:
    return _SURFACES.get(call.surface, _SURFACES[errors_pb2.SURFACE_UNSPECIFIED])
