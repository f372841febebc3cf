"""What comes back of a call that goes well, over either channel."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
from tests.server.services.edge import AUTHORIZATION, Edge, stream, text_of, unary

METADATA = (AUTHORIZATION,)


async def test_a_unary_call_is_answered(edge: Edge) -> None:
    """The answer is the servicer's, and the call has ended with OK."""
    call = edge.stub.CreateCompletion(unary("echo"), metadata=METADATA)
    answer = await call
    assert answer.completion.model == "echo"
    assert await call.code() is grpc.StatusCode.OK
    assert await call.details() == ""
    assert call.done()
    assert not call.cancelled()
    assert await call is answer


async def test_the_servicer_sees_the_request_as_it_was_sent(edge: Edge) -> None:
    """No field changes on the way."""
    request = unary("echo", "Grüße, 世界 \x00 \U0001f600")
    request.completion.sampling.temperature = 0.0
    await edge.stub.CreateCompletion(request, metadata=METADATA)
    assert edge.servicer.requests == [request]


async def test_a_stream_comes_whole_and_in_order(edge: Edge) -> None:
    """Iterating gives every message once, as the servicer made them."""
    call = edge.stub.StreamCompletion(stream("count:100"), metadata=METADATA)
    assert [text_of(message) async for message in call] == [str(number) for number in range(100)]
    assert await call.code() is grpc.StatusCode.OK
    assert call.done()
    await edge.at_rest()


async def test_a_stream_is_read_message_by_message(edge: Edge) -> None:
    """`read` gives the next message, and EOF behind the last, again and again."""
    call = edge.stub.StreamCompletion(stream("count:1"), metadata=METADATA)
    assert text_of(await call.read()) == "0"
    assert await call.read() is grpc.aio.EOF
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_an_empty_stream_ends_well(edge: Edge) -> None:
    """A stream without messages is EOF at once."""
    call = edge.stub.StreamCompletion(stream("count:0"), metadata=METADATA)
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_unary_call_that_nobody_awaits_is_carried_out(edge: Edge) -> None:
    """Making the call is what starts it."""
    call = edge.stub.CreateCompletion(unary("echo"), metadata=METADATA)
    assert await call.code() is grpc.StatusCode.OK
    assert edge.servicer.started == 1


async def test_a_failure_that_nobody_awaits_disturbs_nobody(edge: Edge) -> None:
    """The loop hears nothing of it; the code can be asked for."""
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    call = edge.stub.CreateCompletion(unary("fail"), metadata=METADATA)
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    del call
    await asyncio.sleep(0.01)
    assert heard == []


async def test_two_hundred_calls_run_at_once(edge: Edge) -> None:
    """Calls do not wait for each other, and each gets its own answer."""

    async def one(number: int) -> bool:
        if number % 2:
            answer = await edge.stub.CreateCompletion(unary(f"sleep:0.{number:03}"), metadata=METADATA)
            return answer.completion.model == f"sleep:0.{number:03}"
        call = edge.stub.StreamCompletion(stream(f"count:{number % 7}"), metadata=METADATA)
        return [text_of(message) async for message in call] == [str(made) for made in range(number % 7)]

    assert all(await asyncio.gather(*(one(number) for number in range(200))))
    assert edge.servicer.started == 200
    await edge.at_rest()


async def test_those_who_ask_are_told_of_the_end(edge: Edge) -> None:
    """Callbacks run with the call, on the caller's side and on the servicer's."""
    ends: list[object] = []
    call = edge.stub.CreateCompletion(unary("sleep:0.05"), metadata=METADATA)
    call.add_done_callback(ends.append)
    assert not call.done()
    await call
    await asyncio.sleep(0)
    assert ends == [call]
