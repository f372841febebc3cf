"""The RPC edge as the tests of this folder stand it up: a servicer that behaves as told, a chain, and a channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import protovalidate
from prometheus_client import CollectorRegistry

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, completion_pb2, completions_service_pb2, errors_pb2
from tokendance.gateway.v1 import completions_service_pb2_grpc as completions_grpc
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import read_rules
from tokendance_server.services.admission import Admission
from tokendance_server.services.call import Call, Trust, call_of
from tokendance_server.services.doorkeeper import NOBODY_COUNTS, Doorkeeper
from tokendance_server.services.facade_peers import FacadePeers
from tokendance_server.services.interceptors import Chain, DeadlinePolicy
from tokendance_server.services.local_channel import LocalChannel, MethodTable
from tokendance_server.services.records import Recorder
from tokendance_server.telemetry import Metrics

KINDS = ("local", "grpc")
KEY = "tdk_good"
CACHED_KEY = "tdk_cached"
AUTHORIZATION = ("authorization", f"Bearer {KEY}")
SECRET_CAUSE = "password=hunter2"
PROMPT = "the prompt that no log may hold"
MESSAGE_LIMIT = 1_000_000
METADATA_LIMIT = 16 * 1024
MARGIN_S = 0.1
VALIDATOR = protovalidate.Validator()

UnaryRequest = completions_service_pb2.CreateCompletionRequest
UnaryAnswer = completions_service_pb2.CreateCompletionResponse
StreamRequest = completions_service_pb2.StreamCompletionRequest
StreamAnswer = completions_service_pb2.StreamCompletionResponse
Pairs = tuple[tuple[str, str | bytes], ...]


def completion(model: str, prompt: str = PROMPT) -> completion_pb2.CompletionRequest:
    """Return a valid model call; `model` says how the servicer behaves."""
    part = completion_pb2.Part(text=completion_pb2.Text(text=prompt))
    message = completion_pb2.Message(role=completion_pb2.ROLE_USER, parts=[part])
    return completion_pb2.CompletionRequest(model=model, messages=[message])


def unary(model: str, prompt: str = PROMPT) -> UnaryRequest:
    """Return a request for one answer."""
    return UnaryRequest(completion=completion(model, prompt))


def stream(model: str, prompt: str = PROMPT) -> StreamRequest:
    """Return a request for a stream."""
    return StreamRequest(completion=completion(model, prompt))


def chunk(text: str) -> StreamAnswer:
    """Return one message of a stream."""
    delta = completion_pb2.TextDelta(text=text)
    return StreamAnswer(events=[completion_pb2.CompletionEvent(text=delta)])


def text_of(message: Any) -> str:
    """Return what `chunk` was given."""
    return str(message.events[0].text.text)


def failure() -> GatewayError:
    """Return an error that uses every detail there is."""
    return GatewayError(
        errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED,
        "The provider is at its limit; send the call again in 7 seconds. Größe: 5 %.",
        param="completion.messages[0].parts",
        retry_after_s=7,
        metadata={"limit": "5"},
        origin="provider",
    )


class Servicer(completions_grpc.CompletionsServiceServicer):
    """Behaves as the model's name says: `name:argument`. Counts the upstreams it holds and the messages it made.

    CountTokens, CreateEmbeddings and ExplainCompletion are not there.
    """

    def __init__(self) -> None:
        self.started = 0
        self.held = 0
        self.made = 0
        self.calls: list[Call] = []
        self.requests: list[UnaryRequest | StreamRequest] = []
        self.kept: list[UnaryAnswer] = []

    async def CreateCompletion(self, request: UnaryRequest, context: Any) -> UnaryAnswer:
        behaviour, argument, call = self._begin(request, context)
        async with self._upstream():
            match behaviour:
                case "sleep":
                    await asyncio.sleep(float(argument))
                case "hang":
                    await asyncio.sleep(3600)
                case "stubborn":
                    await _ignoring_cancellation()
                case "metadata":
                    await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\x00\xff")))
                    call.add_trailing(("x-last", "2"), ("x-last-bin", b"\xfe\x00"))
                case "status":
                    context.set_code(grpc.StatusCode.NOT_FOUND)
                    context.set_details("not here")
                case "big":
                    return UnaryAnswer(completion=completion_pb2.Completion(extra_json="x" * int(argument)))
                case "keep":
                    kept = UnaryAnswer(completion=completion_pb2.Completion(model="kept"))
                    self.kept.append(kept)
                    return kept
                case _:
                    await _fail(behaviour)
            return UnaryAnswer(completion=completion_pb2.Completion(model=request.completion.model))

    async def StreamCompletion(self, request: StreamRequest, context: Any) -> AsyncIterator[StreamAnswer]:
        behaviour, argument, _ = self._begin(request, context)
        async with self._upstream():
            count, _, then = argument.partition(",")
            for number in range(int(count or "0")):
                self.made += 1
                message = chunk(f"{number}")
                yield message
                if then == "change":
                    message.Clear()
            match behaviour:
                case "endless":
                    while True:
                        self.made += 1
                        yield chunk("x" * 50_000)
                case "big":
                    yield chunk("x" * MESSAGE_LIMIT)
                case "stubborn":
                    await _ignoring_cancellation()
                case "hang":
                    await asyncio.sleep(3600)
                case _:
                    await _fail(behaviour)

    def _begin(self, request: UnaryRequest | StreamRequest, context: Any) -> tuple[str, str, Call]:
        self.started += 1
        call = call_of(context)
        behaviour, _, argument = request.completion.model.partition(":")
        call.model = behaviour
        self.calls.append(call)
        self.requests.append(request)
        return behaviour, argument, call

    @asynccontextmanager
    async def _upstream(self) -> AsyncIterator[None]:
        self.held += 1
        try:
            yield
        finally:
            await asyncio.sleep(0)  # as closing a connection would
            self.held -= 1


async def _fail(behaviour: str) -> None:
    match behaviour:
        case "fail":
            raise failure()
        case "crash":
            raise RuntimeError(SECRET_CAUSE)
        case "cancelled":
            raise GatewayError(errors_pb2.ERROR_REASON_CANCELLED, "The upstream gave up.")
        case "stray":
            raise asyncio.CancelledError  # as an awaited task does that somebody else cancelled
        case "absent":
            raise NotImplementedError(SECRET_CAUSE)
        case "long":
            raise GatewayError(
                errors_pb2.ERROR_REASON_PROVIDER_ERROR,
                "ü" * 20_000,
                param="p" * 20_000,
                metadata={f"name{number}": "m" * 5_000 for number in range(20)},
            )


async def _ignoring_cancellation() -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return


class Keys:
    """Knows two keys; one of them is in the cache."""

    def __init__(self) -> None:
        self.verified = 0
        self.delay_s = 0.0

    def verify_cached(self, secret: str) -> Principal | None:
        return self._principal("cached") if secret == CACHED_KEY else None

    async def verify(self, secret: str) -> Principal:
        self.verified += 1
        await asyncio.sleep(self.delay_s)
        if secret != KEY:
            raise GatewayError(errors_pb2.ERROR_REASON_INVALID_API_KEY, "There is no such key.", origin="caller")
        return self._principal("good")

    @staticmethod
    def _principal(key_id: str) -> Principal:
        kinds = frozenset({access_pb2.CALLER_KIND_API_KEY})
        return Principal(kinds, name=f"keys/{key_id}", organization="organizations/acme", key_id=key_id)


@dataclass
class Edge:
    """What a test needs of it all."""

    kind: str
    channel: grpc.aio.Channel
    chain: Chain
    admission: Admission
    servicer: Servicer
    keys: Keys = field(default_factory=Keys)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    @property
    def stub(self) -> completions_grpc.CompletionsServiceAsyncStub:
        """The stub of the model calls."""
        return completions_grpc.CompletionsServiceStub(self.channel)

    def in_flight(self) -> float:
        """Return how many calls the metrics see running."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "tokendance_requests_in_flight"
        )

    def ended(self) -> list[dict[str, str]]:
        """Return the labels of every call counted as ended, once for each call."""
        return [
            labels
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "tokendance_requests_total"
            for labels in [sample.labels] * int(sample.value)
        ]

    async def at_rest(self) -> None:
        """Wait until nothing runs and no upstream is held any more; fails where that does not come to be."""
        await until(lambda: self.servicer.held == 0 and self.in_flight() == 0)
        # The gate is left a moment after the call was counted out.
        assert await self.admission.emptied(5)


