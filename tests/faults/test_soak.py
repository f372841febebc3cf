"""A5: callers that leave streams at random points, thousands of times: nothing grows, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from tests.e2e.calls import completion_request
from tests.e2e.nodes import Node, running
from tests.e2e.upstream import Upstream, until
from tests.faults.probes import MiB, Probe
from tests.faults.test_http2 import in_flight
from tests.faults.wire import STREAMED, head

from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub

MODEL = "sim:tokens=60:rate=2000"
AT_ONCE = 20
# gRPC itself loses some for each call that is cancelled (grpc#43360); a call that we forgot would be many times that.
BYTES_A_STREAM = 400
# Below this, a rise says nothing yet.
NOISE_BYTES = 1 * MiB


async def leave_rest(node: Node, dice: random.Random) -> None:
    """Begin a stream over REST, read some of it or nothing, and close the connection, politely or not."""
    host, _, port = node.origin.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = STREAMED % MODEL.encode()
    writer.write(head(node, f"Content-Length: {len(body)}") + body)
    wanted = dice.choice((0, 1, 200, 2_000, 10_000))
    while wanted > 0 and (data := await reader.read(min(wanted, 4096))):
        wanted -= len(data)
    if dice.random() < 0.5:
        writer.transport.abort()
    else:
        writer.close()


async def leave_grpc(node: Node, stub: Any, dice: random.Random) -> None:
    """The same over gRPC, on a connection that stays."""
    request = completions.StreamCompletionRequest(completion=completion_request(MODEL))
    call = stub.StreamCompletion(request, metadata=(("authorization", f"Bearer {node.api_key}"),))
    for _ in range(dice.choice((0, 0, 1, 3, 20))):
        if await call.read() is grpc.aio.EOF:
            break
    call.cancel()


async def leave(node: Node, count: int, dice: random.Random) -> None:
    """So many streams, some at once, half of them over each surface."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        stub: Any = CompletionsServiceStub(channel)

        async def one(number: int) -> None:
            async with gate:
                await (leave_rest(node, dice) if number % 2 else leave_grpc(node, stub, dice))

        await asyncio.gather(*(one(number) for number in range(count)))


async def soak(node: Node, upstream: Upstream, count: int) -> None:
    """Leave in three windows after a first one, and compare what the node holds between them."""
    probe, dice = Probe(node), random.Random(7)
    probe.warm_up()
    window = count // 4
    memories: list[list[int]] = []
    files: list[int] = []
    for _ in range(4):
        await leave(node, window, dice)
        await asyncio.to_thread(until, lambda: in_flight(node) == 0 and upstream.busy() == 0, 15)
        await asyncio.sleep(0.2)
        memories.append(probe.memories())
        files.append(probe.files())
    for process, before, after in zip(node.processes, memories[1], memories[3], strict=True):
        slope = (after - before) / (2 * window)
        print(f"{count} streams: {process.name} grows from {before / MiB:.0f} MiB by {slope:.0f} bytes a stream")
        assert after - before < max(NOISE_BYTES, BYTES_A_STREAM * 2 * window), process.name
    assert files[3] <= files[1] + 4, files
    assert '"level":"error"' not in node.text
    assert "Traceback" not in node.text


async def test_cancelled_streams_leave_nothing(upstream: Upstream, tidy: None, tmp_path: Path) -> None:
    """Two thousand, as a first look."""
    with running("one", tmp_path, upstream.base_url, [MODEL, "sim-echo"]) as node:
        await soak(node, upstream, 2_000)


@pytest.mark.long
@pytest.mark.parametrize("topology", ["one", "split"])
async def test_fifty_thousand_cancelled_streams_leave_nothing(
    topology: str, upstream: Upstream, tidy: None, tmp_path: Path
) -> None:
    """Enough for a few hundred bytes each to be seen."""
    with running(topology, tmp_path, upstream.base_url, [MODEL, "sim-echo"]) as node:
        await soak(node, upstream, 50_000)
