"""Calls that are cancelled from either side, at each of their stages, leave nothing: no call, hold or connection."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import psutil
import pytest
from tests.e2e.calls import completion_request, rest, rpc
from tests.e2e.nodes import Node
from tests.e2e.operator_cli import documents, tokendance
from tests.e2e.test_leaving import LONG, SILENT, asked
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub

TIMES = 8
# Connections to the upstream are kept for the next calls, as many as ran at once.
KEPT_FILES = TIMES + 8
GONE_S = 5.0


async def leave_rest(node: Node, model: str, *, stream: bool, events: int) -> None:
    """Ask over REST, and go away after so many events, or without any answer."""
    try:
        async with asyncio.timeout(0.3 if not events else 5), asked(node, model, stream=stream) as answer:
            for _ in range(events):
                await answer.content.readuntil(b"\n\n")
    except TimeoutError:
        return


async def leave_grpc(node: Node, model: str, *, stream: bool, events: int) -> None:
    """The same over gRPC, by cancelling the call."""
    completion = completion_request(model)
    metadata = (("authorization", f"Bearer {node.api_key}"),)
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        stub: Any = CompletionsServiceStub(channel)
        if stream:
            call = stub.StreamCompletion(completions.StreamCompletionRequest(completion=completion), metadata=metadata)
            for _ in range(events):
                await call.read()
        else:
            call = stub.CreateCompletion(completions.CreateCompletionRequest(completion=completion), metadata=metadata)
        if not events:
            await asyncio.sleep(0.3)
        call.cancel()


async def fail_midway(node: Node, model: str, *, stream: bool, events: int) -> None:
    """Let the upstream go away instead, over both surfaces."""
    await rest(node, model, stream=stream)
    await rpc(node, model, stream=stream)


STAGES: dict[str, tuple[Callable[..., Awaitable[None]], str, bool, int]] = {
    "rest, before the answer": (leave_rest, SILENT, False, 0),
    "rest, before the first event": (leave_rest, SILENT, True, 0),
    "rest, in the middle": (leave_rest, LONG, True, 3),
    "grpc, before the answer": (leave_grpc, SILENT, False, 0),
    "grpc, before the first event": (leave_grpc, SILENT, True, 0),
    "grpc, in the middle": (leave_grpc, LONG, True, 3),
    "upstream, before the answer": (fail_midway, "fault:reset", False, 0),
    "upstream, in the middle": (fail_midway, "fault:cut", True, 0),
}


def in_flight(node: Node) -> float:
    """The calls that the node's processes say run now."""
    total = 0.0
    for internal in node.internal:
        with urllib.request.urlopen(f"{internal}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        total += sum(map(float, re.findall(r"^tokendance_requests_in_flight\{[^}]*\} (\S+)", text, re.MULTILINE)))
    return total


def held(node: Node, subject: str) -> int:
    """What running calls hold of all limits of a subject together."""
    (quota,) = documents(node.data_dir, "quota", "show", subject)
    return sum(int(limit.get("held", 0)) for limit in quota["limits"])


@pytest.fixture(scope="module")
def limited(node: Node) -> str:
    """The node's organization, with limits of every kind that is held while a call runs."""
    organization = "/".join(documents(node.data_dir, "keys", "list")[-1]["name"].split("/")[:2])
    for words in (
        ("--metric", "concurrent-requests", "--limit", "10000"),
        ("--metric", "total-tokens", "--window", "month", "--limit", "1000000000"),
        ("--metric", "requests", "--window", "total", "--limit", "1000000000"),
    ):
        assert tokendance("--data-dir", str(node.data_dir), "quota", "set", organization, *words).returncode == 0
    return organization


@pytest.mark.parametrize("stage", STAGES)
async def test_nothing_is_left(node: Node, upstream: Upstream, limited: str, stage: str) -> None:
    """Neither a running call nor a hold nor a connection upstream nor a file, a moment after the last one ended."""
    act, model, stream, events = STAGES[stage]
    await act(node, model, stream=stream, events=events)
    processes = [psutil.Process(one.popen.pid) for one in node.processes]
    before = sum(one.num_fds() for one in processes)
    await asyncio.gather(*(act(node, model, stream=stream, events=events) for _ in range(TIMES)))
    await asyncio.to_thread(until, lambda: upstream.busy() == 0, GONE_S)
    await asyncio.to_thread(until, lambda: in_flight(node) == 0, GONE_S)
    await asyncio.to_thread(until, lambda: sum(one.num_fds() for one in processes) <= before + KEPT_FILES, GONE_S)
    assert await asyncio.to_thread(held, node, limited) == 0
    assert "Task was destroyed" not in node.text
    assert "never retrieved" not in node.text
