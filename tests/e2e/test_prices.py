"""Prices on a running node: what they charge, what they bound, and that they are told."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import openai
import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.upstream import Upstream

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance.gateway.v1.quota_service_pb2_grpc import QuotaServiceStub

PRICED, STREAMED, CHANGED, FREE, SHOWN = (f"sim:tokens={tokens}" for tokens in ("8", "9", "10:rate=40", "11", "12"))
PROMPT = "Say something of a length that is always the same."


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    names = ["sim", PRICED, STREAMED, CHANGED, FREE, SHOWN]
    with running("one", tmp_path_factory.mktemp("prices"), upstream.base_url, names) as node:
        yield node


def set_prices(node: Node, model: str, **prices: int) -> pb.PriceList:
    """Add prices of a model, in micro-USD for a million tokens, that hold from now on; return its list."""
    with grpc.insecure_channel(f"unix:{node.data_dir / 'admin.sock'}") as channel:
        stub = QuotaServiceStub(channel)
        wanted = stub.ListPrices(pb.ListPricesRequest(model=model), timeout=5).price_lists[0]
        for name, micros in prices.items():
            wanted.prices.add(micros_per_million=micros)
            setattr(wanted.prices[-1], "class", name)
        listed: pb.PriceList = stub.SetPrices(pb.SetPricesRequest(price_list=wanted), timeout=5).price_list
    return listed


def ask(node: Node, secret: str, model: str, **more: Any) -> tuple[int, Any, Any]:
    """Send one request; return status, headers and document."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20, **more}
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    request = urllib.request.Request(f"{node.base_url}/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, json.load(refused)


def cost_of(usage: Any, prompt: int, answer: int) -> int:
    """What a call costs, in micro-USD, at prices in micro-USD for a million tokens."""
    return -(-(int(usage["prompt_tokens"]) * prompt + int(usage["completion_tokens"]) * answer) // 1_000_000)


def test_unpriced_is_told_as_unpriced_until_there_is_a_price(house: Node) -> None:
    """No header, a row of its own in the list of what is unpriced; a price of nothing is one."""
    status, headers, _ = ask(house, house.api_key, FREE)
    assert (status, headers["x-tokendance-cost-micros"]) == (200, None)
    unpriced = documents(house.data_dir, "models", "prices", "list", "--unpriced")
    assert FREE in [one["model"] for one in unpriced]
    set_prices(house, FREE, input=0, output=0)
    assert ask(house, house.api_key, FREE)[1]["x-tokendance-cost-micros"] == "0"
    unpriced = documents(house.data_dir, "models", "prices", "list", "--unpriced")
    assert FREE not in [one["model"] for one in unpriced]


def test_budget_for_seven_calls_lets_seven_through(house: Node) -> None:
    """At once: the holds of calls that run do not make one too few, and no charge makes one too many."""
    # Answers alone are charged here: of them it is known how long they are, as prompts are estimated.
    set_prices(house, PRICED, input=0, output=3_000_000)
    status, headers, document = ask(house, house.api_key, PRICED, max_tokens=8)
    cost = int(headers["x-tokendance-cost-micros"])
    assert (status, cost) == (200, cost_of(document["usage"], 0, 3_000_000))
    assert cost > 0
    key, secret = create_key(house.data_dir, "Has a budget")
    words = ("quota", "set", key["name"], "--metric", "cost", "--window", "total", "--limit", f"{7 * cost / 1e6:.6f}")
    assert tokendance("--data-dir", str(house.data_dir), *words).returncode == 0
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(house, secret, PRICED, max_tokens=8), range(20)))
    through = [document for status, _, document in answers if status == 200]
    while any(status == 429 for status, _, _ in answers):
        # Refused for what others held: curable, and it says so.
        assert {document["error"]["code"] for status, _, document in answers if status == 429} == {"quota_held"}
        answers = [ask(house, secret, PRICED, max_tokens=8)]
        through += [document for status, _, document in answers if status == 200]
    assert len(through) == 7
    status, headers, document = ask(house, secret, PRICED, max_tokens=8)
    assert (status, document["error"]["code"]) == (402, "budget_exceeded")
    assert (headers["retry-after"], headers["x-should-retry"]) == (None, "false")
    (quota,) = documents(house.data_dir, "quota", "show", key["name"])
    (limit,) = quota["limits"]
    assert (int(limit["spent"]), int(limit.get("held", 0))) == (7 * cost, 0)


