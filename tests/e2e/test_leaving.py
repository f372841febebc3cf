"""Callers that leave, run out of time or wait in silence: what the upstream and the caller notice of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc.aio
import pytest
from tests.e2e.calls import chat_body, completion_request, rpc
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import HEADERS_AFTER_S, KEEPALIVE_S, Node
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub

LONG = "patient/sim:tokens=400:rate=20"
SILENT = "patient/sim:first=3"
HALTING = "patient/sim:tokens=3:rate=2"
KEEP_ALIVE = ": keep-alive"
NOTICED_S = 1.0


@asynccontextmanager
async def asked(node: Node, model: str, *, stream: bool, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """A chat request on a connection of its own, which closes at the end."""
    headers |= {"authorization": f"Bearer {node.api_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{node.base_url}/chat/completions", json=chat_body(model, stream=stream), headers=headers
        ) as answer,
    ):
        yield answer


def left(upstream: Upstream, model: str) -> bool:
    """Whether the upstream's only request for a model has lost its client."""
    (record,) = upstream.log(model.removeprefix("patient/"))
    return bool(record["peer_left"])


async def test_leaving_a_stream_over_rest(node: Node, upstream: Upstream) -> None:
    """The upstream's connection is closed within a second, and its model stops."""
    upstream.forget()
    async with asked(node, LONG, stream=True) as answer:
        assert b"data: " in await answer.content.readuntil(b"\n\n")
        assert not left(upstream, LONG)
    until(lambda: left(upstream, LONG), NOTICED_S)


async def test_leaving_a_stream_over_grpc(node: Node, upstream: Upstream) -> None:
    """Cancelling the RPC does the same."""
    upstream.forget()
    request = completions.StreamCompletionRequest(completion=completion_request(LONG))
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        metadata = (("authorization", f"Bearer {node.api_key}"),)
        call: Any = CompletionsServiceStub(channel).StreamCompletion(request, metadata=metadata)
        assert (await call.read()).events
        assert not left(upstream, LONG)
        call.cancel()
        await asyncio.to_thread(until, lambda: left(upstream, LONG), NOTICED_S)


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_before_the_answer(node: Node, upstream: Upstream, stream: bool) -> None:
    """Nobody waits for an answer that nobody will read."""
    upstream.forget()

    async def ask() -> None:
        async with asked(node, SILENT, stream=stream):
            pass

    task = asyncio.create_task(ask())
    await asyncio.to_thread(until, lambda: len(upstream.log()) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(until, lambda: left(upstream, SILENT), NOTICED_S)


async def test_deadlines_of_callers(node: Node, upstream: Upstream) -> None:
    """A caller's own deadline ends the call with its own error on both surfaces, and frees the upstream."""
    upstream.forget()
    began = time.monotonic()

    async def over_rest() -> None:
        async with asked(node, SILENT, stream=False, **{"x-stainless-timeout": "1"}) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (504, "deadline_exceeded")
        assert answer.headers["x-should-retry"] == "false"

    async def over_grpc() -> None:
        seen = await rpc(node, SILENT, stream=False, timeout_s=1)
        assert (seen.status, seen.code) == ("DEADLINE_EXCEEDED", "deadline_exceeded")

    await asyncio.gather(over_rest(), over_grpc())
    assert time.monotonic() - began < 2.5
    until(lambda: upstream.busy() == 0, NOTICED_S)


async def test_silence_is_filled(node: Node) -> None:
    """Before the first token and between tokens a caller hears comments, and then gets the whole answer."""

    async def listen(model: str) -> tuple[float, list[str]]:
        began = time.monotonic()
        async with asked(node, model, stream=True) as answer:
            head_s = time.monotonic() - began
            assert answer.status == 200
            assert answer.headers["cache-control"] == "no-cache"
            assert answer.headers["x-accel-buffering"] == "no"
            blocks = (await answer.text()).split("\n\n")
        return head_s, blocks

    (head_s, silent), (_, halting) = await asyncio.gather(listen(SILENT), listen(HALTING))
    assert HEADERS_AFTER_S - 0.1 < head_s < 3
    expected = (3 - HEADERS_AFTER_S) / KEEPALIVE_S
    at = next(number for number, block in enumerate(silent) if block.startswith("data: "))
    assert set(silent[:at]) == {KEEP_ALIVE}
    assert expected / 2 < at <= expected + 1
    assert "".join(text_of(block) for block in silent) == SENTENCE
    assert halting.count(KEEP_ALIVE) >= 3
    assert "".join(text_of(block) for block in halting) == "The quick brown"
    assert silent[-2:] == halting[-2:] == ["data: [DONE]", ""]


def text_of(block: str) -> str:
    """The text of one event; none for comments and the end."""
    _, _, rest = block.partition('"content":"')
    return rest.partition('"')[0]
