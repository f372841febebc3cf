"""Deadlines over either channel: the caller's own and the gateway's, each a typed error, and in time."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import AUTHORIZATION, MARGIN_S, Edge, ask, open_edge, stream, unary

from tokendance.rpc import from_rpc

METADATA = (AUTHORIZATION,)


@pytest.fixture(params=["unary", "stream", "stream after 2"])
def rpc(request: pytest.FixtureRequest) -> str:
    """Which call, and after how many messages its time is up."""
    return str(request.param)


async def test_the_callers_deadline_is_a_typed_error(edge: Edge, rpc: str) -> None:
    """It comes before the caller's own time is up, so that the caller learns more than that."""
    started = asyncio.get_running_loop().time()
    raised = await _timed_out(edge, rpc, timeout=0.4)
    took = asyncio.get_running_loop().time() - started
    assert raised.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    error = from_rpc(raised)
    assert error.code == "deadline_exceeded"
    assert error.request_id == edge.servicer.calls[0].request_id
    assert 0.4 - 2 * MARGIN_S < took < 0.4 + MARGIN_S
    await edge.at_rest()


async def test_the_gateways_own_deadline_counts_without_the_callers(kind: str, rpc: str) -> None:
    """A call without a deadline does not run for ever, nor one with a longer one."""
    async with open_edge(kind, unary_s=0.2, stream_s=0.2) as edge:
        for timeout in (None, 30.0):
            raised = await _timed_out(edge, rpc, timeout)
            assert raised.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert from_rpc(raised).code == "deadline_exceeded"
        await edge.at_rest()


async def test_a_timeout_smaller_than_the_margin_still_allows_a_quick_answer(edge: Edge) -> None:
    """The margin never takes all of a short time."""
    await edge.stub.CreateCompletion(unary("echo"), metadata=METADATA)  # so that the connection is there
    answer = await edge.stub.CreateCompletion(unary("echo"), metadata=METADATA, timeout=MARGIN_S * 0.9)
    assert answer.completion.model == "echo"


async def test_a_timeout_smaller_than_the_margin_ends_a_slow_call(edge: Edge, rpc: str) -> None:
    """In time, and as what it is."""
    raised = await _timed_out(edge, rpc, timeout=MARGIN_S * 0.9)
    assert raised.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert from_rpc(raised).code == "deadline_exceeded"
    await edge.at_rest()


async def test_a_timeout_that_is_up_already_starts_nothing(edge: Edge) -> None:
    """What comes too late is not begun."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await edge.stub.CreateCompletion(unary("echo"), metadata=METADATA, timeout=-1)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert edge.servicer.started == 0


async def test_a_deadline_ends_a_stream_that_nobody_reads(kind: str) -> None:
    """A reader that stalls must not hold an upstream any longer than one that reads."""
    async with open_edge(kind, stream_s=0.3) as edge:
        call = edge.stub.StreamCompletion(stream("endless"), metadata=METADATA)
        await call.read()
        await asyncio.sleep(0.5)
        assert edge.servicer.held == 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await _read_all(call)
        assert from_rpc(raised.value).code == "deadline_exceeded"
        await edge.at_rest()


async def test_a_deadline_counts_while_the_credential_is_checked(edge: Edge) -> None:
    """A store that hangs is no reason to hang."""
    edge.keys.delay_s = 60
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await edge.stub.CreateCompletion(unary("echo"), metadata=METADATA, timeout=0.3)
    assert from_rpc(raised.value).code == "deadline_exceeded"
    assert edge.servicer.started == 0
    await edge.at_rest()


async def test_the_servicer_knows_how_much_time_is_left(edge: Edge) -> None:
    """Its deadline is the caller's less the margin, in the loop's time."""
    before = asyncio.get_running_loop().time()
    await edge.stub.CreateCompletion(unary("echo"), metadata=METADATA, timeout=5)
    after = asyncio.get_running_loop().time()
    assert before + 5 - MARGIN_S - 0.05 <= edge.servicer.calls[0].deadline <= after + 5 - MARGIN_S + 0.05


async def _read_all(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def _timed_out(edge: Edge, rpc: str, timeout: float | None) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(edge, rpc, "hang", timeout=timeout)
    return raised.value
