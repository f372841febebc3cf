"""Admission: how many calls may run at once and how busy the event loop may be; what is too much is refused at once.

Model calls are shed first, what API keys may read comes next, and administration last. Health checks, liveness and
metrics do not pass through here at all.
"""

from __future__ import annotations

import asyncio
import enum
import math
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.services.deadlines import DeadlineScope

_RETRY_AFTER_S = 1
_LONGEST_RETRY_AFTER_S = 60
_RESERVE_SHARE = 0.05


class Priority(enum.IntEnum):
    """What a call is worth when not all can run: the higher, the later it is refused."""

    MODEL_CALL = 0
    READ = 1
    CONTROL = 2


class Lag(Protocol):
    """How late the event loop runs what is due, in seconds, and whether that is too much."""

    seconds: float
    high: bool


class Admission:
    """Knows the calls that run, each let in by a gate. `limit` model calls may, and a few more of what is worth more.

    Above that, and for model calls while `lag` is high, calls are refused with gateway_overloaded; draining lets no
    new one in.
    """

    def __init__(self, limit: int, lag: Lag | None = None) -> None:
        self._limit = limit
        self._lag = lag
        self._calls: set[DeadlineScope] = set()
        self._draining = False
        self._empty: asyncio.Future[None] | None = None

    @property
    def draining(self) -> bool:
        """True once no new call is let in."""
        return self._draining

    @property
    def running(self) -> int:
        """Calls that run."""
        return len(self._calls)

    @property
    def running_streams(self) -> int:
        """Those of them that are streams."""
        return sum(scope.when_idle is not None for scope in self._calls)

    def gate(self, priority: Priority) -> Gate:
        """Return where calls of a priority come in."""
        reserve = max(1, math.ceil(self._limit * _RESERVE_SHARE))
        lag = self._lag if priority is Priority.MODEL_CALL else None
        return Gate(self, self._limit + priority * reserve, lag)

    def drain(self) -> None:
        """Refuse new calls from now on with service_stopping; those that run go on."""
        self._draining = True

    async def emptied(self, within_s: float) -> bool:
        """Wait until no call runs; returns whether that came to be within so many seconds."""
        if self._calls and within_s > 0:
            if self._empty is None:
                self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=within_s)
        return not self._calls

    def end_all(self) -> None:
        """End every call that runs with service_stopping, so that its caller learns why."""
        for scope in list(self._calls):
            scope.end(_stopping())

    def enter(self, limit: int, lag: Lag | None, deadline: float) -> DeadlineScope:
        """Let a call in, or raise what `Gate.enter` raises."""
        if self._draining:
            raise _stopping()
        if len(self._calls) >= limit:
            raise GatewayError(
                errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED,
                "The gateway runs as many calls as it can now; send the call again shortly.",
                retry_after_s=_RETRY_AFTER_S,
                metadata={"limit": str(self._limit)},
            )
        if lag is not None and lag.high:
            raise GatewayError(
                errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED,
                "The gateway is busier than it can be and still answer in time; send the call again shortly.",
                # A loop that is behind by more than that will not have caught up sooner.
                retry_after_s=min(max(math.ceil(lag.seconds), _RETRY_AFTER_S), _LONGEST_RETRY_AFTER_S),
            )
        scope = DeadlineScope(deadline)
        self._calls.add(scope)
        return scope

    def leave(self, scope: DeadlineScope) -> None:
        """Count a call out."""
        scope.close()
        self._calls.discard(scope)
        if self._empty is not None and not self._calls:
            if not self._empty.done():
                self._empty.set_result(None)
            self._empty = None


class Gate:
    """Where calls of one priority come in. Every `enter` that returned is followed by one `leave`."""

    __slots__ = ("_admission", "_lag", "_limit")

    def __init__(self, admission: Admission, limit: int, lag: Lag | None) -> None:
        self._admission = admission
        self._limit = limit
        self._lag = lag

    def enter(self, deadline: float) -> DeadlineScope:
        """Let a call in until `deadline`, in the loop's seconds. Raises gateway_overloaded or service_stopping."""
        return self._admission.enter(self._limit, self._lag, deadline)

    def leave(self, scope: DeadlineScope) -> None:
        """Count the call out, and stop its timer."""
        self._admission.leave(scope)


def _stopping() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_SERVICE_STOPPING,
        "This node is shutting down; send the call again.",
        retry_after_s=_RETRY_AFTER_S,
    )
