"""gRPC as other services call it: our client, the bare stubs, errors, and what TCP does not reach."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from tests.e2e.calls import completion_request, rpc
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import Node
from tests.e2e.operator_cli import create_key
from tests.e2e.test_listeners import ask, lines_of
from tests.e2e.upstream import until

from tokendance import Client, GatewayError, text_of
from tokendance.gateway.v1 import caller_pb2, errors_pb2, keys_service_pb2, models_service_pb2
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as completions
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub

MESSAGE_LIMIT_BYTES = 40 * 1024 * 1024


def test_our_client(node: Node) -> None:
    """Whole answers, streams, vectors and errors, with no more than a target and a key."""
    with Client(node.grpc, api_key=node.api_key) as client:
        assert text_of(client.complete("sim", "Hello")) == SENTENCE
        stream = client.stream("sim", "Hello")
        assert "".join(stream.texts()) == SENTENCE
        assert stream.finished is not None
        assert stream.finished.usage.output_tokens == 9
        assert stream.request_id is not None
        assert stream.request_id.startswith("req_")
        vectors = client.embed("sim-embed", ["one", "two"])
        assert [vector.index for vector in vectors.embeddings] == [0, 1]
        with pytest.raises(GatewayError) as caught:
            client.complete("fault:status:code=429", "Hello")
    error = caught.value
    assert (error.code, error.retryable, error.retry_after_s) == ("provider_rate_limited", True, 1)
    assert error.request_id is not None
    assert error.request_id.startswith("req_")


ERRORS: dict[str, tuple[str, dict[str, Any]]] = {
    "model_not_found": ("NOT_FOUND", {"model": "no-such-model"}),
    "invalid_request": ("INVALID_ARGUMENT", {"sampling": pb.Sampling(temperature=3)}),
    "unsupported_parameter": ("INVALID_ARGUMENT", {"model": "demo-echo", "modalities": [pb.MODALITY_AUDIO]}),
    "invalid_api_key": ("UNAUTHENTICATED", {"key": "tdk_wrong"}),
}


@pytest.mark.parametrize("code", ERRORS)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors(node: Node, code: str, stream: bool) -> None:
    """Each refusal has its status, its reason and the request id."""
    status, fields = ERRORS[code]
    asked: dict[str, Any] = {"model": "sim", "stream": stream} | fields
    seen = await rpc(node, **asked)
    assert (seen.status, seen.code) == (status, code)
    assert seen.request_id.startswith("req_")
    assert not seen.began


async def test_model_not_allowed(node: Node) -> None:
    """A key with allowed models is refused any other."""
    _, narrow = await asyncio.to_thread(create_key, node.data_dir, "One model", "--allow-model", "sim")
    assert (await rpc(node, "sim", stream=False, key=narrow)).text == SENTENCE
    seen = await rpc(node, "sim-echo", stream=False, key=narrow)
    assert (seen.status, seen.code) == ("PERMISSION_DENIED", "model_not_allowed")


async def test_message_that_is_too_large(node: Node) -> None:
    """A request beyond the limit is refused as it arrives, and the connection serves the next one."""
    seen = await rpc(node, "sim", stream=False, extra_json="x" * MESSAGE_LIMIT_BYTES)
    assert seen.status == "RESOURCE_EXHAUSTED"
    assert (await rpc(node, "sim", stream=False)).text == SENTENCE


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
