"""Gemini over HTTP against a server that insists on signatures, and one that misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest

from dev.simulator import Simulator
from dev.simulator.faults import FAULTS
from dev.simulator.openai.others import vector_of
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.upstream import Upstream, UpstreamCall
from tokendance_server.providers.azure import azure_codec
from tokendance_server.providers.gemini import GeminiCodec
from tokendance_server.providers.gemini.signatures import marked
from tokendance_server.providers.gemini.unsigned import UnsignedUpstream
from tokendance_server.providers.relay import HttpUpstream
from tokendance_server.providers.transport import Transport, open_transport

SENTENCE = "The quick brown fox jumps over the lazy dog."
CREDENTIAL = "gemini-credential-canary"


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """The connections of one test."""
    made = open_transport("lean", EgressPolicy(allow_loopback=True), answer_bytes=4 * 1024 * 1024)
    yield made
    await made.close()


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator of its own for each test."""
    async with Simulator() as simulator:
        yield simulator


def upstream(sim: Simulator, transport: Transport, *capabilities: str) -> HttpUpstream:
    """An upstream of little patience."""
    base_url = f"{sim.origin}/v1beta"
    provider = ProviderConfig(
        id="p", kind="gemini", base_url=base_url, credential=CREDENTIAL, first_byte_timeout_s=0.5, idle_timeout_s=0.3
    )
    return HttpUpstream(GeminiCodec(capabilities, event_bytes=1024 * 1024), transport, provider)


def call(model: str) -> UpstreamCall:
    """A call of a model of the simulator."""
    return UpstreamCall(model=model, deadline=asyncio.get_running_loop().time() + 30, request_id="req_1")


def request(text: str = "Hello there") -> pb.CompletionRequest:
    """A question."""
    return pb.CompletionRequest(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text=text))])])


async def unary(gemini: HttpUpstream, model: str) -> str:
    """The text of an answer, or the code of the error."""
    try:
        completion = await gemini.complete(request(), call(model))
    except GatewayError as error:
        check_scrubbed(error)
        return error.code
    return "".join(part.text.text for part in completion.choices[0].message.parts)


async def streamed(gemini: HttpUpstream, model: str) -> tuple[str, str]:
    """The text of a stream, and the code of the error that ended it, if one did."""
    events: list[pb.CompletionEvent] = []
    try:
        async for batch in gemini.stream(request(), call(model)):
            events += batch
    except GatewayError as error:
        check_scrubbed(error)
        return "".join(event.text.text for event in events), error.code
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1], kinds.count("finished")) == ("started", "finished", 1)
    return "".join(event.text.text for event in events), ""


def check_scrubbed(error: GatewayError) -> None:
    """No error holds a word of the upstream's."""
    for word in ("canary", "127.0.0.1", "Simulated"):
        assert word not in f"{error!r} {error.message} {error.metadata} {error.__cause__!r}"
    assert error.origin == "provider"


GOOD = (SENTENCE, (SENTENCE, ""))
BROKEN = ("provider_error", ("", "provider_error"))
MIDWAY = ("provider_error", ("The quick brown", "provider_error"))
CUT = ("provider_error", ("The quick brown", "stream_interrupted"))
UMLAUTS = "Grüße, 世界! 🌍 naïve café — ünïcödé 🚀 done."
MORE = f"{SENTENCE} {SENTENCE} {SENTENCE} The quick"
FAILED = ("stream_interrupted", (SENTENCE, "stream_interrupted"))

