"""What every call passes through, over either channel and by every degree of trust."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog.testing
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from tests.server.services.edge import (
    AUTHORIZATION,
    KEY,
    PROMPT,
    SECRET_CAUSE,
    Edge,
    ask,
    completion,
    open_edge,
    stream,
    unary,
    until,
)

from tokendance.gateway.v1 import completion_pb2, completions_service_pb2, errors_pb2
from tokendance.gateway.v1.caller_pb2 import CallerAssertion
from tokendance.rpc import CALLER_KEY, REQUEST_ID_KEY, STATUS_DETAILS_KEY, from_rpc
from tokendance_server.services.call import Trust
from tokendance_server.telemetry import configure_logging

METADATA = (AUTHORIZATION,)
MINTED = re.compile(r"req_[0-9a-z]{26}")
FORGED_ID = "req_" + "f" * 26
ASSERTION = CallerAssertion(
    request_id=FORGED_ID,
    surface=errors_pb2.SURFACE_CHAT,
    address="203.0.113.9",
    user_agent="curl/8",
    client_kind="openai-python",
    client_version="3.50",
    http_route="POST /v1/chat/completions",
)
FIELDS = [field.name for field in CallerAssertion.DESCRIPTOR.fields]


def _asserting(assertion: CallerAssertion | bytes) -> tuple[tuple[str, str | bytes], ...]:
    packed = assertion if isinstance(assertion, bytes) else assertion.SerializeToString()
    return (AUTHORIZATION, (CALLER_KEY, packed))


async def test_each_call_gets_a_request_id_of_its_own(edge: Edge) -> None:
    """The caller and the servicer see the same one."""
    seen = set()
    for _ in range(3):
        call = edge.stub.CreateCompletion(unary("echo"), metadata=METADATA)
        await call
        request_id = dict(await call.trailing_metadata())[REQUEST_ID_KEY]
        assert MINTED.fullmatch(str(request_id))
        assert edge.servicer.calls[-1].request_id == request_id
        seen.add(request_id)
    assert len(seen) == 3


async def test_a_caller_cannot_choose_its_request_id(edge: Edge) -> None:
    """The metadata of the answer is no metadata of the request."""
    await ask(edge, "unary", "echo", metadata=(AUTHORIZATION, (REQUEST_ID_KEY, FORGED_ID)))
    assert edge.servicer.calls[0].request_id != FORGED_ID


async def test_the_facades_word_counts(kind: str) -> None:
    """Whatever the facade asserts of its caller, the servicer gets."""
    async with open_edge(kind, trust=Trust.FACADE) as edge:
        await ask(edge, "unary", "echo", metadata=_asserting(ASSERTION))
        call = edge.servicer.calls[0]
        assert call.request_id == FORGED_ID
        assert call.surface == errors_pb2.SURFACE_CHAT
        assert call.caller == ASSERTION
        assert call.address == "203.0.113.9"


@pytest.mark.parametrize("field", [*FIELDS, "all"])
@pytest.mark.parametrize("trust", [Trust.NETWORK, Trust.OPERATOR])
async def test_nobody_elses_word_counts(kind: str, trust: Trust, field: str) -> None:
    """Not one field of a forged assertion is believed from the network or from the administration socket."""
    forged = ASSERTION if field == "all" else CallerAssertion(**{field: getattr(ASSERTION, field)})
    async with open_edge(kind, trust=trust) as edge:
        with structlog.testing.capture_logs() as lines:
            await ask(edge, "unary", "echo", metadata=_asserting(forged))
            await edge.at_rest()
        call = edge.servicer.calls[0]
        assert call.caller is None
        assert call.request_id != FORGED_ID
        assert MINTED.fullmatch(call.request_id)
        assert call.surface == errors_pb2.SURFACE_GRPC
        assert call.address in ("", "127.0.0.1")
        assert [line["surface"] for line in lines] == ["grpc"]
        assert [labels["surface"] for labels in edge.ended()] == ["grpc"]
        assert "openai-python" not in str(lines)
        assert FORGED_ID not in str(lines)


@pytest.mark.parametrize("request_id", ["", "x", FORGED_ID.upper(), FORGED_ID + "0", FORGED_ID + "\n"])
async def test_an_odd_request_id_is_replaced(kind: str, request_id: str) -> None:
    """Also the facade's: only what we could have minted goes into logs and metadata; the rest is believed."""
    assertion = CallerAssertion(request_id=request_id, client_kind="openai-node")
    async with open_edge(kind, trust=Trust.FACADE) as edge:
        await ask(edge, "unary", "echo", metadata=_asserting(assertion))
        assert MINTED.fullmatch(edge.servicer.calls[0].request_id)
        assert edge.servicer.calls[0].caller == assertion


