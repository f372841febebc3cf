"""C3: a node that is told to end with fifty streams running, over both ways in and in every topology."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.calls import Seen, rest, rpc
from tests.e2e.nodes import Node, running
from tests.e2e.upstream import Upstream, until

LONG = "sim:tokens=400:rate=20"
SHORT = "sim:tokens=20:rate=20"
STREAMS = 50
GRACE_S = 1.5


async def begin(node: Node, upstream: Upstream, models: list[str]) -> list[asyncio.Task[Seen]]:
    """Start streams, alternately over REST and gRPC, and wait until all have reached the upstream."""
    upstream.forget()
    tasks = [
        asyncio.create_task((rest if number % 2 else rpc)(node, models[number % len(models)], stream=True))
        for number in range(STREAMS)
    ]
    await asyncio.to_thread(until, lambda: len(upstream.log()) == STREAMS, 10)
    await asyncio.sleep(0.3)
    return tasks


async def health(node: Node) -> int:
    """What a health check over gRPC hears; -1 where nobody answers."""
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            return int((await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)).status)
        except grpc.aio.AioRpcError:
            return -1


def ready(node: Node) -> bool:
    """Whether every process says that it is ready."""
    for internal in node.internal:
        try:
            with urllib.request.urlopen(f"{internal}/readyz", timeout=1):
                pass
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
    return True


@pytest.mark.parametrize("topology", ["one", "split", "tls"])
async def test_streams_end_well_or_are_told_why(topology: str, upstream: Upstream, tmp_path: Path) -> None:
    """The short ones finish within the grace; the long ones end with a typed error; nothing is left; exit 0."""
    models = [LONG, LONG, SHORT, SHORT]
    with running(topology, tmp_path, upstream.base_url, [LONG, SHORT], stop_grace_s=GRACE_S) as node:
        assert ready(node)
        assert await health(node) == health_pb2.HealthCheckResponse.SERVING
        tasks = await begin(node, upstream, models)
        for process in node.processes:
            process.popen.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await asyncio.sleep(0.3)
        assert not ready(node)
        assert await health(node) in (-1, health_pb2.HealthCheckResponse.NOT_SERVING)
        late = await asyncio.gather(rest(node, SHORT, stream=False), return_exceptions=True)
        assert isinstance(late[0], OSError) or getattr(late[0], "code", "") == "service_stopping"
        seen = await asyncio.gather(*tasks)
        exits = await asyncio.gather(*(asyncio.to_thread(process.popen.wait, 10) for process in node.processes))
        took_s = time.monotonic() - began
        assert exits == [0] * len(exits), node.text[-4000:]
        assert took_s < GRACE_S + 4
        for number, one in enumerate(seen):
            if models[number % len(models)] == SHORT:
                assert (one.code, one.done) == ("", True), one
            else:
                assert (one.code, one.done, one.began) == ("service_stopping", False, True), one
                assert one.status == (200 if number % 2 else "UNAVAILABLE")
                assert one.request_id.startswith("req_")
        until(lambda: upstream.busy() == 0)
        assert "Traceback" not in node.text, node.text[-4000:]


@pytest.mark.parametrize("topology", ["one", pytest.param("split", marks=pytest.mark.long), "tls"])
async def test_a_second_signal_is_fast(topology: str, upstream: Upstream, tmp_path: Path) -> None:
    """Whoever insists does not wait for the grace; callers are told all the same, and the exit is clean."""
    with running(topology, tmp_path, upstream.base_url, [LONG], stop_grace_s=60) as node:
        tasks = await begin(node, upstream, [LONG])
        for process in node.processes:
            process.popen.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in tasks)
        began = time.monotonic()
        for process in node.processes:
            process.popen.send_signal(signal.SIGTERM)
        exits = await asyncio.gather(*(asyncio.to_thread(process.popen.wait, 10) for process in node.processes))
        assert time.monotonic() - began < 4
        assert exits == [0] * len(exits)
        seen = await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(isinstance(one, Seen) and one.done for one in seen)
        until(lambda: upstream.busy() == 0)
        assert "Traceback" not in node.text, node.text[-4000:]
