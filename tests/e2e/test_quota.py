"""Limits on a running node: never one too many, never one too few, and visible to whoever they bound."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import grpc.aio
import openai
import pytest
from tests.e2e.calls import completion_request
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.upstream import Upstream

from tokendance.gateway.v1 import completion_pb2, completions_service_pb2
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.rpc import ACCOUNT_KEY, from_rpc

LONG = "sim:tokens=400:rate=200"


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    with running("one", tmp_path_factory.mktemp("quota"), upstream.base_url, ["sim", LONG]) as node:
        yield node


class Holder:
    """A key with limits, and what its holder does."""

    def __init__(self, node: Node, purpose: str, *limits: str) -> None:
        self.node = node
        self.key, self.secret = create_key(node.data_dir, purpose)
        self.name = str(self.key["name"])
        for one in limits:
            self.limit(self.name, one)

    def limit(self, subject: str, text: str) -> None:
        """Set a limit, written `METRIC[/WINDOW]=NUMBER[,soft]`."""
        kind, _, number = text.removesuffix(",soft").partition("=")
        metric, _, window = kind.partition("/")
        words = ["quota", "set", subject, "--metric", metric, "--limit", number]
        done = tokendance(
            "--data-dir",
            str(self.node.data_dir),
            *words,
            *(["--window", window] if window else []),
            *(["--soft"] if text.endswith(",soft") else []),
        )
        assert done.returncode == 0, done.stderr

    def standing(self) -> dict[str, tuple[int, int]]:
        """What is spent and held of the key's own limits, as an administrator sees it."""
        (quota,) = documents(self.node.data_dir, "quota", "show", self.name)
        return {one["rule"]["metric"]: (int(one.get("spent", 0)), int(one.get("held", 0))) for one in quota["limits"]}

    def client(self) -> openai.OpenAI:
        """The official SDK, without its retries."""
        return openai.OpenAI(api_key=self.secret, base_url=self.node.base_url, max_retries=0)

    def get(self, path: str) -> Any:
        """What `GET` answers."""
        request = urllib.request.Request(self.node.origin + path, headers={"Authorization": f"Bearer {self.secret}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


async def many(holder: Holder, count: int, at_once: int) -> Counter[int]:
    """Send requests, so many at once; count what they were answered."""
    body = {"model": "demo-echo", "messages": [{"role": "user", "content": "Hi"}]}
    headers = {"Authorization": f"Bearer {holder.secret}"}
    answers: Counter[int] = Counter()
    queue = iter(range(count))
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for _ in queue:
                async with session.post(f"{holder.node.base_url}/chat/completions", json=body) as answer:
                    await answer.read()
                    answers[answer.status] += 1

        await asyncio.gather(*(work() for _ in range(at_once)))
    return answers


async def test_a_limit_of_a_hundred_lets_a_hundred_through(house: Node) -> None:
    """Of 500 that come 50 at once: exactly 100, the rest refused, and the counter says so."""
    holder = Holder(house, "Hundred", "requests/total=100")
    assert await many(holder, 500, 50) == {200: 100, 429: 400}
    assert holder.standing() == {"LIMIT_METRIC_REQUESTS": (100, 0)}


async def test_nobody_is_refused_below_the_limit(house: Node) -> None:
    """However many come at once: a hold is no false refusal."""
    holder = Holder(house, "Enough", "requests/total=200", "total-tokens/day=1000000", "cost/month=10")
    assert await many(holder, 200, 100) == {200: 200}


def test_a_soft_limit_warns_and_refuses_nobody(house: Node) -> None:
    """From 80 percent on every answer says so in a header, also beyond the limit."""
    holder = Holder(house, "Warned", "requests/day=5,soft")
    told = []
    for _ in range(7):
        answer = holder.client().chat.completions.with_raw_response.create(
            model="demo-echo", messages=[{"role": "user", "content": "Hi"}]
        )
        told.append(answer.headers.get("x-tokendance-quota-warning"))
    assert told[:3] == [None, None, None]
    assert told[-1] == "requests/day=120%"
    assert "requests/day=80%" in told


def test_what_a_holder_sees(house: Node) -> None:
    """Its own limits and those above it, with what is left and when they start anew; over REST alone its own key's."""
    holder = Holder(house, "Seen", "requests/minute=5", "requests/day=100", "concurrent-requests=3")
    # What the team used before it had this limit counts too.
    holder.limit(str(holder.key["team"]), "total-tokens/month=1000000")
    holder.client().chat.completions.create(model="demo-echo", messages=[{"role": "user", "content": "Hi"}])
    seen = holder.get("/v1/quota")
    assert seen["subject"] == holder.name
    by_window = {one["window"]: one for one in seen["limits"]}
    assert [by_window[window]["remaining"] for window in ("minute", "day", None)] == [4, 99, 3]
    assert by_window["day"]["reset_at"].endswith("T00:00:00Z")
    assert by_window[None]["reset_at"] is None
    kinds = [one["subject"].split("/")[2:3] for one in seen["inherited"]]
    assert kinds == [["members"], ["teams"], []]
    (above,) = seen["inherited"][1]["limits"]
    assert (above["metric"], above["window"]) == ("total_tokens", "month")
    assert 0 < above["spent"] < 100_000


def test_a_refusal_tells_the_limit_and_the_sdk_does_not_repeat_it(house: Node) -> None:
    """The official SDK raises once, with everything that a person needs."""
    holder = Holder(house, "Refused", "requests/hour=1")
    client = holder.client().with_options(max_retries=5)
    client.chat.completions.create(model="demo-echo", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="demo-echo", messages=[{"role": "user", "content": "Hi"}])
    error, headers = raised.value.body, raised.value.response.headers
    assert isinstance(error, dict)
    assert (error["code"], error["type"]) == ("quota_exceeded", "insufficient_quota")
    assert error["limit"] == {
        "subject": holder.name,
        "metric": "requests",
        "window": "hour",
        "limit": 1,
        "spent": 1,
        "held": 0,
    }
    assert error["reset_at"].endswith(":00:00Z")
    assert (headers["x-should-retry"], "retry-after" in headers) == ("false", False)
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert holder.standing() == {"LIMIT_METRIC_REQUESTS": (1, 0)}


def test_a_minute_says_how_long_to_wait(house: Node) -> None:
    """In whole seconds, at most 60."""
    holder = Holder(house, "Rated", "requests/minute=1")
    holder.client().chat.completions.create(model="demo-echo", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.RateLimitError) as raised:
        holder.client().chat.completions.create(model="demo-echo", messages=[{"role": "user", "content": "Hi"}])
    assert raised.value.code == "rate_limit_exceeded"
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60


def test_a_stream_ends_with_length_where_its_limit_does(house: Node) -> None:
    """Well-formed for the SDK, its usage marked as an estimate; the upstream is left."""
    holder = Holder(house, "Streamed", "output-tokens/total=120")
    stream = holder.client().chat.completions.create(
        model=LONG,
        messages=[{"role": "user", "content": "Go on."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "length"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.model_extra == {"estimated": True}
    spent, held = holder.standing()["LIMIT_METRIC_OUTPUT_TOKENS"]
    assert (spent, held) == (usage.completion_tokens, 0)
    assert 120 <= spent <= 140


async def test_the_account_travels_over_grpc(house: Node) -> None:
    """In the answer and behind it; a refusal is typed, with its limit."""
    holder = Holder(house, "Called", "requests/total=1")
    metadata = (("authorization", f"Bearer {holder.secret}"),)
    request = completions_service_pb2.CreateCompletionRequest(completion=completion_request("sim"))
    async with grpc.aio.insecure_channel(house.grpc) as channel:
        stub: Any = CompletionsServiceStub(channel)
        call = stub.CreateCompletion(request, metadata=metadata, timeout=10)
        answer = await call
        behind = dict(await call.trailing_metadata())[ACCOUNT_KEY]
        assert completion_pb2.CallAccount.FromString(behind) == answer.completion.account
        assert answer.completion.account.requests.remaining == 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.CreateCompletion(request, metadata=metadata, timeout=10)
    error = from_rpc(raised.value)
    assert (error.code, error.retryable) == ("quota_exceeded", False)
    assert (error.metadata["subject"], error.metadata["spent"]) == (holder.name, "1")
