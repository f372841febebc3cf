"""Sizes and flow over either channel: what is too large, and how far a servicer runs ahead of its reader."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import AUTHORIZATION, MESSAGE_LIMIT, Edge, ask, stream, unary

METADATA = (AUTHORIZATION,)


@pytest.mark.parametrize("rpc", ["unary", "stream"])
async def test_a_request_over_the_limit_is_refused(edge: Edge, rpc: str) -> None:
    """The servicer never sees it."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(edge, rpc, "echo", prompt="x" * MESSAGE_LIMIT)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert edge.servicer.started == 0
    await edge.at_rest()


async def test_a_request_below_the_limit_is_taken(edge: Edge) -> None:
    """The limit is of the message, not of less."""
    await edge.stub.CreateCompletion(unary("echo", "x" * (MESSAGE_LIMIT - 200)), metadata=METADATA)
    assert edge.servicer.started == 1


async def test_an_answer_over_the_limit_is_an_error(edge: Edge) -> None:
    """The caller learns that it was too large."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await edge.stub.CreateCompletion(unary(f"big:{MESSAGE_LIMIT}"), metadata=METADATA)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await edge.at_rest()


async def test_a_message_of_a_stream_over_the_limit_is_an_error(edge: Edge) -> None:
    """What came before it has arrived; the stream does not end well."""
    call = edge.stub.StreamCompletion(stream("big:2"), metadata=METADATA)
    await call.read()
    await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await edge.at_rest()


async def test_a_servicer_does_not_run_far_ahead_of_a_slow_reader(edge: Edge) -> None:
    """In process not at all; over a socket as far as its windows and buffers reach, which is bounded in bytes."""
    call = edge.stub.StreamCompletion(stream("endless"), metadata=METADATA)
    for read in range(1, 4):
        await call.read()
        await asyncio.sleep(0.1)
        if edge.kind == "local":
            assert edge.servicer.made == read
    assert edge.servicer.made * 50_000 < 20_000_000
    stalled_at = edge.servicer.made
    await asyncio.sleep(0.1)
    assert edge.servicer.made == stalled_at
    call.cancel()
    await edge.at_rest()


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"], ids=ascii)
async def test_text_that_is_no_utf8_cannot_get_in(edge: Edge, text: str) -> None:
    """A lone surrogate is refused where a message is made, so no channel ever meets one."""
    with pytest.raises((ValueError, TypeError)):
        await edge.stub.CreateCompletion(unary("echo", text), metadata=METADATA)
    assert edge.servicer.started == 0
