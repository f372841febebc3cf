"""What a call is billed when its caller leaves, or tries to bill it to somebody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from tests.e2e.calls import chat_body
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key
from tests.e2e.upstream import Upstream

TOKENS = 8
MODEL = f"sim:tokens={TOKENS}:rate=25"
"""Eight tokens, each in a packet of its own, 40 ms apart."""


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that cancels what nobody reads."""
    with running("one", tmp_path_factory.mktemp("billing"), upstream.base_url, [MODEL]) as node:
        yield node


@pytest.fixture(scope="module")
def draining(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node whose upstream bills on regardless, so that the rest of an answer is read."""
    settings = {"SERVER__DRAINING__AFTER_LEAVING": "true"}
    with running("one", tmp_path_factory.mktemp("draining"), upstream.base_url, [MODEL], settings=settings) as node:
        yield node


async def leave_after(node: Node, session: aiohttp.ClientSession, chunks: int | None) -> str:
    """Read so many chunks with content of a stream and leave, or read all; return the request's id.

    Nobody asks for usage in the stream: what it is billed must not depend on that.
    """
    async with session.post(f"{node.base_url}/chat/completions", json=chat_body(MODEL, stream=True)) as answer:
        assert answer.status == 200
        seen = 0
        while chunks is None or seen < chunks:
            line = await answer.content.readline()
            if not line:
                break
            data = line.removeprefix(b"data: ").strip()
            if data.startswith(b"{"):
                seen += sum(bool(choice["delta"].get("content")) for choice in json.loads(data)["choices"])
        if chunks is not None:
            answer.close()
        return answer.headers["x-request-id"]


async def record(node: Node, session: aiohttp.ClientSession, request_id: str) -> dict[str, Any]:
    """Return the record of a request once it is finished."""
    for _ in range(200):
        async with session.get(f"{node.base_url}/requests/{request_id}") as answer:
            if answer.status == 200:
                document: dict[str, Any] = await answer.json()
                if document["outcome"] not in ("running", "unspecified"):
                    return document
        await asyncio.sleep(0.05)
    raise AssertionError(f"{request_id} is not finished")


async def records(node: Node, secret: str) -> list[dict[str, Any]]:
    """Let a caller leave after each number of chunks, and one stay; return what each is billed."""
    headers = {"authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(force_close=True)) as session:
        asked = [leave_after(node, session, chunks) for chunks in range(TOKENS)]
        ids = await asyncio.gather(*asked, leave_after(node, session, None))
        return list(await asyncio.gather(*(record(node, session, one) for one in ids)))


async def test_a_caller_that_leaves_pays_for_what_was_delivered(house: Node) -> None:
    """E7: of each number of chunks; never nothing, never more than all, and flagged as an estimate."""
    _, secret = create_key(house.data_dir, "Leaves")
    *left, stayed = await records(house, secret)
    assert (stayed["outcome"], stayed["estimated"], stayed["usage"]["output_tokens"]) == ("succeeded", False, TOKENS)
    billed = [one["usage"]["output_tokens"] for one in left]
    for one in left:
        assert (one["outcome"], one["estimated"]) == ("cancelled", True)
        assert one["usage"]["input_tokens"] > 0
    assert billed == sorted(billed)
    assert billed[-1] > billed[0]
    # A word has about one token and a half by the first estimate of four bytes to a token.
    assert all(count <= 2 * TOKENS for count in billed)


async def test_where_the_provider_bills_on_its_counts_are_charged(draining: Node) -> None:
    """E7: the rest is read, by a task that the node owns, and everybody pays what the provider counted."""
    _, secret = create_key(draining.data_dir, "Leaves")
    for one in await records(draining, secret):
        assert (one["estimated"], one["usage"]["output_tokens"]) == (False, TOKENS)


async def test_ids_that_callers_choose_never_meet_those_that_bills_are_kept_by(house: Node, upstream: Upstream) -> None:
    """E5: a request id, a session id or an idempotency key of somebody else's call changes nothing of that call."""
    _, victim = create_key(house.data_dir, "Pays")
    _, attacker = create_key(house.data_dir, "Wants others to pay")
    url = f"{house.base_url}/chat/completions"
    body = chat_body(MODEL, stream=False)
    async with aiohttp.ClientSession() as session:

        async def ask(secret: str, **chosen: str) -> tuple[str, str]:
            headers = {"authorization": f"Bearer {secret}", **chosen}
            async with session.post(url, json=body, headers=headers) as answer:
                assert answer.status == 200
                return answer.headers["x-request-id"], answer.headers.get("x-tokendance-replay-of", "")

        first, _ = await ask(victim, **{"idempotency-key": "shared"})
        chosen = {
            "x-request-id": first,
            "request-id": first,
            "x-client-request-id": first,
            "session-id": first,
            "idempotency-key": "shared",
        }
        second, replayed = await ask(attacker, **chosen)
        assert second != first
        assert replayed == ""
        session.headers["authorization"] = f"Bearer {victim}"
        mine = await record(house, session, first)
        async with session.get(f"{house.base_url}/requests/{second}") as answer:
            assert answer.status == 404
        async with session.get(f"{house.base_url}/usage") as answer:
            assert (await answer.json())["totals"]["requests"] == 1
        assert mine["usage"]["output_tokens"] == TOKENS
    assert len(upstream.log(MODEL)) >= 2
