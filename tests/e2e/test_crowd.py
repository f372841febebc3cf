"""Many calls at once, some of which are given up: every caller gets its own answer and nobody else's."""

from __future__ import annotations

import asyncio

from tests.e2e.calls import Seen, rest, rpc, said
from tests.e2e.nodes import Node
from tests.e2e.upstream import Upstream, until

CALLERS = 120
MODEL = "sim-echo"


def answer(node: Node, number: int) -> asyncio.Task[Seen]:
    """One of the four ways to call, with words of its own."""
    text = f"caller {number} says so {number} times"
    stream = number % 2 == 0
    if number % 4 < 2:
        messages = [{"role": "user", "content": text}]
        return asyncio.create_task(rest(node, MODEL, stream=stream, messages=messages))
    return asyncio.create_task(rpc(node, MODEL, stream=stream, messages=[said(text)]))


async def test_answers_are_not_mixed_up(node: Node, upstream: Upstream) -> None:
    """Connections are shared and calls are cut at any moment; the answers of the others stay whole and their own."""
    calls = [answer(node, number) for number in range(CALLERS)]
    for number in range(0, CALLERS, 7):
        await asyncio.sleep(0.005)
        calls[number].cancel()
    seen = await asyncio.gather(*calls, return_exceptions=True)
    ids = set()
    for number, one in enumerate(seen):
        if isinstance(one, asyncio.CancelledError):
            assert number % 7 == 0
            continue
        assert isinstance(one, Seen), one
        assert one.code == ""
        assert one.done
        assert one.text == f"caller {number} says so {number} times"
        ids.add(one.request_id)
    assert len(ids) >= CALLERS - CALLERS // 7 - 1
    assert len(ids) == sum(isinstance(one, Seen) for one in seen)
    await asyncio.to_thread(until, lambda: upstream.busy() == 0)
