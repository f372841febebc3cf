"""A node that has as much as it can take: model calls are refused at once, health and administration go on."""

from __future__ import annotations

import asyncio
import json
import statistics
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.calls import Seen, rest, rpc
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import documents
from tests.e2e.upstream import Upstream, until

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


def status_of(url: str) -> int:
    """The status of a page."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return int(answer.status)


def refusals_ms(node: Node) -> list[float]:
    """How long the node took for each refusal, as it says itself."""
    lines = [json.loads(line) for line in node.text.splitlines() if '"gateway_overloaded"' in line]
    return [line["duration_ms"] for line in lines if "duration_ms" in line]
