"""The Responses wire over a real socket against an upstream that misbehaves: a whole answer, or an error that is meant.

Each stream goes on through the facade's encoder, so that what a caller of the same dialect sees is held, too.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from tests.open_responses import read_events
from tests.server.providers.byte_servers import LOOPBACK, PROVIDER

from dev.simulator import Simulator
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.responses.request import ResponsesCall, decode
from tokendance_facade.dialects.responses.stream import ResponsesStreamEncoder
from tokendance_server.domain.upstream import UpstreamCall
from tokendance_server.providers.relay import HttpUpstream
from tokendance_server.providers.transport import Transport, open_transport
from tokendance_server.providers.wire_formats import WIRE_FORMATS

SENTENCE = "The quick brown fox jumps over the lazy dog."
WHOLE = (
    "sim",
    "fault:crlf",
    "fault:crlf:ends=cr",
    "fault:comments",
    "fault:split-utf8",
    "fault:framing:form=bom",
    "fault:framing:form=no-space",
    "fault:framing:form=two-lines",
    "fault:framing:form=ids",
    "fault:framing:form=ping",
    "fault:framing:form=empty-data",
    "fault:framing:form=u2028",
    "fault:drip",
    "fault:usage-missing",
    "fault:usage-negative",
    "fault:usage-absurd",
    "fault:usage-absurd:value=NaN",
    "fault:reasoning",
)
BROKEN = {
    "fault:cut": "stream_interrupted",
    "fault:cut-clean": "stream_interrupted",
    "fault:reset-after": "stream_interrupted",
    "fault:no-finish": "stream_interrupted",
    "fault:malformed-sse": "provider_error",
    "fault:malformed-sse:form=bad-utf8": "provider_error",
    "fault:malformed-sse:form=array": "provider_error",
    "fault:error-event": "provider_error",
    "fault:error-event:form=flat": "provider_error",
    "fault:error-event:form=done": "provider_error",
    "fault:html:code=200": "provider_error",
    "fault:wrong-type": "provider_error",
    "fault:empty": "provider_error",
    "fault:status:code=400": "provider_rejected",
    "fault:status:code=429": "provider_rate_limited",
    "fault:status:code=503": "provider_error",
    "fault:status:code=400:reason=context_length_exceeded": "context_length_exceeded",
    "fault:finish:reason=content_filter": "",
}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """An upstream that misbehaves on demand."""
    async with Simulator() as opened:
        yield opened


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport that is closed afterwards."""
    made = open_transport("lean", LOOPBACK)
    yield made
    await made.close()


def asked() -> ResponsesCall:
    """A decoded request."""
    return decode(b'{"model": "m", "input": "Hi", "stream": true}')


async def streamed(simulator: Simulator, transport: Transport, model: str) -> tuple[str, str]:
    """Return the text that a caller is shown, and the code of the error that it is shown at the end, if any."""
    provider = dataclasses.replace(PROVIDER, base_url=simulator.base_url)
    upstream = HttpUpstream(WIRE_FORMATS["openai"](["responses"]), transport, provider)
    call = asked()
    encoder = ResponsesStreamEncoder(call, spare_id="resp_1", now=lambda: 2**31)
    out: list[bytes] = []
    failure: GatewayError | None = None
    deadline = asyncio.get_running_loop().time() + 5
    batches = upstream.stream(call.completion, UpstreamCall(model, deadline, "req_1"))
    try:
        async for events in batches:
            out.append(encoder.feed(events))  # noqa: PERF401 - what came before a failure is kept
    except GatewayError as error:
        failure = error
    if failure is not None:
        assert failure.origin == "provider"
        assert "canary" not in failure.message
        failed = {"message": failure.message, "type": "server_error", "param": None, "code": failure.code}
        out.append(encoder.fail(failed, None))
    code = failure.code if failure is not None else ""
    told = read_events(b"".join(out).decode())
    answer = told[-1]["response"]
    assert answer["status"] == ("failed" if code else answer["status"])
    return "".join(event["delta"] for event in told if event["type"] == "response.output_text.delta"), code


@pytest.mark.parametrize("model", WHOLE)
async def test_what_is_lawful_is_read(simulator: Simulator, transport: Transport, model: str) -> None:
    """However oddly it is sent."""
    text, code = await streamed(simulator, transport, model)
    assert code == ""
    assert text
    if "u2028" not in model and "utf8" not in model:
        assert text == SENTENCE


@pytest.mark.parametrize("model", BROKEN)
async def test_what_breaks_is_an_error(simulator: Simulator, transport: Transport, model: str) -> None:
    """Never half an answer as a whole one."""
    text, code = await streamed(simulator, transport, model)
    assert code == BROKEN[model]
    assert SENTENCE.startswith(text)


@pytest.mark.parametrize("model", ["sim", "fault:comments", "fault:usage-missing"])
async def test_a_whole_answer_is_read(simulator: Simulator, transport: Transport, model: str) -> None:
    """The same in one message."""
    provider = dataclasses.replace(PROVIDER, base_url=simulator.base_url)
    upstream = HttpUpstream(WIRE_FORMATS["openai"](["responses"]), transport, provider)
    deadline = asyncio.get_running_loop().time() + 5
    completion = await upstream.complete(asked().completion, UpstreamCall(model, deadline, "req_1"))
    assert completion.choices[0].message.parts[0].text.text == SENTENCE
    assert completion.usage.input_tokens > 0
    assert (completion.usage.source == pb.USAGE_SOURCE_PROVIDER) == ("missing" not in model)
    assert "canary" not in completion.extra_json
