"""A facade over a real gRPC channel, whose other end is a small servicer that plays what a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import caller_pb2
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as calls
from tokendance.gateway.v1 import models_service_pb2 as models
from tokendance.gateway.v1.completions_service_pb2_grpc import (
    CompletionsServiceServicer,
    add_CompletionsServiceServicer_to_server,
)
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceServicer, add_ModelsServiceServicer_to_server
from tokendance.rpc import CALLER_KEY, STATUS_DETAILS_KEY, status_code, to_status
from tokendance_facade.app import Facade
from tokendance_facade.config import FacadeConfig

KEY = "tdk_0000000000000000000000000000000000000000000000000"

Step = pb.CompletionEvent | list[pb.CompletionEvent] | float | GatewayError
"""What a stream does next: send events, wait so many seconds, or fail."""


def hello() -> pb.Completion:
    """Return a short answer."""
    answer = pb.Completion(id="chatcmpl-1", model="m", created=1_700_000_000)
    choice = answer.choices.add(index=0, finish_reason=pb.FINISH_REASON_STOP)
    choice.message.role = pb.ROLE_ASSISTANT
    choice.message.parts.add().text.text = "Hello."
    answer.usage.input_tokens = 3
    answer.usage.output_tokens = 2
    return answer


def hello_events() -> list[Step]:
    """Return the same answer as a stream."""
    return [
        pb.CompletionEvent(started=pb.Started(id="chatcmpl-1", model="m", created=1_700_000_000)),
        pb.CompletionEvent(text=pb.TextDelta(text="Hel")),
        pb.CompletionEvent(text=pb.TextDelta(text="lo.")),
        pb.CompletionEvent(choice_finished=pb.ChoiceFinished(finish_reason=pb.FINISH_REASON_STOP)),
        pb.CompletionEvent(finished=pb.Finished(usage=pb.Usage(input_tokens=3, output_tokens=2))),
    ]


@dataclass
class Upstream(CompletionsServiceServicer, ModelsServiceServicer):
    """The server's place: remembers what came, and answers or fails as it is told."""

    completion: pb.Completion = field(default_factory=hello)
    steps: list[Step] = field(default_factory=hello_events)
    embeddings: pb.Embeddings = field(default_factory=pb.Embeddings)
    tokens: int = 0
    failure: GatewayError | None = None
    delay_s: float = 0
    requests: list[Any] = field(default_factory=list)
    callers: list[caller_pb2.CallerAssertion] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)
    remaining_s: list[float] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def CreateCompletion(
        self, request: calls.CreateCompletionRequest, context: Any
    ) -> calls.CreateCompletionResponse:
        await self._enter(request, context)
        return calls.CreateCompletionResponse(completion=self.completion)

    async def StreamCompletion(
        self, request: calls.StreamCompletionRequest, context: Any
    ) -> AsyncIterator[calls.StreamCompletionResponse]:
        complete = False
        context.add_done_callback(lambda _: None if complete else self.cancelled.set())
        await self._enter(request, context)
        for step in self.steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, GatewayError):
                await _abort(context, step)
            else:
                events = step if isinstance(step, list) else [step]
                yield calls.StreamCompletionResponse(events=events)
        complete = True

    async def CountTokens(self, request: calls.CountTokensRequest, context: Any) -> calls.CountTokensResponse:
        await self._enter(request, context)
        return calls.CountTokensResponse(input_tokens=self.tokens, estimated=True)

    async def CreateEmbeddings(
        self, request: calls.CreateEmbeddingsRequest, context: Any
    ) -> calls.CreateEmbeddingsResponse:
        await self._enter(request, context)
        return calls.CreateEmbeddingsResponse(embeddings=self.embeddings)

    async def ListModels(self, request: models.ListModelsRequest, context: Any) -> models.ListModelsResponse:
        await self._enter(request, context)
        if not request.page_token:
            return models.ListModelsResponse(models=[_model("org/one")], next_page_token="2")
        return models.ListModelsResponse(models=[_model("two")])

    async def GetModel(self, request: models.GetModelRequest, context: Any) -> models.GetModelResponse:
        await self._enter(request, context)
        return models.GetModelResponse(model=_model(request.name.removeprefix("models/")))

    async def _enter(self, request: Any, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self.requests.append(request)
        self.credentials.append(metadata["authorization"])
        self.callers.append(caller_pb2.CallerAssertion.FromString(metadata[CALLER_KEY]))
        self.remaining_s.append(context.time_remaining())
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.failure is not None:
            await _abort(context, self.failure)


def _model(name: str) -> models.Model:
    model = models.Model(name=f"models/{name}", id=name, owned_by="TokenDance", context_window=8192)
    model.capabilities.append(models.MODEL_CAPABILITY_COMPLETIONS)
    model.create_time.FromSeconds(1_700_000_000)
    return model


async def _abort(context: Any, error: GatewayError) -> None:
    details = ((STATUS_DETAILS_KEY, to_status(error).SerializeToString()),)
    await context.abort(status_code(error), error.message, details)


@dataclass
class Rig:
    """A running facade, the server behind it, and an HTTP client."""

    facade: Facade
    upstream: Upstream
    http: aiohttp.ClientSession
    registry: CollectorRegistry
    server: grpc.aio.Server

    async def upstream_stop(self) -> None:
        """Take the server away."""
        await self.server.stop(0)

    async def post(self, path: str, document: Any, **headers: str) -> aiohttp.ClientResponse:
        """Post JSON with the key."""
        sent = {"Authorization": f"Bearer {KEY}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = await self.http.post(self.facade.http_url + path, json=document, headers=sent)
        if answer.content_type == "application/json":
            await answer.read()
        return answer


@contextlib.asynccontextmanager
async def open_rig(*, ready: bool = True, **settings: Any) -> AsyncIterator[Rig]:
    """Run a facade with settings of its own, over a Unix socket to a server of its own."""
    upstream = Upstream()  # type: ignore[abstract]  # the facade calls no more than these
    server = grpc.aio.server()
    add_CompletionsServiceServicer_to_server(upstream, server)
    add_ModelsServiceServicer_to_server(upstream, server)
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server.add_insecure_port(f"unix://{folder}/s")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"unix://{folder}/s", options=[("grpc.max_receive_message_length", -1)])
        )
        registry = CollectorRegistry()
        config = FacadeConfig(**{"http": "127.0.0.1:0", "internal": "127.0.0.1:0", **settings})
        facade = Facade(config, channel, registry=registry, ready=lambda: ready)
        await facade.start()
        stack.push_async_callback(facade.stop, 1)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Rig(facade, upstream, http, registry, server)


def sse(text: str) -> list[str]:
    """Return the payloads of an event stream, comments left out."""
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event.startswith("data: ")]


def chat(**fields: Any) -> dict[str, Any]:
    """Return a small chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
