"""Idempotency keys on running nodes: over REST with the official SDK, over gRPC, and against whoever tries too much."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import aiohttp
import grpc.aio
import openai
import pytest
from tests.e2e.calls import chat_body, completion_request
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.rpc import ACCOUNT_KEY, from_rpc

SHORT, SLOW = "sim:tokens=6", "sim:tokens=30:rate=60"
REPLAYED = "x-tokendance-replay-of"


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone, whose repeats wait for a moment only."""
    settings = {"SERVER__REPLAY__WAIT_S": "0.2"}
    folder = tmp_path_factory.mktemp("idempotency")
    with running("one", folder, upstream.base_url, [SHORT, SLOW], settings=settings) as node:
        yield node


@pytest.fixture(autouse=True)
def _forgotten(upstream: Upstream) -> None:
    upstream.forget()


def sdk(node: Node, secret: str = "") -> openai.OpenAI:
    """The official SDK, without its retries."""
    return openai.OpenAI(api_key=secret or node.api_key, base_url=node.base_url, max_retries=0)


def ask(node: Node, key: str, model: str = SHORT, *, secret: str = "", text: str = "Hello") -> tuple[Any, Any]:
    """A completion under a key, and the head of its answer."""
    with sdk(node, secret) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": text}], extra_headers={"Idempotency-Key": key}
        )
    return raw.parse(), raw.headers


def test_the_official_sdk_repeats_a_call(house: Node, upstream: Upstream) -> None:
    """The same answer under another request id, free of charge, and the usage record says what it repeats."""
    first, head = ask(house, "sdk-1")
    again, later = ask(house, "sdk-1")
    assert (again.id, again.created, again.choices) == (first.id, first.created, first.choices)
    assert again.usage.completion_tokens == first.usage.completion_tokens
    assert len(upstream.log(SHORT)) == 1
    assert REPLAYED not in head
    assert later[REPLAYED] == head["x-request-id"] != later["x-request-id"]
    assert later["x-tokendance-cost-micros"] == "0"
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(house, "sdk-1", text="Another")
    assert caught.value.code == "idempotency_conflict"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(upstream.log(SHORT)) == 1


def test_a_stream_is_repeated_as_a_stream(house: Node, upstream: Upstream) -> None:
    """With the same chunks, through the official SDK; a repeat after the caller left midway has them all."""

    def chunks(*, most: int = 1000) -> list[str | None]:
        with (
            sdk(house) as client,
            client.chat.completions.create(
                model=SLOW,
                messages=[{"role": "user", "content": "Hello"}],
                stream=True,
                extra_headers={"Idempotency-Key": "stream-1"},
            ) as stream,
        ):
            return [chunk.choices[0].delta.content for chunk, _ in zip(stream, range(most), strict=False)]

    assert len(chunks(most=3)) == 3
    with pytest.raises(openai.ConflictError) as caught:
        chunks()
    assert caught.value.code == "idempotency_in_progress"
    assert caught.value.response.headers["retry-after"] == "2"
    (call,) = upstream.log(SLOW)
    until(lambda: house_rows(house, "sealed IS NULL") == 0, 3)
    assert not call["peer_left"]
    whole = "".join(filter(None, chunks()))
    assert whole == "".join(filter(None, chunks()))
    assert len(whole.split()) >= 30
    assert len(upstream.log(SLOW)) == 1


def house_rows(node: Node, which: str) -> int:
    """How many rows of kept answers there are."""
    with closing(sqlite3.connect(node.data_dir / "gateway.db")) as database:
        return int(database.execute(f"SELECT count(*) FROM replays WHERE {which}").fetchone()[0])


