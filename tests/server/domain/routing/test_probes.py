"""Probes that no caller waits for: only of routes that are out, one at a time, and none unless they are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.domain.routing.roads import TIMEOUT, UNAVAILABLE, Roads, failure

from tokendance_server.domain.catalogue.models import Route
from tokendance_server.domain.routing.circuit import CircuitState
from tokendance_server.domain.routing.probes import Probes


class Lists:
    """Lists models, or fails to."""

    def __init__(self, roads: Roads) -> None:
        self.asked = 0
        self.fails = False
        roads.up["a"].discover = self.discover  # type: ignore[attr-defined]

    async def discover(self, call: Any) -> Sequence[str]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise failure(UNAVAILABLE)
        return ["up"]


async def broken() -> tuple[Roads, Lists]:
    """Two routes, of which the first is out."""
    roads = Roads({"m": [Route("a", "up"), Route("b", "up", priority=1)]})
    roads.up["a"].fail(TIMEOUT, 0)
    for _ in range(5):
        await roads.said()
    return roads, Lists(roads)


def state(roads: Roads) -> CircuitState:
    """The circuit of the first route."""
    return roads.router.route_health()[0].state


async def test_a_route_that_is_out_comes_back_without_a_call() -> None:
    """After its rest, and two probes; one that is used is not probed."""
    roads, lists = await broken()
    probes = Probes(roads.router, 1.0)
    assert await probes.probe() == 0
    roads.clock.advance(1)
    assert await probes.probe() == 1
    assert state(roads) is CircuitState.HALF_OPEN
    assert await probes.probe() == 1
    assert state(roads) is CircuitState.CLOSED
    assert await probes.probe() == 0
    assert (lists.asked, roads.up["a"].calls) == (2, 5)


async def test_a_probe_that_fails_lets_it_rest_for_longer() -> None:
    """No caller met that."""
    roads, lists = await broken()
    lists.fails = True
    probes = Probes(roads.router, 1.0)
    roads.clock.advance(1)
    assert await probes.probe() == 1
    assert state(roads) is CircuitState.OPEN
    roads.clock.advance(1)
    assert await probes.probe() == 0


async def test_callers_go_elsewhere_while_a_probe_runs() -> None:
    """It is the one that a half-open route has."""
    roads, _ = await broken()
    probes = Probes(roads.router, 1.0)
    roads.clock.advance(1)
    running = asyncio.create_task(probes.probe())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await roads.said() == "b"
    await running


@pytest.mark.parametrize(("every_s", "asked"), [(0.0, False), (0.001, True)])
async def test_it_probes_only_where_it_is_wanted(every_s: float, asked: bool) -> None:
    """Off unless the operator says how often."""
    roads, lists = await broken()
    roads.clock.advance(1)
    probes = Probes(roads.router, every_s)
    probes.start()
    await asyncio.sleep(0.05)
    await probes.close()
    assert (lists.asked > 0) is asked