@pytest.mark.parametrize("packed", [b"\xff", b"\x0a\xff", b"\x0a\x02\xc3\x28", b"\x00"], ids=repr)
async def test_a_malformed_assertion_is_as_none(kind: str, packed: bytes) -> None:
    """The call goes on, with an id of its own."""
    async with open_edge(kind, trust=Trust.FACADE) as edge:
        await ask(edge, "unary", "echo", metadata=_asserting(packed))
        assert edge.servicer.calls[0].caller is None
        assert MINTED.fullmatch(edge.servicer.calls[0].request_id)


@pytest.mark.parametrize("rpc", ["unary", "stream"])
async def test_a_full_gateway_says_when_to_come_back(kind: str, rpc: str) -> None:
    """gateway_overloaded with RetryInfo; the calls that run are not disturbed, and one that ends makes room."""
    async with open_edge(kind, in_flight=1) as edge:
        running = edge.stub.CreateCompletion(unary("sleep:0.3"), metadata=METADATA)
        await until(lambda: edge.servicer.held == 1)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(edge, rpc, "echo")
        error = from_rpc(raised.value)
        assert (error.code, error.retry_after_s) == ("gateway_overloaded", 1)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert MINTED.fullmatch(error.request_id or "")
        await running
        await ask(edge, rpc, "echo")
        await edge.at_rest()


@pytest.mark.parametrize("rpc", ["unary", "stream"])
async def test_a_node_that_stops_sends_new_calls_elsewhere(kind: str, rpc: str) -> None:
    """service_stopping with RetryInfo; what runs, runs on to its end."""
    async with open_edge(kind) as edge:
        running = edge.stub.CreateCompletion(unary("sleep:0.2"), metadata=METADATA)
        await until(lambda: edge.servicer.held == 1)
        edge.admission.drain()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(edge, rpc, "echo")
        error = from_rpc(raised.value)
        assert (error.code, error.retry_after_s) == ("service_stopping", 1)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await running


def _without_role() -> completions_service_pb2.CreateCompletionRequest:
    request = unary("echo")
    request.completion.messages.add()
    return request


def _hot() -> completions_service_pb2.CreateCompletionRequest:
    request = unary("echo")
    request.completion.sampling.temperature = 2.5
    return request


def _long_label() -> completions_service_pb2.CreateCompletionRequest:
    request = unary("echo")
    request.completion.metadata["name"] = "x" * 513
    return request


INVALID = {
    "nothing": (completions_service_pb2.CreateCompletionRequest(), "completion"),
    "no model": (
        completions_service_pb2.CreateCompletionRequest(
            completion=completion_pb2.CompletionRequest(messages=completion("").messages)
        ),
        "completion.model",
    ),
    "no messages": (
        completions_service_pb2.CreateCompletionRequest(completion=completion_pb2.CompletionRequest(model="m")),
        "completion.messages",
    ),
    "in a list": (_without_role(), "completion.messages[1].role"),
    "nested": (_hot(), "completion.sampling.temperature"),
    "in a map": (_long_label(), "completion.metadata[name]"),
}


@pytest.mark.parametrize(("request_", "param"), INVALID.values(), ids=INVALID.keys())
@pytest.mark.parametrize("trust", [Trust.NETWORK, Trust.OPERATOR])
async def test_a_broken_rule_names_the_field(kind: str, trust: Trust, request_: Any, param: str) -> None:
    """The path is the caller's own spelling, in BadRequest and in the message; the servicer does not run."""
    async with open_edge(kind, trust=trust) as edge:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await edge.stub.CreateCompletion(request_, metadata=METADATA)
        error = from_rpc(raised.value)
        assert (error.code, error.param, error.origin) == ("invalid_request", param, "caller")
        assert error.message.startswith(param)
        assert error.metadata["rule"]
        assert edge.servicer.started == 0
        assert PROMPT not in str(raised.value)
        status = status_pb2.Status.FromString(dict(raised.value.trailing_metadata())[STATUS_DETAILS_KEY])
        assert any(detail.Is(error_details_pb2.BadRequest.DESCRIPTOR) for detail in status.details)


async def test_the_facades_model_calls_are_not_checked_twice(kind: str) -> None:
    """Its decoders hold the same bounds; only it is spared the second look."""
    async with open_edge(kind, trust=Trust.FACADE) as edge:
        await edge.stub.CreateCompletion(INVALID["nested"][0], metadata=METADATA)
        assert edge.servicer.started == 1