OUTCOMES: dict[str, tuple[str, tuple[str, str]]] = {
    "sim": GOOD,
    "fault:status:code=400": ("provider_rejected", ("", "provider_rejected")),
    "fault:status:code=400:reason=API_KEY_INVALID": ("provider_unavailable", ("", "provider_unavailable")),
    "fault:status:code=429": ("provider_rate_limited", ("", "provider_rate_limited")),
    "fault:status:code=429:envelope=flat": ("provider_rate_limited", ("", "provider_rate_limited")),
    "fault:status:code=429:reason=PER_DAY": ("provider_unavailable", ("", "provider_unavailable")),
    "fault:status:code=400:reason=context_length_exceeded": (
        "context_length_exceeded",
        ("", "context_length_exceeded"),
    ),
    "fault:status:code=503:envelope=html": BROKEN,
    "fault:cut": CUT,
    "fault:cut-clean": CUT,
    "fault:stall": ("provider_timeout", ("", "provider_timeout")),
    "fault:malformed-sse": MIDWAY,
    "fault:malformed-json:form=bad-utf8": MIDWAY,
    "fault:malformed-json:form=null": MIDWAY,
    "fault:huge-line": BROKEN,
    "fault:html:code=200": BROKEN,
    "fault:wrong-type": BROKEN,
    "fault:error-body": BROKEN,
    "fault:error-event": MIDWAY,
    "fault:error-event:form=field": MIDWAY,
    "fault:error-event:form=flat": MIDWAY,
    "fault:error-event:form=named": MIDWAY,
    "fault:error-event:form=text": MIDWAY,
    "fault:error-event:form=empty": CUT,
    "fault:empty": BROKEN,
    "fault:usage-missing": GOOD,
    "fault:usage-negative": GOOD,
    "fault:usage-twice": GOOD,
    "fault:usage-absurd:value=NaN": GOOD,
    "fault:usage-float": GOOD,
    "fault:usage-place": GOOD,
    "fault:no-done": GOOD,
    "fault:no-finish": (SENTENCE, (SENTENCE, "stream_interrupted")),
    "fault:finish": GOOD,
    "fault:finish:reason=MALFORMED_FUNCTION_CALL": FAILED,
    "fault:prelude": GOOD,
    "fault:sparse": GOOD,
    "fault:crlf:ends=mix": GOOD,
    "fault:comments": GOOD,
    "fault:framing:form=ping": ("The quick brown fox jumps over the lazy dog.", (SENTENCE, "")),
    "fault:reasoning": GOOD,
    "fault:fail-first:n=9": BROKEN,
    "fault:flaky:every=1": BROKEN,
    "fault:reset": BROKEN,
    "fault:reset-after": CUT,
    "fault:stall-after": ("provider_timeout", ("The quick brown", "provider_timeout")),
    "fault:truncated": ("provider_error", (SENTENCE, "stream_interrupted")),
    "fault:huge-headers": BROKEN,
    "fault:gzip-bomb:mb=2": BROKEN,
    "fault:slow-headers": ("provider_timeout", ("", "provider_timeout")),
    "fault:slow-tokens:gap=0.01": GOOD,
    "fault:drip": GOOD,
    "fault:redirect": BROKEN,
    "fault:not-http": BROKEN,
    "fault:reset-on-reuse": GOOD,
    "fault:split-utf8": (UMLAUTS, (UMLAUTS, "")),
    "fault:more-tokens": (MORE, (MORE, "")),
    "fault:tool-quirks:base=sim": GOOD,
}


def test_every_fault_has_an_outcome() -> None:
    """One that the simulator learns must be looked at here; the hugest body is the transport's affair."""
    assert {name.split(":")[1] for name in OUTCOMES if name.startswith("fault:")} == FAULTS.keys() - {"huge-body"}


@pytest.mark.parametrize("model", OUTCOMES)
async def test_each_fault_has_its_outcome(sim: Simulator, transport: Transport, model: str) -> None:
    """In one message and as a stream."""
    gemini = upstream(sim, transport)
    in_one_message, as_a_stream = OUTCOMES[model]
    assert await unary(gemini, model) == in_one_message
    assert await streamed(gemini, model) == as_a_stream


async def test_vectors_and_models_come_back(sim: Simulator, transport: Transport) -> None:
    """With the credential in the header of this dialect, and no other."""
    gemini = upstream(sim, transport)
    answer = await gemini.embed(pb.EmbeddingsRequest(inputs=["a", "b"], dimensions=4), call("sim-embed"))
    assert [len(one.float32_le) for one in answer.embeddings] == [16, 16] == [4 * len(vector_of("a", 4))] * 2
    assert answer.usage.source == pb.USAGE_SOURCE_PROVIDER
    assert "sim-tools" in await gemini.discover(call(""))
    sent = sim.log[-1].headers
    assert sent["x-goog-api-key"] == CREDENTIAL
    assert "authorization" not in sent


def from_grpc(events: list[pb.CompletionEvent]) -> list[pb.Part]:
    """The turn as a client of the canonical form keeps it: calls with their signatures."""
    return [
        pb.Part(
            tool_call=pb.ToolCall(
                id=one.tool_call.id,
                name=one.tool_call.name,
                arguments_json=one.tool_call.arguments,
                signature=one.tool_call.signature,
            )
        )
        for one in events
        if one.HasField("tool_call")
    ]


def from_chat(events: list[pb.CompletionEvent]) -> list[pb.Part]:
    """The turn as a chat client brings it back: the signature among the unknown fields of the call."""
    parts = from_grpc(events)
    for part in parts:
        if part.tool_call.signature:
            google = {"thought_signature": "c2lnbmVkIGJ5IHRoZSBzaW11bGF0b3I6IGdldF93ZWF0aGVy"}
            part.extra_json = json.dumps({"extra_content": {"google": google}})
            part.tool_call.signature = b""
    return parts


def from_messages(events: list[pb.CompletionEvent]) -> list[pb.Part]:
    """The turn as a client of blocks of thinking brings it back: the signature with the reasoning only."""
    parts = from_grpc(events)
    for part in parts:
        part.tool_call.signature = b""
    signature = "".join(one.reasoning.signature for one in events)
    return [pb.Part(reasoning=pb.ReasoningContent(text="Hm.", signature=signature)), *parts]


