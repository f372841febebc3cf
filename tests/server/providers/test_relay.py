"""An upstream over HTTP against one that misbehaves: what the domain sees of each fault, and what it never sees."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from dev.simulator import Simulator
from dev.simulator.faults import FAULTS
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.upstream import UpstreamCall
from tokendance_server.providers.openai import OpenAICodec
from tokendance_server.providers.relay import HttpUpstream
from tokendance_server.providers.transport import Client, Transport, open_transport

SENTENCE = "The quick brown fox jumps over the lazy dog."
CREDENTIAL = "sk-credential-canary"
LOOPBACK = EgressPolicy(allow_loopback=True)


@dataclass
class Rig:
    """An upstream, and the simulator that it reaches."""

    upstream: HttpUpstream
    sim: Simulator
    transport: Transport


@pytest.fixture
async def rig(upstream_client: Client) -> AsyncIterator[Rig]:
    """An upstream of little patience, with small limits."""
    transport = open_transport(upstream_client, LOOPBACK, answer_bytes=4 * 1024 * 1024)
    async with Simulator() as sim:
        provider = config(sim.base_url)
        codec = OpenAICodec(event_bytes=1024 * 1024)
        yield Rig(HttpUpstream(codec, transport, provider), sim, transport)
        await transport.close()


def config(base_url: str, **patience: float) -> ProviderConfig:
    """A provider with a credential, and little patience."""
    plain = ProviderConfig(id="p", kind="openai", base_url=base_url, credential=CREDENTIAL)
    patience = {"first_byte_timeout_s": 0.5, "idle_timeout_s": 0.3, "total_timeout_s": 20.0} | patience
    return replace(plain, **patience)  # type: ignore[arg-type]


def request(text: str = "Hello there", *, tools: bool = False) -> pb.CompletionRequest:
    """A question, perhaps with a tool."""
    asked = pb.CompletionRequest(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text=text))])])
    if tools:
        asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="get_weather", parameters_json='{"type":"object"}')
        asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="get_time", parameters_json='{"type":"object"}')
    return asked


def call(model: str, within_s: float = 30) -> UpstreamCall:
    """A call of a model of the simulator."""
    return UpstreamCall(model=model, deadline=asyncio.get_running_loop().time() + within_s, request_id="req_1")


async def unary(rig: Rig, model: str) -> str:
    """The text of an answer, or the code of the error."""
    try:
        completion = await rig.upstream.complete(request(), call(model))
    except GatewayError as error:
        check_scrubbed(error, rig)
        return error.code
    return "".join(part.text.text for part in completion.choices[0].message.parts)


async def streamed(rig: Rig, model: str) -> tuple[str, str]:
    """The text of a stream, and the code of the error that ended it, if one did."""
    events: list[pb.CompletionEvent] = []
    code = ""
    try:
        async for batch in rig.upstream.stream(request(), call(model)):
            assert batch, "a batch is never empty"
            events += batch
    except GatewayError as error:
        check_scrubbed(error, rig)
        code = error.code
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[:1] in ([], ["started"])
    assert kinds.count("finished") == (1 if not code else 0)
    assert code or kinds[-1] == "finished"
    return "".join(event.text.text for event in events), code


def check_scrubbed(error: GatewayError, rig: Rig) -> None:
    """No error holds a word of the upstream's, nor where it is."""
    told = f"{error!r} {error} {error.message} {error.metadata} {error.__cause__!r}"
    for word in ("canary", str(rig.sim.port), "127.0.0.1", "169.254", "Simulated"):
        assert word not in told
    assert error.origin == "provider"
    assert error.__suppress_context__ or error.__context__ is None


# model name -> (answer in one message or code, text of the stream and its code)
GOOD = (SENTENCE, (SENTENCE, ""))
BROKEN = ("provider_error", ("", "provider_error"))
MIDWAY = ("provider_error", ("The quick", "provider_error"))
CUT = ("provider_error", ("The quick", "stream_interrupted"))
TIMEOUT = ("provider_timeout", ("", "provider_timeout"))
UMLAUTS = "Grüße, 世界! 🌍 naïve café — ünïcödé 🚀 done."
MORE = f"{SENTENCE} {SENTENCE} {SENTENCE} The quick"
THINKING = f"<think>Let me think about that for a moment.</think>{SENTENCE}"