async def ask(
    edge: Edge,
    rpc: str,
    behaviour: str,
    *,
    prompt: str = PROMPT,
    metadata: Pairs = (AUTHORIZATION,),
    timeout: float | None = None,
) -> None:
    """Make a call to where it fails. `rpc` is `unary`, `stream`, or `stream after N` with N messages before."""
    if rpc == "unary":
        await edge.stub.CreateCompletion(unary(behaviour, prompt), metadata=metadata, timeout=timeout)
    else:
        count = int(rpc.rpartition(" ")[2]) if " " in rpc else 0
        request = stream(f"{behaviour}:{count}", prompt)
        call = edge.stub.StreamCompletion(request, metadata=metadata, timeout=timeout)
        for number in range(count):
            assert text_of(await call.read()) == str(number)
        await call.read()


async def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def open_edge(
    kind: str,
    *,
    trust: Trust = Trust.NETWORK,
    peers: FacadePeers | None = None,
    in_flight: int = 1000,
    unary_s: float = 20.0,
    stream_s: float = 20.0,
    register: Iterable[Callable[[Any], None]] = (),
    checking: bool = True,
    doorkeeper: Doorkeeper = NOBODY_COUNTS,
    receive_s: float = 60.0,
) -> AsyncIterator[Edge]:
    """Stand up a servicer behind a chain, reached in process (`local`) or over a loopback socket (`grpc`).

    `register` adds more servicers.
    """
    keys, registry, servicer, admission = Keys(), CollectorRegistry(), Servicer(), Admission(in_flight)  # type: ignore[abstract]
    metrics = Metrics(registry)
    chain = Chain(
        trust,
        rules=read_rules([completions_service_pb2.DESCRIPTOR, *_files_of(register)]),
        keys=keys,
        admission=admission,
        deadlines=DeadlinePolicy(unary_s, stream_s, admin_s=20.0, margin_s=MARGIN_S, receive_s=receive_s),
        recorder=Recorder(metrics, known_model=lambda name: name in ("echo", "count")),
        validator=VALIDATOR,
        peers=peers,
        doorkeeper=doorkeeper,
    )

    def add_all(server: Any) -> None:
        completions_grpc.add_CompletionsServiceServicer_to_server(servicer, server)
        for add in register:
            add(server)

    opening = _local(chain, add_all, checking) if kind == "local" else _remote(chain, add_all)
    async with opening as channel:
        yield Edge(kind, channel, chain, admission, servicer, keys, registry)


def _files_of(register: Iterable[Callable[[Any], None]]) -> list[Any]:
    return [add.file for add in register if hasattr(add, "file")]


@asynccontextmanager
async def _local(chain: Chain, add_all: Callable[[Any], None], checking: bool) -> AsyncIterator[grpc.aio.Channel]:
    table = MethodTable()
    add_all(table)
    wrapped = {method: chain.wrap(method, handler) for method, handler in table.handlers.items()}
    async with LocalChannel(
        wrapped, max_message_bytes=MESSAGE_LIMIT, max_metadata_bytes=METADATA_LIMIT, checking=checking
    ) as channel:
        yield channel


@asynccontextmanager
async def _remote(chain: Chain, add_all: Callable[[Any], None]) -> AsyncIterator[grpc.aio.Channel]:
    sizes = (
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
    )
    metadata = (("grpc.max_metadata_size", METADATA_LIMIT), ("grpc.absolute_max_metadata_size", METADATA_LIMIT))
    server = grpc.aio.server(interceptors=[chain], options=(*sizes, *metadata))
    add_all(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The caller's side takes any size, so that what is refused was refused by the server.
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield channel
    finally:
        await server.stop(None)