def forgetful(events: list[pb.CompletionEvent]) -> list[pb.Part]:
    """The turn as a client brings it back that knows nothing of signatures."""
    return from_messages(events)[1:]


@pytest.mark.parametrize(
    ("keep", "capabilities", "outcome"),
    [
        (from_grpc, (), "stop"),
        (from_chat, (), "stop"),
        (from_messages, (), "stop"),
        (forgetful, (), "provider_rejected"),
        (forgetful, ("call_signatures",), "stop"),
    ],
)
async def test_a_turn_of_tools_goes_on_with_its_signature(
    sim: Simulator,
    transport: Transport,
    keep: Callable[[list[pb.CompletionEvent]], list[pb.Part]],
    capabilities: tuple[str, ...],
    outcome: str,
) -> None:
    """Two calls of which one is signed, their results, and the answer: however the caller keeps the turn."""
    gemini = upstream(sim, transport, *capabilities)
    asked = request()
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="get_weather", parameters_json='{"type":"object"}')
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="get_time", parameters_json='{"type":"object"}')
    events = [event async for batch in gemini.stream(asked, call("sim-tools-parallel")) for event in batch]
    calls = [event.tool_call for event in events if event.HasField("tool_call")]
    assert [one.name for one in calls] == ["get_weather", "get_time"]
    assert [bool(one.signature) for one in calls] == [True, False]
    asked.messages.add(role=pb.ROLE_ASSISTANT, parts=keep(events))
    for one in calls:
        result = pb.ToolResult(call_id=one.id, parts=[pb.Part(text=pb.Text(text="1"))])
        asked.messages.add(role=pb.ROLE_TOOL, parts=[pb.Part(tool_result=result)])
    assert await ended(gemini, asked) == outcome


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kept", ["call", "reasoning", "chat"])
async def test_a_signature_of_another_account_is_left_out(
    sim: Simulator, transport: Transport, kept: str, streamed: bool
) -> None:
    """The turn is sent once more without it; only where the model insists on one is that the end."""
    asked = request()
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="f")
    parts = [pb.Part(tool_call=pb.ToolCall(id="c", name="f"))]
    if kept == "call":
        parts[0].tool_call.signature = b"foreign"
    elif kept == "chat":
        parts[0].extra_json = json.dumps({"extra_content": {"google": {"thought_signature": "Zm9yZWlnbg=="}}})
    else:
        parts.insert(0, pb.Part(reasoning=pb.ReasoningContent(signature=marked(b"foreign"))))
    asked.messages.add(role=pb.ROLE_ASSISTANT, parts=parts)
    result = pb.ToolResult(call_id="c", parts=[pb.Part(text=pb.Text(text="1"))])
    asked.messages.add(role=pb.ROLE_TOOL, parts=[pb.Part(tool_result=result)])
    before = asked.SerializeToString(deterministic=True)
    for capabilities, outcome in (((), "provider_rejected"), (("call_signatures",), "stop")):
        gemini = UnsignedUpstream(upstream(sim, transport, *capabilities))
        sim.log.clear()
        assert await (ended_stream(gemini, asked) if streamed else ended(gemini, asked)) == outcome
        assert len(sim.log) == 2
        assert b"Zm9yZWlnbg" not in sim.log[-1].body
    assert asked.SerializeToString(deterministic=True) == before


async def ended_stream(gemini: Upstream, asked: pb.CompletionRequest) -> str:
    """Why a stream ended, or the code of the error."""
    events: list[pb.CompletionEvent] = []
    try:
        async for batch in gemini.stream(asked, call("sim-tools")):
            events += batch
    except GatewayError as error:
        return error.code
    return pb.FinishReason.Name(events[-2].choice_finished.finish_reason).removeprefix("FINISH_REASON_").lower()


async def ended(gemini: Upstream, asked: pb.CompletionRequest) -> str:
    """Why an answer ended, or the code of the error."""
    try:
        answer = await gemini.complete(asked, call("sim-tools-parallel"))
    except GatewayError as error:
        return error.code
    return pb.FinishReason.Name(answer.choices[0].finish_reason).removeprefix("FINISH_REASON_").lower()


@pytest.mark.parametrize("base", ["/openai/v1", "/openai"])
async def test_azure_answers_at_either_address(sim: Simulator, transport: Transport, base: str) -> None:
    """The deployment is the model of the body, or in the path."""
    dated = () if base.endswith("v1") else ("api_version:2024-10-21",)
    provider = ProviderConfig(id="p", kind="azure-openai", base_url=sim.origin + base, credential=CREDENTIAL)
    azure = HttpUpstream(azure_codec(dated), transport, provider)
    assert await unary(azure, "sim") == SENTENCE
    assert await streamed(azure, "fault:prelude") == (SENTENCE, "")
    assert sim.log[-1].headers["api-key"] == CREDENTIAL