OUTCOMES: dict[str, tuple[str, tuple[str, str]]] = {
    "fault:status:code=400": ("provider_rejected", ("", "provider_rejected")),
    "fault:status:code=401": ("provider_unavailable", ("", "provider_unavailable")),
    "fault:status:code=429": ("provider_rate_limited", ("", "provider_rate_limited")),
    "fault:status:code=400:reason=context_length_exceeded": (
        "context_length_exceeded",
        ("", "context_length_exceeded"),
    ),
    "fault:status:code=400:reason=content_filter": ("content_filtered", ("", "content_filtered")),
    "fault:status:code=503:envelope=html": BROKEN,
    "fault:status:code=504": TIMEOUT,
    "fault:fail-first:n=9": BROKEN,
    "fault:flaky:every=1": BROKEN,
    "fault:reset": BROKEN,
    "fault:reset-after": CUT,
    "fault:stall": TIMEOUT,
    "fault:stall-after:n=0": TIMEOUT,
    "fault:stall-after": ("provider_timeout", ("The quick", "provider_timeout")),
    "fault:cut": CUT,
    "fault:cut-clean": CUT,
    "fault:truncated": ("provider_error", (SENTENCE, "")),
    "fault:malformed-sse": MIDWAY,
    "fault:malformed-json": MIDWAY,
    "fault:malformed-json:form=bad-utf8": MIDWAY,
    "fault:malformed-json:form=deep": MIDWAY,
    "fault:malformed-json:form=null": MIDWAY,
    "fault:huge-line": BROKEN,
    "fault:huge-headers": BROKEN,
    "fault:gzip-bomb": BROKEN,
    "fault:slow-headers": TIMEOUT,
    "fault:slow-tokens:gap=0.02": GOOD,
    "fault:slow-tokens": TIMEOUT,
    "fault:drip": GOOD,
    "fault:html": BROKEN,
    "fault:html:code=200": BROKEN,
    "fault:wrong-type": BROKEN,
    "fault:wrong-type:as=text": BROKEN,
    "fault:error-body": BROKEN,
    "fault:error-body:envelope=flat": BROKEN,
    "fault:error-body:envelope=message": BROKEN,
    "fault:error-event": MIDWAY,
    "fault:error-event:form=field": MIDWAY,
    "fault:error-event:form=flat": MIDWAY,
    "fault:error-event:form=groq": MIDWAY,
    "fault:error-event:form=named-flat": MIDWAY,
    "fault:error-event:form=router": MIDWAY,
    "fault:error-event:form=empty": CUT,
    "fault:empty": BROKEN,
    "fault:redirect": BROKEN,
    "fault:redirect:code=308": BROKEN,
    "fault:not-http": BROKEN,
    "fault:reset-on-reuse": GOOD,
    "fault:usage-missing": GOOD,
    "fault:usage-negative": GOOD,
    "fault:usage-twice": GOOD,
    "fault:usage-absurd": GOOD,
    "fault:usage-absurd:value=NaN": GOOD,
    "fault:usage-float": GOOD,
    "fault:usage-place": GOOD,
    "fault:usage-place:at=every": GOOD,
    "fault:no-done": GOOD,
    "fault:no-finish": GOOD,
    "fault:finish": GOOD,
    "fault:finish:reason=error": ("stream_interrupted", (SENTENCE, "stream_interrupted")),
    "fault:prelude": GOOD,
    "fault:sparse": GOOD,
    "fault:crlf": GOOD,
    "fault:crlf:ends=cr": GOOD,
    "fault:crlf:ends=mix": GOOD,
    "fault:comments": GOOD,
    "fault:split-utf8": (UMLAUTS, (UMLAUTS, "")),
    "fault:framing": GOOD,
    "fault:framing:form=ids": GOOD,
    "fault:framing:form=no-end": GOOD,
    "fault:framing:form=ping": GOOD,
    "fault:framing:form=two-lines": GOOD,
    "fault:more-tokens": (MORE, (MORE, "")),
    "fault:reasoning": GOOD,
    "fault:reasoning:field=both": GOOD,
    "fault:reasoning:field=think": (THINKING, (THINKING, "")),
    "fault:tool-quirks:base=sim": GOOD,
}


def test_every_fault_has_an_outcome() -> None:
    """One that the simulator learns must be looked at here; the hugest body has a test of its own."""
    assert {name.split(":")[1] for name in OUTCOMES} == FAULTS.keys() - {"huge-body"}


