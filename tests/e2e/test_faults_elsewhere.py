"""The faults of an upstream as callers of /v1/completions and of embeddings see them, the latter over gRPC too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import grpc.aio
import pytest
from tests.e2e.calls import TIMEOUT_S, Seen, read_error, read_failure
from tests.e2e.fault_table import FAULTS, Answer
from tests.e2e.nodes import Node
from tests.e2e.test_faults import check_discreet, check_rest, check_rpc
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub

# One or two of each row of faults; what the upstream's answer is read with has been shown the others over chat.
COMMON = [
    *(
        "refused",
        "nameless",
        "silent",
        "fault:stall",
        "fault:stall-after",
        "fault:reset",
        "fault:cut",
        "fault:cut-clean",
    ),
    *("fault:truncated", "fault:malformed-json:form=text", "fault:malformed-json:form=bad-utf8"),
    *("fault:status:retry-after=7", "fault:status:code=400", "fault:status:code=529", "fault:html"),
    *("fault:html:code=200", "fault:error-body", "fault:empty", "fault:redirect", "fault:gzip-bomb"),
]
OF_STREAMS = [
    "fault:error-event",
    "fault:crlf:ends=mix",
    "fault:split-utf8",
    "fault:usage-twice",
    "fault:usage-missing",
]


async def post(node: Node, path: str, body: Mapping[str, Any]) -> Seen:
    """POST to a path of the node, read to the end."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers = {"authorization": f"Bearer {node.api_key}"}
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
        session.post(f"{node.base_url}/{path}", json=body) as answer,
    ):
        raw = await answer.text()
    head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items())
    seen = Seen(answer.status, headers=answer.headers, raw=f"{head}\n{raw}")
    seen.request_id = answer.headers.get("x-request-id", "")
    seen.retry_after = answer.headers.get("retry-after", "")
    streamed = answer.content_type == "text/event-stream"
    for document in raw.split("\n\n") if streamed else [raw]:
        payload = document.removeprefix("data: ")
        if payload == "[DONE]":
            seen.done = True
        elif payload and not payload.startswith(":"):
            _read(seen, json.loads(payload))
    if not streamed and not seen.code:
        seen.done = True
    return seen


def _read(seen: Seen, document: Mapping[str, Any]) -> None:
    if "error" in document:
        read_error(seen, document["error"])
        return
    seen.usage = document.get("usage") or seen.usage
    for choice in document.get("choices", ()):
        seen.text += choice["text"]
        seen.finish = choice["finish_reason"] or seen.finish


async def embed_rpc(node: Node, model: str) -> Seen:
    """CreateEmbeddings."""
    seen = Seen("OK")
    metadata = (("authorization", f"Bearer {node.api_key}"),)
    request = completions.CreateEmbeddingsRequest(embeddings=pb.EmbeddingsRequest(model=model, inputs=["Hello"]))
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        call: Any = CompletionsServiceStub(channel).CreateEmbeddings(request, metadata=metadata, timeout=TIMEOUT_S)
        try:
            await call
            seen.done = True
        except grpc.aio.AioRpcError as failure:
            read_failure(seen, failure)
    return seen


@pytest.mark.parametrize("model", [*COMMON, *OF_STREAMS])
async def test_faults_over_completions(node: Node, upstream: Upstream, model: str) -> None:
    """The same errors and whole answers as over chat."""
    unary, stream = FAULTS[model]
    body: dict[str, Any] = {"model": model, "prompt": "Hello"}
    streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
    seen = await asyncio.gather(post(node, "completions", body), post(node, "completions", streamed))
    check_rest(seen[0], unary, stream=False)
    check_rest(seen[1], stream, stream=True)
    for one in seen:
        check_discreet(one, upstream, model)
    until(lambda: upstream.busy() == 0)


@pytest.mark.parametrize("model", COMMON)
async def test_faults_over_embeddings(node: Node, upstream: Upstream, model: str) -> None:
    """Half a list of vectors is never taken for a whole one, over REST and gRPC."""
    expected, _ = FAULTS[model]
    assert not isinstance(expected, Answer)
    rest, rpc = await asyncio.gather(
        post(node, "embeddings", {"model": model, "input": "Hello"}), embed_rpc(node, model)
    )
    check_rest(rest, expected, stream=False)
    check_rpc(rpc, expected, stream=False)
    for one in (rest, rpc):
        check_discreet(one, upstream, model)
    until(lambda: upstream.busy() == 0)
