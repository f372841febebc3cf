"""The Messages API over HTTP: its headers, its envelope of errors, its pings, its count and its list of models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from tests.facade.rig import KEY, Rig, hello_events, open_rig

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2

HELLO: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def impatient() -> AsyncIterator[Rig]:
    """A facade that soon sends the head of a stream, and keeps it alive."""
    async with open_rig(stream_headers_after_s=0.05, keepalive_s=0.05) as opened:
        yield opened


def events(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event."""
    frames = [frame.split("\n") for frame in text.split("\n\n") if frame]
    return [(name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))) for name, data in frames]


@pytest.mark.parametrize("headers", [{"x-api-key": KEY}, {"Authorization": f"Bearer {KEY}"}])
async def test_the_key_comes_in_either_header(rig: Rig, headers: dict[str, str]) -> None:
    """Older and newer SDKs differ; the path may have a query."""
    answer = await rig.http.post(f"{rig.facade.http_url}/v1/messages?beta=true", json=HELLO, headers=headers)
    assert answer.status == 200
    document = await answer.json()
    assert document["content"] == [{"type": "text", "text": "Hello."}]
    assert rig.upstream.credentials == [f"Bearer {KEY}"]
    assert rig.upstream.callers[0].surface == errors_pb2.SURFACE_MESSAGES
    assert answer.headers["request-id"] == rig.upstream.callers[0].request_id


async def test_version_and_betas_go_along(rig: Rig) -> None:
    """Those of several headers in one; nothing else of the head does."""
    headers = [("x-api-key", KEY), ("anthropic-beta", "a-1"), ("anthropic-beta", "b-2,c-3"), ("x-other", "1")]
    headers.append(("anthropic-version", "2026-10-21"))
    await rig.http.post(f"{rig.facade.http_url}/v1/messages", json=HELLO, headers=headers)
    told = [(one.name, one.value) for one in rig.upstream.requests[0].completion.dialect_headers]
    assert told == [("anthropic-beta", "a-1,b-2,c-3"), ("anthropic-version", "2026-10-21")]


async def test_sixteen_kilobytes_of_headers_pass(rig: Rig) -> None:
    """Agents send that much; betas of more than eight thousand characters are refused by name."""
    many = {f"x_note_{number}": "a" * 1000 for number in range(14)}
    assert (await rig.post("/v1/messages", HELLO, **many)).status == 200
    answer = await rig.post("/v1/messages", HELLO, anthropic_beta="b" * 8193)
    assert answer.status == 400
    assert (await answer.json())["error"]["param"] == "anthropic-beta"


async def test_an_error_has_the_envelope(rig: Rig) -> None:
    """Type by the one table, the request id within and in both headers, and whether to ask again."""
    rig.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_QUOTA_EXCEEDED, "The quota is spent.")
    answer = await rig.post("/v1/messages", HELLO)
    document = await answer.json()
    assert answer.status == 429
    assert document["type"] == "error"
    assert document["error"]["type"] == "rate_limit_error"
    assert document["error"]["message"] == "The quota is spent."
    assert document["error"]["code"] == "quota_exceeded"
    assert document["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_refusals_of_the_facade_itself_have_it_too(rig: Rig, path: str) -> None:
    """No key, no JSON, another method."""
    without = await rig.http.post(rig.facade.http_url + path, json=HELLO)
    broken = await rig.http.post(
        rig.facade.http_url + path, data=b"{", headers={"x-api-key": KEY, "Content-Type": "application/json"}
    )
    method = await rig.http.get(rig.facade.http_url + path)
    for answer, status, kind in (
        (without, 401, "authentication_error"),
        (broken, 400, "invalid_request_error"),
        (method, 405, "invalid_request_error"),
    ):
        assert answer.status == status
        assert (await answer.json())["error"]["type"] == kind


async def test_a_stream_has_names_and_a_ping(rig: Rig) -> None:
    """In Anthropic's order, and without an end mark of OpenAI's."""
    answer = await rig.post("/v1/messages", {**HELLO, "stream": True})
    told = events(await answer.text())
    assert [name for name, _ in told] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(data["type"] == name for name, data in told)
    assert told[-2][1]["usage"]["output_tokens"] == 2


async def test_silence_is_filled_with_pings(impatient: Rig) -> None:
    """Before the first event as well as between events: SDKs pass over them, watchdogs count them."""
    impatient.upstream.steps = [0.2, *hello_events()[:2], 0.12, *hello_events()[2:]]
    answer = await impatient.post("/v1/messages", {**HELLO, "stream": True})
    names = [name for name, _ in events(await answer.text())]
    start = names.index("message_start")
    assert "ping" in names[:start]
    assert names[start:].count("ping") > 1
    assert names[-1] == "message_stop"


async def test_an_error_midway_is_an_event_of_that_name(rig: Rig) -> None:
    """And the last one."""
    overloaded = GatewayError(errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED, "Too busy.")
    rig.upstream.steps = [*hello_events()[:2], overloaded]
    answer = await rig.post("/v1/messages", {**HELLO, "stream": True})
    name, data = events(await answer.text())[-1]
    assert (name, data["type"], data["error"]["type"]) == ("error", "error", "overloaded_error")
    assert data["request_id"] == answer.headers["request-id"]


async def test_an_error_before_the_first_event_is_a_status(rig: Rig) -> None:
    """So that callers and proxies see it as what it is."""
    rig.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_GATEWAY_OVERLOADED, "Too busy.", retry_after_s=3)
    answer = await rig.post("/v1/messages", {**HELLO, "stream": True})
    assert (answer.status, answer.headers["retry-after"]) == (529, "3")


