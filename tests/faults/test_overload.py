"""A node that has as much as it can take: model calls are refused at once, health and administration go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.e2e.calls import Seen, rest, rpc
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import documents
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import models_service_pb2 as models_pb2
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub

SLOW = "sim:tokens=400:rate=20"
LIMIT = 10
AT_ONCE_S = 0.05


def check_refusal(seen: Seen) -> None:
    """The refusal of both surfaces: curable, and when to come back."""
    assert seen.code == "gateway_overloaded"
    assert seen.status in (503, "RESOURCE_EXHAUSTED")
    assert 1 <= int(seen.retry_after) <= 60
    assert seen.headers.get("x-should-retry") is None


@pytest.mark.parametrize("topology", ["one", pytest.param("split", marks=pytest.mark.long)])
async def test_no_more_calls_than_may_run(topology: str, upstream: Upstream, tmp_path: Path) -> None:
    """One more is refused in no time; health, figures, keys and reads are served; one that leaves makes room."""
    settings = {"SERVER__LIMITS__IN_FLIGHT": str(LIMIT)}
    with running(topology, tmp_path, upstream.base_url, [SLOW, "sim"], settings=settings) as node:
        upstream.forget()
        tasks = [asyncio.create_task((rest if number % 2 else rpc)(node, SLOW, stream=True)) for number in range(LIMIT)]
        await asyncio.to_thread(until, lambda: len(upstream.log(SLOW)) == LIMIT, 10)
        for stream in (False, True):
            check_refusal(await rest(node, "sim", stream=stream))
            check_refusal(await rpc(node, "sim", stream=stream))
        for internal in node.internal:
            for path in ("/livez", "/readyz", "/metrics"):
                assert await asyncio.to_thread(status_of, internal + path) == 200
        assert await asyncio.to_thread(documents, node.data_dir, "keys", "list")
        # A busy test machine may hold one of them up, but not most.
        assert statistics.median(refusals_ms(node)) < AT_ONCE_S * 1000
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        await asyncio.to_thread(until, lambda: any(record["peer_left"] for record in upstream.log(SLOW)))
        assert (await rest(node, "sim", stream=False)).done
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Pulses:
    """Stops a node for most of each moment, so that its event loop is late with everything that is due."""

    STOPPED_S, RUNNING_S = 0.3, 0.2

    def __init__(self, node: Node) -> None:
        self._pid = node.processes[0].popen.pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            os.kill(self._pid, signal.SIGSTOP)
            try:
                time.sleep(self.STOPPED_S)
            finally:
                os.kill(self._pid, signal.SIGCONT)
            self._ended.wait(self.RUNNING_S)


async def test_a_loop_that_is_late_takes_no_model_calls(upstream: Upstream, tmp_path: Path) -> None:
    """They are refused at once and told when to come back; what else a node does it goes on to do, and it recovers."""
    settings = {"SERVER__LIMITS__LOOP_LAG_S": "0.05"}
    with running("one", tmp_path, upstream.base_url, ["sim"], settings=settings) as node:
        assert (await rest(node, "sim", stream=False)).done
        with Pulses(node):
            await asyncio.to_thread(until, lambda: lag_of(node) > 0.05, 10)
            upstream.forget()
            for number in range(40):
                stream = number % 4 < 2
                check_refusal(await (rest if number % 2 else rpc)(node, "sim", stream=stream))
            assert upstream.log() == []
            for path in ("/livez", "/readyz", "/metrics"):
                assert await asyncio.to_thread(status_of, node.internal[0] + path) == 200
            async with grpc.aio.insecure_channel(node.grpc) as channel:
                health: Any = health_pb2_grpc.HealthStub(channel)
                serving = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
                assert serving.status == health_pb2.HealthCheckResponse.SERVING
                models: Any = ModelsServiceStub(channel)
                bearer = (("authorization", f"Bearer {node.api_key}"),)
                assert (await models.ListModels(models_pb2.ListModelsRequest(), metadata=bearer, timeout=5)).models
            for command in (["keys", "list"], ["organizations", "list"]):
                assert await asyncio.to_thread(documents, node.data_dir, *command)
            assert (await rest(node, "sim", stream=False)).code == "gateway_overloaded"
        refused = refusals_ms(node)
        # A refusal that was begun as the node was stopped took as long as that.
        assert len(refused) > 40
        assert sum(one < AT_ONCE_S * 1000 for one in refused) > 0.9 * len(refused), refused
        await asyncio.to_thread(until, lambda: lag_of(node) < 0.05, 10)
        assert (await rest(node, "sim", stream=False)).done


def lag_of(node: Node) -> float:
    """How late the node says that its loop is, in seconds."""
    with urllib.request.urlopen(f"{node.internal[0]}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("tokendance_event_loop_lag_seconds "):
                return float(line.rpartition(" ")[2])
    raise AssertionError("the metric is not there")


def status_of(url: str) -> int:
    """The status of a page."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return int(answer.status)


def refusals_ms(node: Node) -> list[float]:
    """How long the node took for each refusal, as it says itself."""
    lines = [json.loads(line) for line in node.text.splitlines() if '"gateway_overloaded"' in line]
    return [line["duration_ms"] for line in lines if "duration_ms" in line]
