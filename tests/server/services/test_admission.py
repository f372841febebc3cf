"""Admission: a bound on the calls that run at once, shed by what they are worth."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tokendance.errors import GatewayError
from tokendance_server.services.admission import Admission, Gate, Priority


@dataclass
class Lag:
    seconds: float = 0.0
    high: bool = False


def refused(gate: Gate) -> GatewayError:
    """Return with what a gate refuses."""
    with pytest.raises(GatewayError) as raised:
        gate.enter(soon())
    return raised.value


def soon() -> float:
    """Return a deadline that no test reaches."""
    return asyncio.get_running_loop().time() + 60


async def test_as_many_calls_run_as_the_limit_says() -> None:
    """One more is refused at once, with a time to come back; one that ends makes room."""
    admission = Admission(2)
    gate = admission.gate(Priority.MODEL_CALL)
    first, second = gate.enter(soon()), gate.enter(soon())
    error = refused(gate)
    assert (error.code, error.retry_after_s, error.retryable) == ("gateway_overloaded", 1, True)
    gate.leave(first)
    third = gate.enter(soon())
    gate.leave(second)
    assert not await admission.emptied(0)
    gate.leave(third)
    assert await admission.emptied(0)


async def test_what_is_worth_more_is_refused_later() -> None:
    """When model calls have taken all there is, reads still come in, and administration after those."""
    admission = Admission(20)
    gates = {priority: admission.gate(priority) for priority in Priority}
    scopes = [gates[Priority.MODEL_CALL].enter(soon()) for _ in range(20)]
    assert refused(gates[Priority.MODEL_CALL]).code == "gateway_overloaded"
    scopes.append(gates[Priority.READ].enter(soon()))
    assert refused(gates[Priority.READ]).code == "gateway_overloaded"
    scopes.append(gates[Priority.CONTROL].enter(soon()))
    assert refused(gates[Priority.CONTROL]).code == "gateway_overloaded"
    for scope in scopes:
        gates[Priority.CONTROL].leave(scope)
    assert await admission.emptied(0)


@pytest.mark.parametrize(("lag_s", "retry_after_s"), [(0.3, 1), (2.5, 3), (600.0, 60)])
async def test_model_calls_are_refused_while_the_loop_is_late(lag_s: float, retry_after_s: int) -> None:
    """Only they, and only then; they are told to wait for longer the later it is."""
    lag = Lag()
    admission = Admission(20, lag)
    gates = {priority: admission.gate(priority) for priority in Priority}
    running = gates[Priority.MODEL_CALL].enter(soon())
    lag.seconds, lag.high = lag_s, True
    error = refused(gates[Priority.MODEL_CALL])
    assert (error.code, error.retry_after_s) == ("gateway_overloaded", retry_after_s)
    for priority in (Priority.READ, Priority.CONTROL):
        gates[priority].leave(gates[priority].enter(soon()))
    lag.high = False
    gates[Priority.MODEL_CALL].leave(gates[Priority.MODEL_CALL].enter(soon()))
    gates[Priority.MODEL_CALL].leave(running)


async def test_a_draining_node_takes_no_new_call() -> None:
    """Those that run go on; a new one is told to try another node, even where there would be room."""
    admission = Admission(10)
    gate = admission.gate(Priority.CONTROL)
    scope = gate.enter(soon())
    admission.drain()
    error = refused(gate)
    assert (error.code, error.retry_after_s) == ("service_stopping", 1)
    assert not await admission.emptied(0)
    assert not await admission.emptied(0.02)
    asyncio.get_running_loop().call_later(0.02, gate.leave, scope)
    assert await admission.emptied(5)


async def test_ending_all_tells_each_call_why() -> None:
    """Who works leaves with the error, and who waits for a reader finds it when that one comes back."""
    admission = Admission(10)
    gate = admission.gate(Priority.MODEL_CALL)

    async def work() -> str:
        scope = gate.enter(soon())
        try:
            with scope:
                await asyncio.sleep(60)
        except GatewayError as error:
            return error.code
        finally:
            gate.leave(scope)
        return ""

    task = asyncio.create_task(work())
    idle = gate.enter(soon())
    woken: list[bool] = []
    idle.when_idle = lambda: woken.append(True)
    await asyncio.sleep(0)
    admission.end_all()
    assert await task == "service_stopping"
    assert woken == [True]
    with pytest.raises(GatewayError, match="shutting down"), idle:
        pytest.fail("a step was begun")
    gate.leave(idle)
    assert await admission.emptied(1)
