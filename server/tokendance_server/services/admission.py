"""Admission: how many calls may run at once; one more is refused at once, with a time to come back."""

from __future__ import annotations

from types import TracebackType

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

_RETRY_AFTER_S = 1


class Admission:
    """Counts the calls that run, each of them in a `with admission:`. `limit` may; draining lets no new one in."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0
        self._draining = False

    @property
    def running(self) -> int:
        """How many calls run now."""
        return self._running

    def drain(self) -> None:
        """Refuse new calls from now on with service_stopping; those that run go on."""
        self._draining = True

    def __enter__(self) -> None:
        """Take a place. Raises gateway_overloaded or service_stopping."""
        if self._draining:
            raise GatewayError(
                errors_pb2.ERROR_REASON_SERVICE_STOPPING,
                "This node is shutting down; send the call again.",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._running >= self._limit:
            raise GatewayError(
                errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED,
                "The gateway runs as many calls as it can now; send the call again shortly.",
                retry_after_s=_RETRY_AFTER_S,
                metadata={"limit": str(self._limit)},
            )
        self._running += 1

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the place back."""
        self._running -= 1
