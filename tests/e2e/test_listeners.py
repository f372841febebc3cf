"""What each listener answers and what it keeps to itself, whichever way it is asked."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from tests.e2e.calls import completion_request, rest, rpc
from tests.e2e.nodes import BODY_LIMIT_BYTES, Node
from tests.e2e.upstream import until

from tokendance.gateway.v1 import caller_pb2, errors_pb2, keys_service_pb2, models_service_pb2
from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub

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
    "the root": ("GET", "/", False, None, 404),
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


async def test_admin_rpcs_are_out_of_reach_over_tcp(node: Node) -> None:
    """An API key calls models only: administration over TCP is refused, with and without it."""
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        for metadata, reason in (
            ((("authorization", f"Bearer {node.api_key}"),), "API_KEY_NOT_ACCEPTED"),
            ((), "MISSING_API_KEY"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await KeysServiceStub(channel).ListKeys(
                    keys_service_pb2.ListKeysRequest(parent="organizations/-"), metadata=metadata
                )
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert reason_of(caught.value) == reason


def reason_of(failure: grpc.aio.AioRpcError) -> str:
    """The reason in the details of a failure."""
    pairs: dict[str, Any] = dict(failure.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(pairs["grpc-status-details-bin"]).details[0].Unpack(info)
    return str(info.reason)


async def test_models_over_grpc(node: Node) -> None:
    """The public view of the models is the one of REST."""
    metadata = (("authorization", f"Bearer {node.api_key}"),)
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        stub = ModelsServiceStub(channel)
        answer = await stub.ListModels(models_service_pb2.ListModelsRequest(page_size=1000), metadata=metadata)
    listed = json.loads((await ask(f"{node.base_url}/models", key=node.api_key))[2])["data"]
    assert len(answer.models) == len(listed)
    assert {model["id"] for model in listed} >= {"demo-echo", "acme/sim"}


async def test_assertions_of_callers_are_not_believed(node: Node) -> None:
    """Who is not the facade cannot say on which surface or from where a call came."""
    forged = caller_pb2.CallerAssertion(request_id="req_forgedforgedforgedforged00", surface=errors_pb2.SURFACE_CHAT)
    metadata = (
        ("authorization", f"Bearer {node.api_key}"),
        ("x-tokendance-caller-bin", forged.SerializeToString()),
    )
    request = completions.CreateCompletionRequest(completion=completion_request("sim"))
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        call = CompletionsServiceStub(channel).CreateCompletion(request, metadata=metadata)
        await call
        request_id = str(dict(await call.trailing_metadata())["x-request-id"])
    assert request_id != forged.request_id
    until(lambda: bool(lines_of(node, request_id)))
    (line,) = lines_of(node, request_id)
    assert line["surface"] == "grpc"
    assert forged.request_id not in node.text


def lines_of(node: Node, request_id: str) -> list[Any]:
    """The log lines of one request."""
    return [json.loads(line) for line in node.text.splitlines() if f'"{request_id}"' in line]


async def test_one_log_line_a_request(node: Node) -> None:
    """A request over REST is logged once in the whole node, with what an operator looks for and no content."""
    seen = await rest(node, "sim", stream=True, user="prompt-canary")
    until(lambda: bool(lines_of(node, seen.request_id)))
    (line,) = lines_of(node, seen.request_id)
    assert (line["surface"], line["model"], line["code"]) == ("chat", "sim", "ok")
    assert line["key"].startswith("key_")
    assert line["duration_ms"] >= line["upstream_ms"] >= 0
    assert "prompt-canary" not in json.dumps(line)
