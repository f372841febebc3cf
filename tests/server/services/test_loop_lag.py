"""The lag of the event loop, sampled in a real one that is blocked on purpose."""

from __future__ import annotations

import asyncio
import time

import pytest

from tokendance_server.services.loop_lag import LoopLag


async def test_a_loop_that_keeps_up_is_not_late() -> None:
    """Nor does one late moment count as too much."""
    lag = LoopLag(0.2)
    lag.start()
    await asyncio.sleep(0.2)
    assert lag.seconds < 0.1
    time.sleep(0.3)  # noqa: ASYNC251 - nothing else runs meanwhile
    await asyncio.sleep(0.01)
    assert not lag.high
    lag.stop()


@pytest.mark.parametrize("blocks", [(1.0,), (0.35,) * 4])
async def test_a_blocked_loop_is_late_and_recovers(blocks: tuple[float, ...]) -> None:
    """One long block or many short ones; it is over within a second or two afterwards."""
    lag = LoopLag(0.2)
    lag.start()
    await asyncio.sleep(0.06)
    for block_s in blocks:
        time.sleep(block_s)  # noqa: ASYNC251 - nothing else runs meanwhile
        await asyncio.sleep(0.06)
    assert lag.high
    assert 0.2 < lag.seconds <= 2.1
    async with asyncio.timeout(5):
        while lag.seconds > 0.2:
            await asyncio.sleep(0.05)
    lag.stop()
    assert (lag.seconds, lag.high) == (0, False)
