"""Errors over either channel: the same type, the same details, and nothing of the cause."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from tests.server.services.edge import (
    AUTHORIZATION,
    SECRET_CAUSE,
    Edge,
    UnaryAnswer,
    UnaryRequest,
    ask,
    failure,
    stream,
    unary,
)

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completions_service_pb2
from tokendance.rpc import REQUEST_ID_KEY, STATUS_DETAILS_KEY, from_rpc

METADATA = (AUTHORIZATION,)
CallKind = pytest.mark.parametrize("rpc", ["unary", "stream", "stream after 2"])


@CallKind
async def test_an_error_arrives_with_every_detail(edge: Edge, rpc: str) -> None:
    """ErrorInfo, RequestInfo, BadRequest and RetryInfo, before the first message and in the middle of a stream."""
    raised = await _raised(edge, rpc, "fail")
    error, sent = from_rpc(raised), failure()
    assert error.request_id == edge.servicer.calls[0].request_id
    assert _content(error) == _content(sent)
    assert raised.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert raised.details() == sent.message
    assert dict(raised.trailing_metadata())[REQUEST_ID_KEY] == error.request_id
    await edge.at_rest()


@CallKind
async def test_the_cause_of_an_internal_error_stays_inside(edge: Edge, rpc: str) -> None:
    """The caller gets a request id for support, and no word of what happened."""
    raised = await _raised(edge, rpc, "crash")
    error = from_rpc(raised)
    assert error.code == "internal_error"
    assert error.request_id == edge.servicer.calls[0].request_id
    assert raised.code() is grpc.StatusCode.INTERNAL
    assert SECRET_CAUSE not in _everything_seen(raised)
    await edge.at_rest()


@CallKind
async def test_the_cancellation_of_something_else_is_no_cancellation_of_the_call(edge: Edge, rpc: str) -> None:
    """A servicer whose helper was cancelled has failed; nobody has cancelled the caller."""
    raised = await _raised(edge, rpc, "stray")
    assert from_rpc(raised).code == "internal_error"
    await edge.at_rest()


@CallKind
async def test_a_status_cancelled_from_the_server_is_an_error_like_any_other(edge: Edge, rpc: str) -> None:
    """Only a caller's own cancellation reaches its code as CancelledError."""
    raised = await _raised(edge, rpc, "cancelled")
    assert raised.code() is grpc.StatusCode.CANCELLED
    assert from_rpc(raised).code == "cancelled"


@CallKind
async def test_what_is_not_served_says_so(edge: Edge, rpc: str) -> None:
    """NotImplementedError, which generated servicers raise, is `unimplemented`."""
    raised = await _raised(edge, rpc, "absent")
    assert from_rpc(raised).code == "unimplemented"
    assert from_rpc(raised).request_id == edge.servicer.calls[0].request_id
    assert raised.code() is grpc.StatusCode.UNIMPLEMENTED
    assert SECRET_CAUSE not in _everything_seen(raised)


async def test_an_rpc_that_the_servicer_leaves_out_is_not_served(edge: Edge) -> None:
    """The generated method answers for it."""
    request = completions_service_pb2.CountTokensRequest(completion=unary("echo").completion)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await edge.stub.CountTokens(request, metadata=METADATA)
    assert from_rpc(raised.value).code == "unimplemented"


@CallKind
async def test_a_long_error_still_arrives_typed(edge: Edge, rpc: str) -> None:
    """Callers bound the metadata that they take, 8 KiB at most of them: an error must fit, or it is lost."""
    raised = await _raised(edge, rpc, "long")
    error = from_rpc(raised)
    assert error.code == "provider_error"
    assert error.request_id == edge.servicer.calls[0].request_id
    assert error.message.startswith("üüü")
    sizes = (len(key) + len(value) + 32 for key, value in raised.trailing_metadata())
    assert sum(sizes) + 3 * len((raised.details() or "").encode()) < 8192


@pytest.mark.parametrize("rpc", ["unary", "stream"])
async def test_an_unknown_method_is_refused(edge: Edge, rpc: str) -> None:
    """A method that is not there, and a service that is not there, answer a typed error."""
    for path in ("/tokendance.gateway.v1.CompletionsService/Nothing", "/nothing.Service/Nothing"):
        raised = await _raised_by_path(edge, rpc, path)
        assert raised.code() is grpc.StatusCode.UNIMPLEMENTED
        assert from_rpc(raised).code == "unimplemented"
        assert (from_rpc(raised).request_id or "").startswith("req_")


async def test_a_status_that_a_servicer_sets_is_the_end(edge: Edge) -> None:
    """A status set by hand counts as raised, answer or not."""
    call = edge.stub.CreateCompletion(unary("status"), metadata=METADATA)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is await call.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == "not here"


async def test_a_failed_call_can_be_asked_again(edge: Edge) -> None:
    """Awaiting or reading once more raises the same error, with its details."""
    call = edge.stub.CreateCompletion(unary("fail"), metadata=METADATA)
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert _content(from_rpc(raised.value)) == _content(failure())
    reading = edge.stub.StreamCompletion(stream("fail"), metadata=METADATA)
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await reading.read()
        assert _content(from_rpc(raised.value)) == _content(failure())
    trailing = dict(await reading.trailing_metadata())
    assert isinstance(trailing[STATUS_DETAILS_KEY], bytes)


async def _raised(edge: Edge, rpc: str, behaviour: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ask(edge, rpc, behaviour)
    return raised.value


async def _raised_by_path(edge: Edge, rpc: str, path: str) -> grpc.aio.AioRpcError:
    make: Any = edge.channel.unary_unary if rpc == "unary" else edge.channel.unary_stream
    call = make(path, UnaryRequest.SerializeToString, UnaryAnswer.FromString)(unary("echo"), metadata=METADATA)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await (call if rpc == "unary" else call.read())
    return raised.value


def _content(error: GatewayError) -> tuple[object, ...]:
    return error.code, error.message, error.param, error.retry_after_s, error.metadata, error.origin


def _everything_seen(raised: grpc.aio.AioRpcError) -> str:
    causes: list[BaseException] = []
    cause: BaseException | None = raised
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return repr([*causes, raised.details(), *raised.trailing_metadata(), *raised.initial_metadata()])
