"""A caller that leaves, over either channel: the servicer's generator is closed and its upstream released."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import AUTHORIZATION, Edge, stream, text_of, unary, until

METADATA = (AUTHORIZATION,)


async def test_a_unary_call_is_cancelled_before_it_starts(edge: Edge) -> None:
    """The call ends as cancelled, whether or not the servicer heard of it."""
    call = edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA)
    assert call.cancel()
    await _assert_cancelled(call)
    with pytest.raises(asyncio.CancelledError):
        await call
    await edge.at_rest()


@pytest.mark.parametrize("model", ["sleep:60", "stubborn"])
async def test_a_unary_call_is_cancelled_while_it_runs(edge: Edge, model: str) -> None:
    """The servicer is cancelled, and has no say in it: what it makes of it is not the caller's answer any more."""
    call = edge.stub.CreateCompletion(unary(model), metadata=METADATA)
    await until(lambda: edge.servicer.held == 1)
    assert call.cancel()
    await _assert_cancelled(call)
    assert not call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await edge.at_rest()


async def test_whoever_awaits_a_cancelled_unary_call_is_told(edge: Edge) -> None:
    """The waiting task gets CancelledError, and is not itself cancelled by it."""
    call = edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA)
    seen: list[str] = []

    async def wait() -> None:
        try:
            await call
        except asyncio.CancelledError:
            seen.append("cancelled")
        await asyncio.sleep(0.01)
        seen.append("went on")

    task = asyncio.create_task(wait())
    await until(lambda: edge.servicer.held == 1)
    call.cancel()
    await task
    assert seen == ["cancelled", "went on"]
    await edge.at_rest()


async def test_cancelling_the_task_that_awaits_a_unary_call_cancels_the_call(edge: Edge) -> None:
    """So that a handler whose client has gone stops the work."""
    call = edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA)

    async def wait() -> None:
        await call

    task = asyncio.create_task(wait())
    await until(lambda: edge.servicer.held == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _assert_cancelled(call)
    await edge.at_rest()


async def test_a_unary_call_that_has_ended_cannot_be_cancelled(edge: Edge) -> None:
    """Its answer stays."""
    call = edge.stub.CreateCompletion(unary("echo"), metadata=METADATA)
    answer = await call
    assert not call.cancel()
    assert not call.cancelled()
    assert await call is answer
    assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_is_cancelled_before_it_is_read(edge: Edge) -> None:
    """The call ends as cancelled, whether or not the servicer heard of it."""
    call = edge.stub.StreamCompletion(stream("hang"), metadata=METADATA)
    assert call.cancel()
    await _assert_cancelled(call)
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    await edge.at_rest()


@pytest.mark.parametrize("model", ["hang:1", "stubborn:1"])
async def test_a_stream_is_cancelled_while_somebody_reads(edge: Edge, model: str) -> None:
    """The reader gets CancelledError and goes on; the servicer's generator is closed, whatever it does with it."""
    call = edge.stub.StreamCompletion(stream(model), metadata=METADATA)
    seen: list[str] = []

    async def read_all() -> None:
        try:
            while True:
                seen.append(text_of(await call.read()))
        except asyncio.CancelledError:
            seen.append("cancelled")
        await asyncio.sleep(0.01)
        task = asyncio.current_task()
        assert task is not None
        seen.append(f"{task.cancelling()} pending")

    task = asyncio.create_task(read_all())
    await until(lambda: seen == ["0"])
    await asyncio.sleep(0.02)
    assert call.cancel()
    await task
    assert seen == ["0", "cancelled", "0 pending"]
    await _assert_cancelled(call)
    assert not call.cancel()
    await edge.at_rest()


@pytest.mark.parametrize("model", ["hang:3", "endless"])
async def test_a_stream_is_cancelled_while_nobody_reads(edge: Edge, model: str) -> None:
    """A servicer that waits for its reader is closed too, be it between two messages or held up by flow control."""
    call = edge.stub.StreamCompletion(stream(model), metadata=METADATA)
    await call.read()
    await asyncio.sleep(0.1)
    assert edge.servicer.held == 1
    assert call.cancel()
    await _assert_cancelled(call)
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    await edge.at_rest()


async def test_cancelling_the_task_that_reads_cancels_the_stream(edge: Edge) -> None:
    """So that a handler whose client has gone stops the work."""
    call = edge.stub.StreamCompletion(stream("hang:1"), metadata=METADATA)
    assert text_of(await call.read()) == "0"

    async def read() -> None:
        await call.read()

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _assert_cancelled(call)
    await edge.at_rest()


async def test_a_stream_that_has_ended_cannot_be_cancelled(edge: Edge) -> None:
    """It ended well, and stays so."""
    call = edge.stub.StreamCompletion(stream("count:1"), metadata=METADATA)
    assert len([message async for message in call]) == 1
    assert await call.code() is grpc.StatusCode.OK
    assert not call.cancel()
    assert not call.cancelled()


async def test_reading_with_a_time_limit_of_ones_own_cancels_the_stream(edge: Edge) -> None:
    """`wait_for` around a read is a cancellation as any other."""
    call = edge.stub.StreamCompletion(stream("hang"), metadata=METADATA)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call.read(), 0.1)
    await _assert_cancelled(call)
    await edge.at_rest()


async def _assert_cancelled(call: Any) -> None:
    async with asyncio.timeout(2):
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert await call.details() == "Locally cancelled by application!"
    assert call.done()
    assert call.cancelled()
