"""Messages that are slow to come over gRPC: waited for in time, and only from who is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import AUTHORIZATION, PROMPT, Edge, ask, open_edge, unary

from tokendance.gateway.v1 import completions_service_pb2 as pb
from tokendance.rpc import from_rpc

METHODS = {
    "unary": "/tokendance.gateway.v1.CompletionsService/CreateCompletion",
    "stream": "/tokendance.gateway.v1.CompletionsService/StreamCompletion",
}
# Far above what a refusal takes on a busy machine, and far below what the test would wait without one.
SOON_S = 10.0


async def _never() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield unary("echo", PROMPT)


async def _code_of_silence(edge: Edge, method: str, metadata: Any) -> str:
    """Begin a call whose message never comes; return the code of the error that ends it."""
    call = edge.channel.stream_stream(
        METHODS[method],
        request_serializer=pb.CreateCompletionRequest.SerializeToString,
        response_deserializer=pb.CreateCompletionResponse.FromString,
    )(_never(), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async with asyncio.timeout(SOON_S):
            await call.read()
    return from_rpc(refused.value).code


@pytest.mark.parametrize("method", METHODS)
async def test_message_that_never_comes_is_given_up(method: str) -> None:
    """With a typed error, after its time; others are served all the while and afterwards."""
    async with open_edge("grpc", receive_s=0.2) as edge:
        assert await _code_of_silence(edge, method, (AUTHORIZATION,)) == "invalid_request"
        await ask(edge, "unary", "echo")
        assert await edge.admission.emptied(5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer tdk_wrong"),)], ids=["none", "wrong"])
async def test_nobody_s_message_is_not_waited_for(method: str, metadata: Any) -> None:
    """Who is not known is refused before a byte of the message is taken in."""
    async with open_edge("grpc", receive_s=3600) as edge:
        assert await _code_of_silence(edge, method, metadata) in ("missing_api_key", "invalid_api_key")


async def test_call_without_a_message_is_refused() -> None:
    """One that says at once that it will send none."""

    async def nothing() -> AsyncIterator[Any]:
        return
        yield

    async with open_edge("grpc") as edge:
        call = edge.channel.stream_unary(
            METHODS["unary"],
            request_serializer=pb.CreateCompletionRequest.SerializeToString,
            response_deserializer=pb.CreateCompletionResponse.FromString,
        )(nothing(), metadata=(AUTHORIZATION,))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert from_rpc(refused.value).code == "invalid_request"
