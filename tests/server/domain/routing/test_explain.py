"""What a caller is told beforehand: which route its call would take, and why not the others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tests.server.domain.routing.roads import HOLDER, LIMITED, TIMEOUT, UNAVAILABLE, Roads, request

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.catalogue.models import Caps, Route
from tokendance_server.domain.principals import Principal

A, B = Route("a", "secret-name"), Route("b", "secret-name", priority=1)


async def explained(roads: Roads, who: Principal = HOLDER) -> list[tuple[str, bool, str]]:
    """The routes as told."""
    answer = await roads.completions.explain(request(), roads.caller(who))
    assert "secret-name" not in str(answer)
    return [(one.provider, one.chosen, one.skipped_because) for one in answer.routes]


async def test_the_first_route_is_chosen_and_the_others_come_later() -> None:
    """By their public labels; nobody is called, and nothing is taken."""
    roads = Roads({"m": [A, B]})
    for _ in range(3):
        first, second = await explained(roads)
        assert first == ("Label a", True, "")
        assert second == ("Label b", False, "Another route of the model comes first.")
    assert roads.calls == {"a": 0, "b": 0}


async def test_a_route_whose_circuit_is_open_says_until_when() -> None:
    """And looking takes no probe from those who call."""
    roads = Roads({"m": [A, B]})
    roads.up["a"].fail(TIMEOUT, 0)
    for _ in range(5):
        await roads.said()
    first, second = await explained(roads)
    assert first[2] == "Its circuit is open, because calls failed there; it is tried again in 1 s."
    assert second[1]
    roads.up["a"].work()
    roads.clock.advance(1)
    assert (await explained(roads))[0][1]
    assert await roads.said() == "a"


async def test_each_other_reason_is_told() -> None:
    """A tag, a cap, a limit, a refused credential, and what a route cannot carry."""
    careful = replace(HOLDER, excluded_route_tags=frozenset({"region:us"}))
    tagged = Roads({"m": [replace(A, tags=("region:us",)), B]})
    assert "'region:us'" in (await explained(tagged, careful))[0][2]
    capped = Roads({"m": [replace(A, caps=Caps(max_concurrent_requests=1)), B]})
    capped.up["a"].gate.clear()
    running = asyncio.create_task(capped.said())
    await asyncio.sleep(0.01)
    first, second = await explained(capped)
    assert first[2].startswith("It is at its cap")
    assert second[1]
    capped.up["a"].gate.set()
    await running
    for reason, status, said in ((LIMITED, 429, "limits the gateway's calls"), (UNAVAILABLE, 401, "credential")):
        roads = Roads({"m": [A, B]})
        roads.up["a"].fail(reason, status)
        await roads.said()
        first, second = await explained(roads)
        assert said in first[2]
        assert second[1]
    narrow = Roads({"m": [A, B]})
    narrow.up["a"].refuses = GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, "It has no such thing.", origin="caller"
    )
    first, second = await explained(narrow)
    assert first == ("Label a", False, "It has no such thing.")
    assert second[1]


async def test_where_no_route_can_be_taken_the_refusal_is_told() -> None:
    """The answer says what the call would get."""
    roads = Roads({"m": [A]})
    roads.up["a"].fail(UNAVAILABLE, 401)
    await roads.code()
    answer: Any = await roads.completions.explain(request(), roads.caller())
    assert (answer.admitted, answer.reason) == (False, errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE)
    assert not answer.routes[0].chosen