@pytest.mark.parametrize("model", OUTCOMES)
async def test_each_fault_has_its_outcome(rig: Rig, model: str) -> None:
    """In one message and as a stream."""
    in_one_message, as_a_stream = OUTCOMES[model]
    assert await unary(rig, model) == in_one_message
    assert await streamed(rig, model) == as_a_stream


async def test_a_body_without_end_is_cut_at_the_limit(rig: Rig) -> None:
    """Of small events and of one document alike."""
    assert await unary(rig, "fault:huge-body:mb=8") == "provider_error"
    text, code = await streamed(rig, "fault:huge-body:mb=8")
    assert code == "provider_error"
    assert len(text) < 4 * 1024 * 1024


TOOL_FORMS = [
    form for form in FAULTS["tool-quirks"].options.removeprefix("form=").split("|") if form != "null-arguments"
]


@pytest.mark.parametrize("form", TOOL_FORMS)
async def test_calls_come_out_whole(rig: Rig, form: str) -> None:
    """Two calls at once, whatever way they are cut up; one, where the server gives them no number to tell apart."""
    alone = form in ("no-index", "zero-index")
    base = "sim-tools" if alone else "sim-tools-parallel"
    model = f"fault:tool-quirks:base={base}:form={form}"
    whole = await rig.upstream.complete(request(tools=True), call(model))
    calls = [part.tool_call for part in whole.choices[0].message.parts]
    assert [one.name for one in calls] == ["get_weather", "get_time"][: 1 if alone else 2]
    gathered: dict[int, list[str]] = {}
    async for batch in rig.upstream.stream(request(tools=True), call(model)):
        for event in batch:
            if event.HasField("tool_call"):
                delta = event.tool_call
                one = gathered.setdefault(delta.index, ["", "", ""])
                assert not delta.name or not one[1], "the name is told once"
                one[0] += delta.id
                one[1] += delta.name
                one[2] += delta.arguments
    assert [one[1] for one in gathered.values()] == [one.name for one in calls]
    assert [one[2] for one in gathered.values()] == [one.arguments_json for one in calls]
    assert form == "no-id" or [one[0] for one in gathered.values()] == [one.id for one in calls]


async def test_what_arrives_together_travels_together(rig: Rig) -> None:
    """A stream at once is one batch or few; a slow one has a batch for each packet."""
    batches = [batch async for batch in rig.upstream.stream(request(), call("sim:tokens=50"))]
    assert len(batches) < 10
    slow = [batch async for batch in rig.upstream.stream(request(), call("sim:tokens=20:rate=200"))]
    assert len(slow) > 10


async def test_only_our_own_headers_go_upstream(rig: Rig) -> None:
    """The credential, the types, and no way to pack the answer; nothing of the caller's."""
    await rig.upstream.complete(request(), call("sim"))
    sent = dict(rig.sim.log[-1].headers)
    assert sent.pop("host") == f"127.0.0.1:{rig.sim.port}"
    assert sent.pop("content-length").isdecimal()
    assert sent == {
        "authorization": f"Bearer {CREDENTIAL}",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "tokendance-gateway",
    }


async def test_vectors_come_back_in_order(rig: Rig) -> None:
    """With the usage of the server."""
    answer = await rig.upstream.embed(pb.EmbeddingsRequest(inputs=["a", "b"], dimensions=16), call("sim-embed"))
    assert [len(one.float32_le) for one in answer.embeddings] == [64, 64]
    assert answer.usage.source == pb.USAGE_SOURCE_PROVIDER
    with pytest.raises(GatewayError) as caught:
        await rig.upstream.embed(pb.EmbeddingsRequest(inputs=["a"]), call("fault:status:code=500"))
    assert caught.value.code == "provider_error"


@pytest.mark.parametrize("model", ["sim:tokens=500:rate=100", "fault:stall-after"])
async def test_a_caller_that_leaves_closes_the_connection(rig: Rig, model: str) -> None:
    """Between two batches, by closing the stream."""
    stream = rig.upstream.stream(request(), call(model))
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(gone(rig.sim), 2)
    assert rig.sim.log[-1].peer_left