async def test_rest_and_grpc_repeat_each_other(house: Node, upstream: Upstream) -> None:
    """The same request under the same key is the same call, whichever way it comes; white space and order are none."""
    body = f'{{ "messages": [{{"content": "Hello",\n "role": "user"}}],  "model": "{SHORT}"}}'
    head = {"authorization": f"Bearer {house.api_key}", "idempotency-key": "both", "content-type": "application/json"}
    async with (
        aiohttp.ClientSession(headers=head) as session,
        session.post(f"{house.base_url}/chat/completions", data=body) as answer,
    ):
        first = await answer.json()
        request_id = answer.headers["x-request-id"]
    async with (
        aiohttp.ClientSession(headers=head) as session,
        session.post(f"{house.base_url}/chat/completions", json=chat_body(SHORT, stream=False)) as answer,
    ):
        assert answer.headers[REPLAYED] == request_id
        again = await answer.json()
        # The usage tells what this call cost.
        assert [again[field] for field in ("id", "choices")] == [first[field] for field in ("id", "choices")]
    async with grpc.aio.insecure_channel(house.grpc) as channel:
        stub: Any = CompletionsServiceStub(channel)
        metadata = (("authorization", f"Bearer {house.api_key}"),)
        request = completions.CreateCompletionRequest(completion=completion_request(SHORT), idempotency_key="grpc")
        made = await stub.CreateCompletion(request, metadata=metadata)
        call = stub.CreateCompletion(request, metadata=metadata)
        again = await call
        assert again.completion.account.replay_of
        assert ACCOUNT_KEY in dict(await call.trailing_metadata())
        assert again.completion.choices == made.completion.choices
        streamed = completions.StreamCompletionRequest(completion=completion_request(SHORT), idempotency_key="grpc-s")
        first_events = [
            one async for message in stub.StreamCompletion(streamed, metadata=metadata) for one in message.events
        ]
        repeated = [
            one async for message in stub.StreamCompletion(streamed, metadata=metadata) for one in message.events
        ]
        assert repeated[1:-1] == first_events[1:-1]
        assert repeated[-1].finished.account.replay_of
        for key, code in (("a b", "invalid_request"), ("a\n", "invalid_request"), ("x" * 10_240, "invalid_request")):
            request.idempotency_key = key
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.CreateCompletion(request, metadata=metadata)
            assert from_rpc(caught.value).code == code
    assert len(upstream.log(SHORT)) == 3


def test_nobody_gets_what_another_secret_made(house: Node, upstream: Upstream) -> None:
    """Not another key, nor the next secret of the same one; and nothing of it is left when the key is revoked."""
    key, secret = create_key(house.data_dir, "Replayed")
    _, other = create_key(house.data_dir, "Another")
    ask(house, "mine", secret=secret)
    before = house_rows(house, "1 = 1")
    _, head = ask(house, "mine", secret=other)
    assert REPLAYED not in head
    rotated = documents(house.data_dir, "keys", "rotate", key["name"], "--overlap", "1h")
    _, head = ask(house, "mine", secret=rotated["secret"], text="Another body")
    assert REPLAYED not in head
    # Its overlap lasts: who still has the old one is not charged twice.
    assert REPLAYED in ask(house, "mine", secret=secret)[1]
    assert len(upstream.log(SHORT)) == 3
    mine = f"key_id = '{key['name'].rpartition('/')[2]}'"
    assert (before, house_rows(house, mine)) == (before, 2)
    done = tokendance("--data-dir", str(house.data_dir), "keys", "revoke", key["name"], "--reason", "test")
    assert done.returncode == 0, done.stderr
    with pytest.raises(openai.AuthenticationError):
        ask(house, "mine", secret=secret)
    until(lambda: house_rows(house, mine) == 0, 3)


async def test_many_at_once_are_one_call(house: Node, upstream: Upstream) -> None:
    """Whoever does not get the answer in time is told to come again; the upstream sees one call."""
    head = {"authorization": f"Bearer {house.api_key}", "idempotency-key": "crowd"}
    async with aiohttp.ClientSession(headers=head) as session:

        async def one() -> int:
            async with session.post(
                f"{house.base_url}/chat/completions", json=chat_body(SHORT, stream=False)
            ) as answer:
                await answer.read()
                return answer.status

        statuses = await asyncio.gather(*(one() for _ in range(30)))
    assert set(statuses) <= {200, 409}
    assert len(upstream.log(SHORT)) == 1


def test_what_is_kept_cannot_be_read(house: Node) -> None:
    """Neither question, answer nor key is in the database."""
    ask(house, "very-own-key", text="a-very-own-question")
    for file in house.data_dir.glob("gateway.db*"):
        data = file.read_bytes()
        assert b"very-own-key" not in data
        assert b"a-very-own-question" not in data


def test_headers_that_are_no_keys(house: Node, upstream: Upstream) -> None:
    """They are refused before anything is called."""
    for key in ("", "a b", "x" * 256):
        with pytest.raises(openai.BadRequestError):
            ask(house, key)
    assert not upstream.log(SHORT)
