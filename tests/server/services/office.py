"""The Models service as the tests of this folder stand it up, over a store in memory, and what they ask of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.server.services.edge import open_edge

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import models_service_pb2 as pb
from tokendance.gateway.v1.models_service_pb2_grpc import ModelsServiceStub, add_ModelsServiceServicer_to_server
from tokendance.rpc import from_rpc
from tokendance_server.catalogue import NodeUpstreams
from tokendance_server.domain.catalogue.editor import CatalogueEditor
from tokendance_server.domain.catalogue.entries import ModelSpec, ProviderSpec
from tokendance_server.domain.catalogue.in_force import Catalogue
from tokendance_server.domain.catalogue.layers import Layer
from tokendance_server.domain.catalogue.models import Route
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.sealing import KeyRing
from tokendance_server.providers.transport import open_transport
from tokendance_server.services.call import Trust
from tokendance_server.services.models import ModelsService
from tokendance_server.stores.memory import MemoryCatalogueStore

SEALS = ProviderSeals(KeyRing([bytes(range(32))]))
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECRET = "sk-canary"
SETTINGS = Layer(
    {"fixed": ProviderSpec(kind="demo")},
    {"settled": ModelSpec(routes=(Route("fixed", "demo-echo"),), aliases=("old",))},
    NOW,
)


@dataclass
class Office:
    """The service as one kind of caller reaches it."""

    stub: Any
    store: MemoryCatalogueStore
    catalogue: Catalogue

    async def provider(self, name: str = "a", **fields: Any) -> pb.Provider:
        """Create a provider and return it."""
        answer = await self.stub.CreateProvider(pb.CreateProviderRequest(provider=provider(name, **fields)))
        return answer.provider  # type: ignore[no-any-return]

    async def model(self, name: str = "fast", **fields: Any) -> pb.ModelConfig:
        """Create a model and return it."""
        answer = await self.stub.CreateModel(pb.CreateModelRequest(model_config=model(name, **fields)))
        return answer.model_config  # type: ignore[no-any-return]

    async def change(self, message: Any, *paths: str) -> Any:
        """Update what the paths name."""
        mask = FieldMask(paths=paths)
        if isinstance(message, pb.Provider):
            return (
                await self.stub.UpdateProvider(pb.UpdateProviderRequest(provider=message, update_mask=mask))
            ).provider
        answer = await self.stub.UpdateModel(pb.UpdateModelRequest(model_config=message, update_mask=mask))
        return answer.model_config


def provider(name: str = "a", **fields: Any) -> pb.Provider:
    """A provider that can be created."""
    base = {"kind": "openai", "base_url": "https://a.example/v1"}
    return pb.Provider(name=f"providers/{name}", **{**base, **fields})


def model(
    name: str = "fast", *, routes: Any = None, visibility: Any = None, organizations: Any = (), **fields: Any
) -> pb.ModelConfig:
    """A model that can be created where provider `a` is."""
    given = [pb.Route(provider="providers/a", upstream_model="up")] if routes is None else routes
    public = pb.Model(name=f"models/{name}", **fields)
    return pb.ModelConfig(model=public, routes=given, visibility=visibility, organizations=organizations)


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    kind: str = "local",
    trust: Trust = Trust.OPERATOR,
    settings: Layer = SETTINGS,
    allow_loopback: bool = False,
) -> AsyncIterator[Office]:
    """The service over a store in memory, with what the settings name above it."""
    folder.joinpath("key").write_text(SECRET)
    egress = EgressPolicy(allow_loopback=allow_loopback)
    transport = open_transport("lean", egress)
    upstreams = NodeUpstreams(folder, egress, transport, SEALS)
    store = MemoryCatalogueStore()
    catalogue = Catalogue(store, settings, upstreams, lambda problems: None)
    await catalogue.reload()
    service = ModelsService(
        catalogue, CatalogueEditor(store, catalogue, upstreams, SEALS, ManualClock(NOW)), lambda _: ()
    )

    def add(server: Any) -> None:
        add_ModelsServiceServicer_to_server(service, server)

    add.file = pb.DESCRIPTOR  # type: ignore[attr-defined]  # how the rig knows whose rules to read
    async with open_edge(kind, trust=trust, register=[add]) as edge:
        yield Office(ModelsServiceStub(edge.channel), store, catalogue)
    await transport.close()


async def refusal(call: Any) -> GatewayError:
    """How a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)