def test_stream_tells_its_cost_in_its_usage(house: Node) -> None:
    """Where the caller asked for usage; the official SDK shows it."""
    set_prices(house, STREAMED, input=1_500_000, output=6_000_000)
    usage = [chunk.usage for chunk in stream(house, STREAMED) if chunk.usage is not None][-1].model_dump()
    assert usage["cost_micros"] == cost_of(usage, 1_500_000, 6_000_000)


def stream(node: Node, model: str) -> Any:
    """Ask for a stream over the official SDK."""
    return openai.OpenAI(api_key=node.api_key, base_url=node.base_url, max_retries=0).chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        stream_options={"include_usage": True},
    )


def test_new_price_holds_for_calls_admitted_afterwards(house: Node) -> None:
    """At once for new ones; a call that runs keeps its own, and a price to come changes nothing yet."""
    set_prices(house, CHANGED, input=1_000_000, output=1_000_000)
    later = ("--input", "900", "--output", "900", "--from", "2999-01-01")
    documents(house.data_dir, "models", "prices", "set", CHANGED, *later)
    _, headers, document = ask(house, house.api_key, CHANGED)
    assert int(headers["x-tokendance-cost-micros"]) == cost_of(document["usage"], 1_000_000, 1_000_000)
    chunks = iter(stream(house, CHANGED))
    next(chunks)
    listed = set_prices(house, CHANGED, input=5_000_000, output=5_000_000)
    assert [getattr(one, "class") for one in listed.prices] == ["input"] * 3 + ["output"] * 3
    usage = [chunk.usage for chunk in chunks if chunk.usage is not None][-1].model_dump()
    assert usage["cost_micros"] == cost_of(usage, 1_000_000, 1_000_000)
    _, headers, document = ask(house, house.api_key, CHANGED)
    assert int(headers["x-tokendance-cost-micros"]) == cost_of(document["usage"], 5_000_000, 5_000_000)


def test_change_is_audited_and_needs_the_version_that_was_read(house: Node) -> None:
    """One event; another version's etag, a changed past and an unknown model are refused, a dry run changes nothing."""
    words = ("--data-dir", str(house.data_dir), "models", "prices", "set", SHOWN)
    shown = tokendance(*words, "--input", "2", "--output", "4.5", "--publish")
    assert [line.split()[1:3] for line in shown.stdout.splitlines()[1:]] == [["input", "2"], ["output", "4.5"]]
    assert tokendance(*words, "--input", "3", "--dry-run").returncode == 0
    assert tokendance(*words, "--input", "0.0000001").returncode == 2
    with sqlite3.connect(house.data_dir / "gateway.db") as database:
        told = database.execute("SELECT action FROM audit_events WHERE resource = ?", [f"models/{SHOWN}"]).fetchall()
        assert told == [("prices.set",)]
    with grpc.insecure_channel(f"unix:{house.data_dir / 'admin.sock'}") as channel:
        stub = QuotaServiceStub(channel)
        (kept,) = stub.ListPrices(pb.ListPricesRequest(model=SHOWN), timeout=5).price_lists
        assert (kept.etag, len(kept.prices), kept.published) == ('"1"', 2, True)
        for wanted, status in (
            (pb.PriceList(model=SHOWN, etag='"7"'), grpc.StatusCode.ABORTED),
            (pb.PriceList(model=SHOWN, etag=kept.etag), grpc.StatusCode.FAILED_PRECONDITION),
            (pb.PriceList(model="no-such"), grpc.StatusCode.NOT_FOUND),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                stub.SetPrices(pb.SetPricesRequest(price_list=wanted), timeout=5)
            assert refused.value.code() is status
        again = stub.SetPrices(pb.SetPricesRequest(price_list=kept), timeout=5).price_list
        assert again == kept


def test_published_prices_are_part_of_a_model(house: Node) -> None:
    """Of those alone that are published; `suggest` knows real models by the names that they have upstream."""
    set_prices(house, "sim", input=75_000, output=300_000)

    def prices() -> Any:
        asked = urllib.request.Request(
            f"{house.base_url}/models/sim", headers={"authorization": f"Bearer {house.api_key}"}
        )
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.load(answer).get("prices")

    assert prices() is None
    documents(house.data_dir, "models", "prices", "set", "sim", "--publish")
    assert [(one["class"], one["usd_per_million"]) for one in prices()] == [("input", 0.075), ("output", 0.3)]
    found = documents(house.data_dir, "models", "prices", "suggest", "gpt-4o", "sim")
    assert found["unknown_models"] == ["sim"]
    assert found["suggestions"][0]["matched_name"] == "openai/gpt-4o"