@pytest.mark.parametrize("model", ["fault:stall", "fault:stall-after"])
async def test_a_cancelled_call_closes_the_connection(rig: Rig, model: str) -> None:
    """While it waits for the head or for the body."""
    task = asyncio.create_task(rig.upstream.complete(request(), call(model)))
    while not rig.sim.log:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(gone(rig.sim), 2)
    assert rig.sim.log[-1].peer_left


async def gone(sim: Simulator) -> None:
    """Wait until the simulator has no connection left."""
    while sim.open_connections:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("model", ["fault:stall", "fault:stall-after"])
async def test_the_callers_deadline_is_its_own_error(rig: Rig, model: str) -> None:
    """It is not the provider's fault that the caller waits no longer."""
    with pytest.raises(GatewayError) as caught:
        async for _ in rig.upstream.stream(request(), call(model, within_s=0.15)):
            pass
    assert caught.value.code == "deadline_exceeded"


async def test_a_stream_has_a_total_time(upstream_client: Client) -> None:
    """However steadily it flows."""
    transport = open_transport(upstream_client, LOOPBACK)
    async with Simulator() as sim:
        upstream = HttpUpstream(OpenAICodec(), transport, config(sim.base_url, total_timeout_s=0.4))
        with pytest.raises(GatewayError) as caught:
            async for _ in upstream.stream(request(), call("sim:tokens=1000:rate=100")):
                pass
        await transport.close()
    assert caught.value.code == "provider_timeout"


async def test_idle_patience_may_be_shorter_than_the_first(upstream_client: Client) -> None:
    """The timer that waited for the first byte must not go on waiting."""
    transport = open_transport(upstream_client, LOOPBACK)
    async with Simulator() as sim:
        upstream = HttpUpstream(OpenAICodec(), transport, config(sim.base_url, first_byte_timeout_s=30))
        begun = asyncio.get_running_loop().time()
        with pytest.raises(GatewayError) as caught:
            async for _ in upstream.stream(request(), call("fault:stall-after")):
                pass
        assert asyncio.get_running_loop().time() - begun < 3
        await transport.close()
    assert caught.value.code == "provider_timeout"


async def test_connections_are_kept_after_good_answers(rig: Rig) -> None:
    """Streams included, whose last bytes lag behind their last event."""
    for _ in range(3):
        await rig.upstream.complete(request(), call("sim"))
        await streamed(rig, "sim:tokens=5")
        await streamed(rig, "fault:status:code=429")
    assert rig.sim.connections_total == 1


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"base_url": "ftp://127.0.0.1"}, "base_url"),
        ({"base_url": "http://user:pass@127.0.0.1"}, "base_url"),
        ({"base_url": "http://127.0.0.1/v1?key=x"}, "base_url"),
        ({"base_url": "/v1"}, "base_url"),
        ({"credential": "canary\r\nx-a: b"}, "credential"),
        ({"credential": "canary\n"}, "credential"),
        ({"extra_headers": {"x-a": "canary\r\nb"}}, "extra_headers"),
        ({"extra_headers": {"x a": "canary"}}, "extra_headers"),
        ({"extra_headers": {"Host": "canary"}}, "extra_headers"),
        ({"extra_headers": {"Transfer-Encoding": "canary"}}, "extra_headers"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_start(fields: dict[str, object], what: str) -> None:
    """Naming the setting, never its value."""
    wanted: dict[str, object] = {"id": "p", "kind": "openai", "base_url": "http://127.0.0.1:1/v1"} | fields
    with pytest.raises(ValueError, match=what) as caught:
        HttpUpstream(OpenAICodec(), open_transport("lean", LOOPBACK), ProviderConfig(**wanted))  # type: ignore[arg-type]
    assert "canary" not in str(caught.value)


async def test_the_models_of_a_provider_are_asked_for(rig: Rig) -> None:
    """By a GET with the credential and without a body; a refusal is the provider's error."""
    names = await rig.upstream.discover(call(""))
    assert "sim" in names
    headers = rig.sim.log[-1].headers
    assert headers["authorization"] == f"Bearer {CREDENTIAL}"
    assert not headers.keys() & {"content-type", "content-length"}
    lost = HttpUpstream(OpenAICodec(), rig.transport, config(f"{rig.sim.base_url}/none"))
    with pytest.raises(GatewayError) as caught:
        await lost.discover(call(""))
    check_scrubbed(caught.value, rig)
