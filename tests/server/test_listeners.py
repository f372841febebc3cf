"""The server's gRPC listeners: where they bind, who may open them, and what they tell of themselves."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.server.services.edge import Servicer, open_edge, unary

from tokendance.gateway.v1 import completions_service_pb2_grpc as completions_grpc
from tokendance.rpc import from_rpc
from tokendance_server.config import Limits
from tokendance_server.listeners import Listener, by_service, is_loopback
from tokendance_server.services.local_channel import MethodTable
from tokendance_server.startup import StartupError

SERVICE = "tokendance.gateway.v1.CompletionsService"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="td") as name:
        yield Path(name)


@asynccontextmanager
async def _listening(address: str, *, reflect: bool = False) -> AsyncIterator[tuple[Listener, grpc.aio.Channel]]:
    async with open_edge("local") as edge:
        table = MethodTable()
        completions_grpc.add_CompletionsServiceServicer_to_server(Servicer(), table)  # type: ignore[abstract, arg-type]
        listener = Listener(address, edge.chain, by_service(table.handlers), Limits(), reflect=reflect)
        await listener.start()
        try:
            async with grpc.aio.insecure_channel(listener.address) as channel:
                yield listener, channel
        finally:
            await listener.stop(0)


async def test_a_port_of_its_own_is_told() -> None:
    """Port 0 lets the system choose, and the address says what it chose."""
    async with _listening("127.0.0.1:0") as (listener, channel):
        assert int(listener.address.rpartition(":")[2]) > 0
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await completions_grpc.CompletionsServiceStub(channel).CreateCompletion(unary("echo"))
        assert from_rpc(raised.value).code == "missing_api_key"


async def test_a_taken_port_is_one_clear_sentence() -> None:
    """Two nodes never share a port in silence."""
    async with _listening("127.0.0.1:0") as (listener, _):
        with pytest.raises(StartupError, match=f"cannot listen on {listener.address}"):
            async with _listening(listener.address):
                pytest.fail("two listeners on one port")


async def test_a_socket_is_its_owners_alone(folder: Path) -> None:
    """0600 whatever the folder allows; one left over from a crash is replaced."""
    path = folder / "admin.sock"
    path.write_text("left over")
    async with _listening(f"unix:{path}") as (_, channel):
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await completions_grpc.CompletionsServiceStub(channel).CreateCompletion(unary("echo"))
        assert from_rpc(raised.value).code == "missing_api_key"


async def test_health_is_told_to_anybody_until_the_node_drains() -> None:
    """For the server as a whole and for each service; probes have no key."""
    async with _listening("127.0.0.1:0") as (listener, channel):
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await listener.drain()
        answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("reflect", [True, False])
async def test_reflection_answers_only_where_it_is_on(reflect: bool) -> None:
    """It names our services to tools without descriptors."""
    async with _listening("127.0.0.1:0", reflect=reflect) as (_, channel):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        if reflect:
            answer = await call.read()
            assert SERVICE in [service.name for service in answer.list_services_response.service]
        else:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.8.8:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("127.0.0.1.example.com:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_loopback_is_known(address: str, loopback: bool) -> None:
    """What is reachable from this machine only may show more of itself."""
    assert is_loopback(address) is loopback
