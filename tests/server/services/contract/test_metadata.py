"""Metadata both ways, over either channel: what arrives, and what is refused."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import AUTHORIZATION, METADATA_LIMIT, Edge, Pairs, ask, stream, unary

REFUSALS = (ValueError, TypeError, grpc.aio.BaseError, grpc.RpcError)


async def test_what_the_caller_sends_arrives(edge: Edge) -> None:
    """Text and bytes arrive as sent, repeated keys included."""
    sent: Pairs = (("x-text", "a b~"), ("x-empty", ""), ("x-bytes-bin", bytes(range(256))), ("x-text", "second"))
    await edge.stub.CreateCompletion(unary("echo"), metadata=(AUTHORIZATION, *sent))
    arrived: Any = tuple(edge.servicer.calls[0].invocation_metadata())
    seen = [tuple(pair) for pair in arrived if str(pair[0]).startswith("x-")]
    assert sorted(map(repr, seen)) == sorted(map(repr, sent))
    assert [pair[1] for pair in seen if pair[0] == "x-text"] == ["a b~", "second"]


async def test_what_the_servicer_sends_arrives(edge: Edge) -> None:
    """Before and behind the answer, text and bytes."""
    call = edge.stub.CreateCompletion(unary("metadata"), metadata=(AUTHORIZATION,))
    initial = dict(await call.initial_metadata())
    await call
    trailing = dict(await call.trailing_metadata())
    assert (initial["x-first"], initial["x-first-bin"]) == ("1", b"\x00\xff")
    assert (trailing["x-last"], trailing["x-last-bin"]) == ("2", b"\xfe\x00")
    assert str(trailing["x-request-id"]).startswith("req_")


async def test_a_stream_tells_its_request_id_before_its_first_message(edge: Edge) -> None:
    """The id comes at once, and again behind the last message; asking for it loses no message."""
    call = edge.stub.StreamCompletion(stream("count:2"), metadata=(AUTHORIZATION,))
    initial = dict(await call.initial_metadata())
    messages = [message async for message in call]
    trailing = dict(await call.trailing_metadata())
    assert initial["x-request-id"] == trailing["x-request-id"] == edge.servicer.calls[0].request_id
    assert len(messages) == 2


@pytest.mark.parametrize(
    "pair",
    [
        ("X-Upper", "value"),
        ("with space", "value"),
        ("", "value"),
        ("ключ", "value"),
        (":path", "value"),
        ("x-text", "größe"),
        ("x-text", "line\nbreak"),
        ("x-text", "\x7f"),
        ("x-text-bin", "text"),
    ],
    ids=repr,
)
async def test_illegal_metadata_is_refused_to_the_caller(edge: Edge, pair: tuple[str, str | bytes]) -> None:
    """The servicer never sees it, and the connection goes on serving."""
    with pytest.raises(REFUSALS):
        await edge.stub.CreateCompletion(unary("echo"), metadata=(AUTHORIZATION, pair))
    assert edge.servicer.started == 0
    await edge.stub.CreateCompletion(unary("echo"), metadata=(AUTHORIZATION,))


@pytest.mark.parametrize("rpc", ["unary", "stream"])
async def test_metadata_over_the_limit_is_refused(edge: Edge, rpc: str) -> None:
    """The total counts, whatever the number of pairs."""
    metadata = (AUTHORIZATION, *((f"x-{number}", "v" * 1000) for number in range(METADATA_LIMIT // 1000 + 1)))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(edge, rpc, "echo", metadata=metadata)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert edge.servicer.started == 0


async def test_metadata_below_the_limit_is_taken(edge: Edge) -> None:
    """Most of the limit may be used."""
    metadata = (AUTHORIZATION, *((f"x-{number}", "v" * 1000) for number in range(METADATA_LIMIT // 1000 - 2)))
    await edge.stub.CreateCompletion(unary("echo"), metadata=metadata)
