"""Probes that no caller waits for: routes that are out are asked for their list of models, where the operator wants it.

A probe is let through where a call would be, so that there is one at a time. It costs no tokens, and says less than a
call does: an upstream that lists its models may still fail to answer.
"""

from __future__ import annotations

import asyncio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.routing.circuit import Cause, CircuitState
from tokendance_server.domain.routing.lanes import Lane
from tokendance_server.domain.routing.router import Router
from tokendance_server.domain.upstream import UpstreamCall

_PATIENCE_S = 10.0


class Probes:
    """Probes the routes of a router that are out, every `every_s` seconds; with 0 never."""

    def __init__(self, router: Router, every_s: float) -> None:
        self._router = router
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Probe until `close`."""
        if self._every_s:
            self._task = asyncio.create_task(self._run(), name="route-probes")

    async def close(self) -> None:
        """End it; harmless where it was never started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def probe(self) -> int:
        """Probe every route that is out and has rested; returns how many that were."""
        now = self._router.now()
        due: dict[tuple[str, str], Lane] = {}
        for plan in self._router.plans().by_model.values():
            for lane in plan.lanes:
                circuit = lane.track.circuit
                if circuit.state is not CircuitState.CLOSED and circuit.admits(now):
                    due.setdefault(lane.track.key, lane)
        await asyncio.gather(*map(self._ask, due.values()))
        return len(due)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.probe()

    async def _ask(self, lane: Lane) -> None:
        router, circuit = self._router, lane.track.circuit
        seat = lane.seat(router.now(), ())
        if seat is None:
            return
        generation = circuit.begin()
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        try:
            await seat.upstream.discover(UpstreamCall("", deadline, "probe"))
        except GatewayError as error:
            now = router.now()
            if error.reason == errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED:
                circuit.leave(generation, now)
            elif circuit.fail(generation, now):
                router.report.circuit_opened(lane.track, circuit.cause or Cause.DEAD, circuit.rest_until - now)
        except BaseException:
            circuit.leave(generation, router.now())
            raise
        else:
            circuit.succeed(generation, router.now())
            if circuit.state is CircuitState.CLOSED:
                router.report.circuit_closed(lane.track)
