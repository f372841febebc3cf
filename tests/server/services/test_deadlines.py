"""The scope of a deadline, by itself: who is interrupted, and as what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tokendance.errors import GatewayError
from tokendance_server.services.deadlines import ClosedOnce, DeadlineScope


def _scope(after_s: float) -> DeadlineScope:
    return DeadlineScope(asyncio.get_running_loop().time() + after_s)


async def test_a_step_in_time_is_left_alone() -> None:
    """Nothing happens afterwards either."""
    scope = _scope(0.05)
    with scope:
        await asyncio.sleep(0)
    scope.close()
    await asyncio.sleep(0.1)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_whoever_is_inside_leaves_with_the_typed_error() -> None:
    """And its task is not cancelled: it goes on."""
    scope = _scope(0.02)
    with pytest.raises(GatewayError) as raised, scope:
        await asyncio.sleep(5)
    assert raised.value.code == "deadline_exceeded"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0.01)


async def test_a_step_after_the_time_is_up_is_not_begun() -> None:
    """The next one leaves at once, in whichever task."""
    scope = _scope(0)
    await asyncio.sleep(0.01)
    with pytest.raises(GatewayError) as raised, scope:
        pytest.fail("the step was begun")
    assert raised.value.code == "deadline_exceeded"


async def test_steps_may_run_in_different_tasks() -> None:
    """It is the one inside that is interrupted."""
    scope = _scope(0.05)

    async def step(seconds: float) -> None:
        with scope:
            await asyncio.sleep(seconds)

    await asyncio.create_task(step(0))
    with pytest.raises(GatewayError):
        await asyncio.create_task(step(5))


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    """Also at the very moment at which the time is up."""
    scope = _scope(0.03)

    async def step() -> None:
        with scope:
            await asyncio.sleep(5)

    early = asyncio.create_task(step())
    await asyncio.sleep(0)
    early.cancel()
    with pytest.raises(asyncio.CancelledError):
        await early

    scope = _scope(5)
    both = asyncio.create_task(step())
    await asyncio.sleep(0)
    scope._expire()
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
    scope.close()


async def test_an_error_of_its_own_passes() -> None:
    """What a step raises while it is interrupted is what happened."""
    scope = _scope(0.02)

    async def step() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError), scope:
        await step()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_waits_outside_is_told() -> None:
    """Once, and only where nobody is inside."""
    told: list[int] = []
    scope = _scope(0.02)
    scope.when_idle = lambda: told.append(1)
    await asyncio.sleep(0.05)
    assert told == [1]
    scope = _scope(0.02)
    scope.when_idle = lambda: told.append(2)
    with pytest.raises(GatewayError), scope:
        await asyncio.sleep(5)
    assert told == [1]


async def test_a_generator_is_closed_once() -> None:
    """Whether closing was begun before or not, `finish` returns when the generator has ended."""
    for begin in (True, False):
        ended: list[str] = []

        async def numbers(ended: list[str] = ended) -> AsyncGenerator[int, None]:
            try:
                yield 1
            finally:
                await asyncio.sleep(0.01)
                ended.append("ended")

        generator = numbers()
        assert await anext(generator) == 1
        closing = ClosedOnce(generator)
        if begin:
            closing.begin()
        await closing.finish()
        assert ended == ["ended"]
