"""Closing a channel with calls that run, over either channel."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import AUTHORIZATION, Edge, stream, unary, until

METADATA = (AUTHORIZATION,)


async def test_closing_cancels_what_runs(edge: Edge) -> None:
    """Both kinds of call end as cancelled, and nothing is held any more."""
    one = edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA)
    many = edge.stub.StreamCompletion(stream("hang:1"), metadata=METADATA)
    await many.read()
    await until(lambda: edge.servicer.held == 2)
    await edge.channel.close()
    assert await one.code() is grpc.StatusCode.CANCELLED
    assert await many.code() is grpc.StatusCode.CANCELLED
    await edge.at_rest()


async def test_closing_with_grace_lets_calls_end(edge: Edge) -> None:
    """What ends in time ends well; what does not is cancelled then."""
    quick = edge.stub.CreateCompletion(unary("sleep:0.05"), metadata=METADATA)
    slow = edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA)
    await until(lambda: edge.servicer.held == 2)
    await edge.channel.close(grace=0.5)
    assert await quick.code() is grpc.StatusCode.OK
    assert await slow.code() is grpc.StatusCode.CANCELLED
    await edge.at_rest()


async def test_a_closed_channel_takes_no_call(edge: Edge) -> None:
    """Using it is an error at once, and closing it again is none."""
    stub = edge.stub
    await edge.channel.close()
    await edge.channel.close()
    with pytest.raises(grpc.aio.UsageError):
        await stub.CreateCompletion(unary("echo"), metadata=METADATA)
    with pytest.raises(grpc.aio.UsageError):
        await stub.StreamCompletion(stream("count:1"), metadata=METADATA).read()
    assert edge.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_a_call_made_and_closed_at_once_ends(edge: Edge) -> None:
    """A call that had no time to start is not forgotten."""
    call = edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA)
    await edge.channel.close()
    async with asyncio.timeout(2):
        assert await call.code() is grpc.StatusCode.CANCELLED
    await edge.at_rest()
