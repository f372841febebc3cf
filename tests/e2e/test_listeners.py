"""What each listener answers and what it keeps to itself, whichever way it is asked."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest
from tests.e2e.calls import rest, rpc
from tests.e2e.nodes import BODY_LIMIT_BYTES, Node
from tests.e2e.upstream import until

SOFTWARE = re.compile(r"aiohttp|python|cpython|uvloop|grpc|nginx|openai|simulator|canary", re.IGNORECASE)
REQUEST_ID = re.compile(r"req_[0-9a-z]{26}")
CHAT = "/v1/chat/completions"
GOOD = {"model": "sim", "messages": [{"role": "user", "content": "Hello"}]}


async def ask(
    url: str, method: str = "GET", *, key: str = "", body: bytes | None = None, **headers: str
) -> tuple[int, Mapping[str, str], str]:
    """One request as it is given; status, headers and body of its answer."""
    if key:
        headers["Authorization"] = f"Bearer {key}"
    if body is not None:
        headers.setdefault("Content-Type", "application/json")
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=body and io.BytesIO(body), headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status, answer.headers, await answer.text()


# name -> (method, path, with a key, body, status)
REQUESTS: dict[str, tuple[str, str, bool, bytes | None, int]] = {
    "an answer": ("POST", CHAT, True, json.dumps(GOOD).encode(), 200),
    "a stream": ("POST", CHAT, True, json.dumps(GOOD | {"stream": True}).encode(), 200),
    "models": ("GET", "/v1/models", True, None, 200),
    "models without a key": ("GET", "/v1/models", False, None, 401),
    "no such path": ("GET", "/v1/nothing", True, None, 404),
    "the home page": ("GET", "/", False, None, 200),
    "metrics": ("GET", "/metrics", False, None, 404),
    "metrics with a key": ("GET", "/metrics", True, None, 404),
    "liveness": ("GET", "/livez", False, None, 404),
    "readiness": ("GET", "/readyz", False, None, 404),
    "administration": ("GET", "/admin/v1/keys", True, None, 404),
    "a wrong method": ("GET", CHAT, True, None, 405),
    "a preflight": ("OPTIONS", CHAT, False, None, 204),
    "no JSON": ("POST", CHAT, True, b"{", 400),
    "a large body": ("POST", CHAT, True, b" " * (BODY_LIMIT_BYTES + 1), 413),
    "a failing upstream": ("POST", CHAT, True, json.dumps(GOOD | {"model": "fault:status:code=401"}).encode(), 503),
    "a key in the address": ("GET", "/v1/models?api_key=tdk_x", False, None, 401),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_public_answer(node: Node, name: str) -> None:
    """Each has a request id, twice; none names the serving software or lets a browser's script read it."""
    method, path, with_key, body, expected = REQUESTS[name]
    key = node.api_key if with_key else ""
    status, headers, text = await ask(f"{node.origin}{path}", method, key=key, body=body, Origin="https://example.com")
    assert status == expected
    assert REQUEST_ID.fullmatch(headers["x-request-id"])
    assert headers["request-id"] == headers["x-request-id"]
    told = "\n".join(f"{header}: {value}" for header, value in headers.items())
    assert not SOFTWARE.search(told)
    assert "access-control" not in told.lower()
    assert "set-cookie" not in told.lower()
    assert headers.get("Server", "TokenDance Gateway") == "TokenDance Gateway"
    if status >= 400:
        error = json.loads(text)["error"]
        assert error["code"] == headers["x-tokendance-error-code"]
        assert error["request_id"] == headers["x-request-id"]
        assert not SOFTWARE.search(error["message"])


async def test_wrong_media_type(node: Node) -> None:
    """A body that is no JSON by its own word is refused as such."""
    status, headers, _ = await ask(
        f"{node.origin}{CHAT}", "POST", key=node.api_key, body=b"a=1", **{"Content-Type": "text/plain"}
    )
    assert (status, headers["x-tokendance-error-code"]) == (415, "unsupported_media_type")


async def test_internal_listeners(node: Node) -> None:
    """Each process tells that it lives, that it is ready, and its figures, and takes no API key."""
    for internal in node.internal:
        assert (await ask(f"{internal}/livez"))[0] == 200
        assert (await ask(f"{internal}/readyz"))[0] == 200
        status, headers, _ = await ask(f"{internal}/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain")
        for path in ("/livez", "/readyz", "/metrics", CHAT, "/v1/models"):
            status, headers, text = await ask(f"{internal}{path}", key=node.api_key)
            assert (status, headers["x-tokendance-error-code"]) == (401, "api_key_not_accepted")
            assert node.api_key not in text
        assert (await ask(f"{internal}/v1/models"))[0] == 404
        told = "\n".join(f"{header}: {value}" for header, value in headers.items())
        assert not SOFTWARE.search(told)


async def test_metrics_count_requests_by_bounded_labels(node: Node) -> None:
    """Requests are counted by surface, model and code; a name that is no model makes no series of its own."""
    await rest(node, "sim", stream=False)
    await rpc(node, "sim", stream=True)
    assert (await rest(node, "no-model-canary", stream=False)).code == "model_not_found"
    assert (await rest(node, "sim", stream=False, key="tdk_wrong")).code == "invalid_api_key"
    (text,) = [
        text for text in [(await ask(f"{one}/metrics"))[2] for one in node.internal] if "_requests_total" in text
    ]
    found = {}
    for line in text.splitlines():
        if line.startswith("tokendance_requests_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            found[labels["surface"], labels["model"], labels["code"]] = float(line.rpartition(" ")[2])
    assert found["chat", "sim", "ok"] >= 1
    assert found["grpc", "sim", "ok"] >= 1
    assert any(code == "model_not_found" for _, _, code in found)
    assert "canary" not in text
    assert node.api_key not in text
    for name in (
        "tokendance_requests_in_flight",
        "tokendance_added_latency_seconds",
        "tokendance_upstream_latency_seconds",
    ):
        assert name in text


def lines_of(node: Node, request_id: str) -> list[Any]:
    """The log lines of one request."""
    return [json.loads(line) for line in node.text.splitlines() if f'"{request_id}"' in line]


async def test_one_log_line_a_request(node: Node) -> None:
    """A request over REST is logged once in the whole node, with what an operator looks for and no content."""
    seen = await rest(node, "sim", stream=True, user="user-canary")
    until(lambda: bool(lines_of(node, seen.request_id)))
    (line,) = lines_of(node, seen.request_id)
    assert (line["surface"], line["model"], line["code"]) == ("chat", "sim", "ok")
    assert line["key"].startswith("key_")
    assert line["duration_ms"] >= line["upstream_ms"] >= 0
    assert "user-canary" not in json.dumps(line)
