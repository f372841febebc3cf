"""What a node reads on of an answer whose caller has left, where it is told to."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import pytest
from tests.e2e.calls import rest
from tests.e2e.nodes import Node, running
from tests.e2e.upstream import Upstream, until

PACED = "sim:tokens=40:rate=40"


def drained(node: Node) -> str:
    """The counter's lines."""
    with urllib.request.urlopen(f"{node.internal[0]}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return "\n".join(line for line in lines if line.startswith("tokendance_drained_answers_total"))


@pytest.mark.parametrize("wanted", [True, False])
async def test_an_answer_is_read_on_only_where_it_is_asked_for(
    wanted: bool, upstream: Upstream, tmp_path: Path
) -> None:
    """To its end, and counted; by default the upstream is cancelled as its caller leaves."""
    settings = {"SERVER__DRAINING__AFTER_LEAVING": str(wanted).lower()}
    with running("one", tmp_path, upstream.base_url, [PACED], settings=settings) as node:
        upstream.forget()
        task = asyncio.create_task(rest(node, PACED, stream=True))
        await asyncio.to_thread(until, lambda: len(upstream.log(PACED)) == 1, 10)
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(until, lambda: upstream.busy() == 0, 10)
        (record,) = upstream.log(PACED)
        assert record["peer_left"] is not wanted
        if wanted:
            await asyncio.to_thread(until, lambda: 'ended="complete"} 1.0' in drained(node), 5)
        else:
            assert 'ended="complete"} 0.0' in drained(node)
