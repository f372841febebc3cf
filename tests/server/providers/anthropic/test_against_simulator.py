"""An upstream of Messages over HTTP against one that misbehaves: what the domain sees of each fault, and never sees."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
import pytest
from tests.server.providers.test_relay import LOOPBACK, SENTENCE, Rig, call, config, request, streamed, unary

from dev.simulator import Simulator
from dev.simulator.faults import FAULTS
from tokendance_server.providers.anthropic import AnthropicCodec
from tokendance_server.providers.relay import HttpUpstream
from tokendance_server.providers.transport import open_transport


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """An upstream of little patience, with small limits."""
    transport = open_transport("lean", LOOPBACK, answer_bytes=4 * 1024 * 1024)
    async with Simulator() as sim:
        codec = AnthropicCodec(event_bytes=1024 * 1024)
        yield Rig(HttpUpstream(codec, transport, config(sim.base_url)), sim, transport)
        await transport.close()


# model name -> (answer in one message or code, text of the stream and its code). The third event has no text yet.
GOOD = (SENTENCE, (SENTENCE, ""))
BROKEN = ("provider_error", ("", "provider_error"))
CUT = ("provider_error", ("", "stream_interrupted"))
BUSY = ("provider_unavailable", ("", "provider_unavailable"))
TIMEOUT = ("provider_timeout", ("", "provider_timeout"))
UMLAUTS = "Grüße, 世界! 🌍 naïve café — ünïcödé 🚀 done."
OUTCOMES = {
    "fault:status": ("provider_rate_limited", ("", "provider_rate_limited")),
    "fault:status:code=400": ("provider_rejected", ("", "provider_rejected")),
    "fault:status:code=401": BUSY,
    "fault:status:code=529": BUSY,
    "fault:status:code=400:reason=context_length_exceeded": (
        "context_length_exceeded",
        ("", "context_length_exceeded"),
    ),
    "fault:status:code=502:envelope=html": BROKEN,
    "fault:fail-first:n=9": BUSY,
    "fault:flaky:every=1": BROKEN,
    "fault:reset": BROKEN,
    "fault:reset-after": CUT,
    "fault:stall": TIMEOUT,
    "fault:stall-after:n=0": TIMEOUT,
    "fault:stall-after:n=5": ("provider_timeout", ("The quick", "provider_timeout")),
    "fault:cut:n=5": ("provider_error", ("The quick", "stream_interrupted")),
    "fault:cut-clean": CUT,
    "fault:truncated": ("provider_error", (SENTENCE, "")),
    "fault:malformed-sse": BROKEN,
    "fault:malformed-json:form=bad-utf8": BROKEN,
    "fault:malformed-json:form=deep": BROKEN,
    "fault:malformed-json:form=null": BROKEN,
    "fault:huge-line": BROKEN,
    "fault:huge-headers": BROKEN,
    "fault:gzip-bomb": BROKEN,
    "fault:slow-headers": TIMEOUT,
    "fault:slow-tokens:gap=0.02": GOOD,
    "fault:drip": GOOD,
    "fault:html": BROKEN,
    "fault:html:code=200": BROKEN,
    "fault:wrong-type": BROKEN,
    "fault:wrong-type:as=text": BROKEN,
    "fault:error-body": BROKEN,
    "fault:error-event": BROKEN,
    "fault:error-event:n=5": ("provider_error", ("The quick", "provider_error")),
    "fault:error-event:reason=overloaded_error": BUSY,
    "fault:empty": BROKEN,
    "fault:redirect": BROKEN,
    "fault:not-http": BROKEN,
    "fault:reset-on-reuse": GOOD,
    "fault:usage-missing": GOOD,
    "fault:usage-negative": GOOD,
    "fault:usage-twice": GOOD,
    "fault:usage-absurd:value=NaN": GOOD,
    "fault:usage-float": GOOD,
    "fault:usage-place": GOOD,
    "fault:no-done": GOOD,
    "fault:no-finish": GOOD,
    "fault:finish": GOOD,
    "fault:prelude": GOOD,
    "fault:sparse": GOOD,
    "fault:crlf:ends=mix": GOOD,
    "fault:comments": GOOD,
    "fault:split-utf8": (UMLAUTS, (UMLAUTS, "")),
    "fault:framing": GOOD,
    "fault:framing:form=ids": GOOD,
    "fault:framing:form=no-space": GOOD,
    "fault:framing:form=two-lines": GOOD,
    "fault:framing:form=u2028": ("One\u2028two\u2029three\u0085four.", ("One\u2028two\u2029three\u0085four.", "")),
    "fault:reasoning": GOOD,
    "fault:tool-quirks:base=sim": GOOD,
}


def test_every_fault_has_an_outcome() -> None:
    """One that the simulator learns must be looked at here, too; these two have tests of their own."""
    assert {name.split(":")[1] for name in OUTCOMES} == FAULTS.keys() - {"more-tokens", "huge-body"}


async def test_a_body_without_end_is_cut_at_the_limit(rig: Rig) -> None:
    """Of one document, and of pings without end, which say nothing."""
    assert await unary(rig, "fault:huge-body:mb=8") == "provider_error"
    text, code = await streamed(rig, "fault:huge-body:mb=8")
    assert text == ""
    assert code in ("provider_error", "provider_timeout")


async def test_tokens_over_the_cap_are_told(rig: Rig) -> None:
    """They have been paid for."""
    text = await unary(rig, "fault:more-tokens")
    assert len(text.split()) == 4096 + 20
    assert await streamed(rig, "fault:more-tokens") == (text, "")


@pytest.mark.parametrize("model", OUTCOMES)
async def test_each_fault_has_its_outcome(rig: Rig, model: str) -> None:
    """In one message and as a stream."""
    in_one_message, as_a_stream = OUTCOMES[model]
    assert await unary(rig, model) == in_one_message
    assert await streamed(rig, model) == as_a_stream


async def test_only_our_own_headers_go_upstream(rig: Rig) -> None:
    """The credential in its header, the version, the types, and no way to pack the answer."""
    await rig.upstream.complete(request(), call("sim"))
    sent = dict(rig.sim.log[-1].headers)
    assert sent.pop("host") == f"127.0.0.1:{rig.sim.port}"
    assert sent.pop("content-length").isdecimal()
    assert sent == {
        "x-api-key": "sk-credential-canary",
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "tokendance-gateway",
    }


@pytest.mark.parametrize(("own", "sent"), [(8000, 8000), (None, 4096)])
async def test_a_missing_cap_is_the_models_own(rig: Rig, own: int | None, sent: int) -> None:
    """Streamed or not: the upstream must be told one."""
    asked = call("sim")
    asked = type(asked)(model=asked.model, deadline=asked.deadline, request_id="req_1", output_cap=own)
    await rig.upstream.complete(request(), asked)
    async for _ in rig.upstream.stream(request(), asked):
        pass
    assert [orjson.loads(record.body)["max_tokens"] for record in rig.sim.log] == [sent, sent]
