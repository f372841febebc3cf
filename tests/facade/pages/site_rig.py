"""A facade whose server knows a catalogue and a state, and readers of its pages."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import aiohttp
import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from tokendance.gateway.v1 import completion_pb2
from tokendance.gateway.v1 import models_service_pb2 as models_pb
from tokendance.gateway.v1 import status_service_pb2 as states
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceServicer, add_ModelsServiceServicer_to_server
from tokendance.gateway.v1.status_service_pb2_grpc import StatusServiceServicer, add_StatusServiceServicer_to_server
from tokendance_facade.app import Facade
from tokendance_facade.config import FacadeConfig

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "\u202emodel\u202c\u0007",
    "a" * 256,
    "名前/\U0001f600/é",
    "' onmouseover='alert(1)",
)
"""Names as somebody could give them to a model who wishes its readers ill."""


@dataclass
class Gateway(ModelsServiceServicer, StatusServiceServicer):
    """The server's place: what it knows, and how often it was asked."""

    models: list[models_pb.Model] = field(default_factory=list)
    status: states.StatusSnapshot = field(default_factory=states.StatusSnapshot)
    incidents: list[states.Incident] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    watchers: int = 0
    changes: asyncio.Queue[states.WatchStatusResponse] = field(default_factory=asyncio.Queue)
    unknown: bool = False

    async def ListModels(self, request: models_pb.ListModelsRequest, context: Any) -> models_pb.ListModelsResponse:
        await self._note("ListModels", context)
        return models_pb.ListModelsResponse(models=self.models)

    async def GetStatus(self, request: states.GetStatusRequest, context: Any) -> states.GetStatusResponse:
        await self._note("GetStatus", context)
        return states.GetStatusResponse(status=self.status)

    async def ListIncidents(self, request: states.ListIncidentsRequest, context: Any) -> states.ListIncidentsResponse:
        await self._note("ListIncidents", context)
        return states.ListIncidentsResponse(incidents=self.incidents)

    async def WatchStatus(
        self, request: states.WatchStatusRequest, context: Any
    ) -> AsyncIterator[states.WatchStatusResponse]:
        await self._note("WatchStatus", context)
        self.watchers += 1
        try:
            while True:
                yield await self.changes.get()
        finally:
            self.watchers -= 1

    async def _note(self, name: str, context: Any) -> None:
        self.asked.append(name)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.unknown:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not served")


def gateway_of(**known: Any) -> Gateway:
    """Return a server that knows this."""
    return Gateway(**known)  # type: ignore[abstract]  # pages call no more than these


def model(name: str, **fields: Any) -> models_pb.Model:
    """Return a model of the public list."""
    made = models_pb.Model(name=f"models/{name}", id=name, **fields)
    made.capabilities.append(models_pb.MODEL_CAPABILITY_COMPLETIONS)
    made.input_modalities.append(completion_pb2.MODALITY_TEXT)
    return made


@dataclass
class Site:
    """A running facade, what stands behind it, and a reader."""

    facade: Facade
    gateway: Gateway
    http: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        """Read a path; the body is read, too, but for streams."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.http.get(self.facade.http_url + path, headers=sent)
        if answer.content_type != "text/event-stream":
            await answer.read()
        return answer

    async def page(self, path: str) -> str:
        """Return a page that is there."""
        answer = await self.get(path)
        assert answer.status == 200, path
        return await answer.text()


@contextlib.asynccontextmanager
async def open_site(gateway: Gateway | None = None, **settings: Any) -> AsyncIterator[Site]:
    """Run a facade with settings of its own over a socket to a server of its own."""
    known = gateway or gateway_of(models=[model("fast")])
    server = grpc.aio.server()
    add_ModelsServiceServicer_to_server(known, server)
    add_StatusServiceServicer_to_server(known, server)
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server.add_insecure_port(f"unix://{folder}/s")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"unix://{folder}/s"))
        config = FacadeConfig(**{"http": "127.0.0.1:0", "internal": "127.0.0.1:0", "keepalive_s": 0.2, **settings})
        facade = Facade(config, channel, registry=CollectorRegistry(), ready=lambda: True)
        await facade.start()
        stack.push_async_callback(facade.stop, 1)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(facade, known, http)


class Page(HTMLParser):
    """What a page is made of: its elements with their attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, attribute: str, *tags: str) -> Iterable[str]:
        """Yield the values of an attribute, of all elements or of some."""
        for tag, attributes in self.elements:
            if attribute in attributes and (not tags or tag in tags):
                yield attributes[attribute]