async def test_who_may_not_call_learns_nothing_of_the_rules(edge: Edge) -> None:
    """The credential comes first, then the request."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await edge.stub.CreateCompletion(INVALID["nothing"][0])
    assert from_rpc(raised.value).code == "missing_api_key"


@pytest.mark.parametrize(
    ("rpc", "behaviour", "code"),
    [
        ("unary", "echo", "ok"),
        ("unary", "fail", "provider_rate_limited"),
        ("unary", "crash", "internal_error"),
        ("unary", "absent", "unimplemented"),
        ("stream", "echo", "ok"),
        ("stream", "fail", "provider_rate_limited"),
        ("stream after 2", "fail", "provider_rate_limited"),
        ("stream after 2", "crash", "internal_error"),
    ],
)
async def test_each_call_is_told_of_in_one_line_without_secrets(
    edge: Edge, rpc: str, behaviour: str, code: str
) -> None:
    """Id, method, surface, code, model and key id; neither the key, nor the prompt, nor an answer."""
    with structlog.testing.capture_logs() as lines:
        try:
            await ask(edge, rpc, behaviour)
        except grpc.aio.AioRpcError:
            assert code != "ok"
        await edge.at_rest()
    told = [line for line in lines if line["event"] == "request"]
    assert len(told) == 1
    line = told[0]
    method = "CreateCompletion" if rpc == "unary" else "StreamCompletion"
    assert line["request_id"] == edge.servicer.calls[0].request_id
    assert line["method"] == f"/tokendance.gateway.v1.CompletionsService/{method}"
    assert (line["code"], line["surface"]) == (code, "grpc")
    assert line["model"] == ("echo" if behaviour == "echo" else "other")
    assert (line["key"], line["organization"]) == ("good", "organizations/acme")
    assert 0 <= line["upstream_ms"] <= line["duration_ms"] < 5000
    assert PROMPT not in str(lines)
    assert KEY not in str(lines)
    assert SECRET_CAUSE not in str(told)
    causes = [line for line in lines if line["event"] == "internal_error"]
    assert [SECRET_CAUSE in repr(line["exc_info"]) for line in causes] == ([True] if behaviour == "crash" else [])


async def test_a_refused_call_is_told_of_too(edge: Edge) -> None:
    """Without a key to name, and without the credential that was tried."""
    with structlog.testing.capture_logs() as lines, pytest.raises(grpc.aio.AioRpcError):
        await ask(edge, "unary", "echo", metadata=(("authorization", "Bearer tdk_guess"),))
    assert [(line["code"], line["key"]) for line in lines] == [("invalid_api_key", "")]
    assert "tdk_guess" not in str(lines)


async def test_a_model_that_nobody_knows_is_not_repeated(edge: Edge) -> None:
    """Callers cannot make the metrics grow, nor put a key that they pasted into the wrong field into the log."""
    with structlog.testing.capture_logs() as lines:
        for number in range(20):
            await ask(edge, "unary", f"made-up-{number}")
        await ask(edge, "unary", "echo")
        await edge.at_rest()
    assert "made-up" not in str(lines)
    assert {labels["model"] for labels in edge.ended()} == {"other", "echo"}


async def test_a_surface_that_nobody_knows_makes_no_label(kind: str) -> None:
    """Enums are open: a number of a newer facade is `unspecified`."""
    async with open_edge(kind, trust=Trust.FACADE) as edge:
        for number in (0, 77, 78):
            await ask(edge, "unary", "echo", metadata=_asserting(b"\x10" + bytes([number])))
        await edge.at_rest()
        assert {labels["surface"] for labels in edge.ended()} == {"unspecified"}


async def test_every_call_is_counted_in_and_out(edge: Edge) -> None:
    """However it ends: well, badly, refused, out of time, or left by its caller."""
    calls = [
        edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA),
        edge.stub.CreateCompletion(unary("sleep:60"), metadata=METADATA, timeout=2),
        edge.stub.CreateCompletion(unary("fail"), metadata=METADATA),
        edge.stub.CreateCompletion(unary("crash"), metadata=METADATA),
        edge.stub.CreateCompletion(unary("echo")),
    ]
    reading = edge.stub.StreamCompletion(stream("hang:1"), metadata=METADATA)
    await reading.read()
    # The short ones first: while they run they could be taken for the long ones.
    await asyncio.gather(*calls[2:], return_exceptions=True)
    await until(lambda: edge.in_flight() == 3)
    calls[0].cancel()
    reading.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await edge.at_rest()
    counted = sorted(labels["code"] for labels in edge.ended())
    assert counted == [
        "cancelled", "cancelled", "deadline_exceeded", "internal_error", "missing_api_key", "provider_rate_limited",
    ]  # fmt: skip


async def test_the_log_of_an_internal_error_holds_no_prompt(kind: str) -> None:
    """As it is written in production: the cause and where it came from, but no variable of any frame."""
    written = io.StringIO()
    before = structlog.get_config()
    log = logging.getLogger()
    handlers, level = log.handlers[:], log.level
    try:
        configure_logging("debug", written)
        async with open_edge(kind) as edge:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(edge, "stream after 2", "crash")
            await edge.at_rest()
            await asyncio.sleep(0)  # the lines of one turn leave at its end
    finally:
        structlog.configure(**before)
        log.handlers[:] = handlers
        log.setLevel(level)
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["internal_error", "request"]
    assert SECRET_CAUSE in lines[0]["exception"]
    assert lines[0]["request_id"] == lines[1]["request_id"] == edge.servicer.calls[0].request_id
    assert PROMPT not in written.getvalue()
    assert KEY not in written.getvalue()
