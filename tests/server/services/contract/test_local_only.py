"""What only the channel in process has: its checking mode, and calls that end with the object that stands for them."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest
from tests.server.services.edge import AUTHORIZATION, Edge, open_edge, stream, text_of, unary, until

METADATA = (AUTHORIZATION,)


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    """An edge in process; over a socket each side has its own copy."""
    async with open_edge("local") as opened:
        yield opened


async def test_a_caller_that_changes_its_request_is_found_out(edge: Edge) -> None:
    """While the call runs, the request is the servicer's."""
    request = unary("sleep:0.05")
    call = edge.stub.CreateCompletion(request, metadata=METADATA)
    await until(lambda: edge.servicer.held == 1)
    request.completion.user = "somebody else"
    with pytest.raises(AssertionError, match="CreateCompletionRequest was changed"):
        await call


async def test_a_servicer_that_changes_the_request_is_found_out(edge: Edge) -> None:
    """The caller may send it again."""
    request = stream("count:2")
    call = edge.stub.StreamCompletion(request, metadata=METADATA)
    await call.read()
    edge.servicer.requests[0].Clear()
    with pytest.raises(AssertionError, match="StreamCompletionRequest was changed"):
        [message async for message in call]


async def test_a_servicer_that_changes_a_message_of_its_stream_is_found_out(edge: Edge) -> None:
    """A message built anew for each yield is the only safe habit."""
    call = edge.stub.StreamCompletion(stream("count:2,change"), metadata=METADATA)
    assert text_of(await call.read()) == "0"
    with pytest.raises(AssertionError, match="StreamCompletionResponse was changed"):
        await call.read()


async def test_an_answer_that_is_changed_later_is_found_out_at_the_close(edge: Edge) -> None:
    """A servicer that keeps its answer, in a cache for example, must not change it, nor may the caller."""
    answer = await edge.stub.CreateCompletion(unary("keep"), metadata=METADATA)
    assert answer is edge.servicer.kept[0]
    edge.servicer.kept[0].completion.model = "changed"
    with pytest.raises(AssertionError, match="CreateCompletionResponse was changed"):
        await edge.channel.close()


async def test_messages_left_alone_pass() -> None:
    """The checks themselves change nothing."""
    async with open_edge("local") as edge:
        await edge.stub.CreateCompletion(unary("keep"), metadata=METADATA)
        call = edge.stub.StreamCompletion(stream("count:3"), metadata=METADATA)
        assert len([message async for message in call]) == 3


async def test_a_stream_that_is_dropped_is_cancelled(edge: Edge) -> None:
    """A caller that forgets a call half read holds nothing up."""
    call = edge.stub.StreamCompletion(stream("hang:2"), metadata=METADATA)
    await call.read()
    assert edge.servicer.held == 1
    del call
    gc.collect()
    await edge.at_rest()