async def test_limits_stand_in_anthropics_headers(rig: Rig) -> None:
    """Beside OpenAI's, and their reset is a time."""
    account = rig.upstream.completion.account
    account.requests.limit, account.requests.remaining = 10, 9
    account.requests.reset.FromSeconds(60)
    answer = await rig.post("/v1/messages", HELLO)
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "10"
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "9"
    assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert answer.headers["x-ratelimit-limit-requests"] == "10"


async def test_tokens_are_counted_without_a_cap(rig: Rig) -> None:
    """And an estimate says that it is one."""
    rig.upstream.tokens = 7
    prompt = {name: value for name, value in HELLO.items() if name != "max_tokens"}
    answer = await rig.post("/v1/messages/count_tokens", prompt)
    assert await answer.json() == {"input_tokens": 7}
    assert answer.headers["x-tokendance-estimated"] == "true"
    assert rig.upstream.requests[0].completion.dialect == pb.DIALECT_ANTHROPIC_MESSAGES


async def get_models(rig: Rig, query: str = "", **more: str) -> tuple[int, Any]:
    """Status and document of the list in Anthropic's form."""
    headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", **more}
    answer = await rig.http.get(f"{rig.facade.http_url}/v1/models{query}", headers=headers)
    return answer.status, await answer.json()


async def test_the_models_are_listed_in_pages(rig: Rig) -> None:
    """Where the caller says which version of Anthropic's API it speaks."""
    status, first = await get_models(rig, "?limit=1")
    assert status == 200
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, "org/one", "org/one")
    assert first["data"][0] == {
        "type": "model",
        "id": "org/one",
        "display_name": "org/one",
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
        "max_input_tokens": 8192,
    }
    _, rest = await get_models(rig, "?after_id=org/one")
    assert ([model["id"] for model in rest["data"]], rest["has_more"]) == (["two"], False)
    _, before = await get_models(rig, "?before_id=two")
    assert [model["id"] for model in before["data"]] == ["org/one"]
    _, none = await get_models(rig, "?lifecycle[]=retired")
    assert none == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    _, one = await get_models(rig, "/two")
    assert one["id"] == "two"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?limit=many", "limit"),
        ("?after_id=none", "after_id"),
        ("?before_id=none", "before_id"),
        ("?before_id=two&after_id=two", "before_id"),
        ("?lifecycle[]=new", "lifecycle[]"),
    ],
)
async def test_a_wrong_page_is_refused_in_anthropics_form(rig: Rig, query: str, param: str) -> None:
    """By the name of the parameter."""
    status, document = await get_models(rig, query)
    assert (status, document["type"], document["error"]["param"]) == (400, "error", param)


async def test_others_get_openais_form(rig: Rig) -> None:
    """A key in Anthropic's header alone says nothing of the form."""
    answer = await rig.http.get(f"{rig.facade.http_url}/v1/models", headers={"x-api-key": KEY})
    assert (await answer.json())["object"] == "list"


async def test_batches_are_not_served(rig: Rig) -> None:
    """An error that says so, and no riddle of a path that is not there."""
    answer = await rig.post("/v1/messages/batches", {"requests": []})
    document = await answer.json()
    assert (answer.status, document["type"], document["error"]["code"]) == (501, "error", "unimplemented")
    assert "batches" in document["error"]["message"]
