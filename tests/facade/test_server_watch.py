"""What a facade knows of a server in another process, and what it says of it in its log."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.rpc import STATUS_DETAILS_KEY, to_status
from tokendance_facade.server_watch import ServerWatch

REFUSAL = GatewayError(errors_pb2.ERROR_REASON_PERMISSION_DENIED, "No facade.", metadata={"listener": "facade"})


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # that package is untyped
    """Answers as told: a status, or a refusal."""

    def __init__(self) -> None:
        self.status: Any = health_pb2.HealthCheckResponse.SERVING
        self.refuses = False
        self.asked: list[str] = []

    async def Check(self, request: Any, context: Any) -> Any:
        self.asked.append(request.service)
        if self.refuses:
            status = to_status(REFUSAL)
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, REFUSAL.message, ((STATUS_DETAILS_KEY, status.SerializeToString()),)
            )
        return health_pb2.HealthCheckResponse(status=self.status)


@asynccontextmanager
async def _server(place: str, health: Health) -> AsyncIterator[None]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(place)
    await server.start()
    yield
    await server.stop(0)


@pytest.fixture
async def place() -> AsyncIterator[str]:
    """Where a server may listen."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"unix:{Path(folder) / 's'}"


@pytest.fixture
async def watch(place: str) -> AsyncIterator[ServerWatch]:
    """A watch that asks often, over a channel that connects anew at once."""
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100)]
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(place, options=options))
        watch = ServerWatch(channel, every_s=0.01)
        watch.start()
        stack.push_async_callback(watch.stop)
        yield watch


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_server_that_serves_makes_it_ready(place: str, watch: ServerWatch) -> None:
    """And one that drains, or is gone, does not; each is told once however often it is asked."""
    health = Health()
    with capture_logs() as lines:
        assert not watch.ready
        async with _server(place, health):
            await _until(lambda: watch.ready)
            health.status = health_pb2.HealthCheckResponse.NOT_SERVING
            await _until(lambda: not watch.ready)
            assert watch.why_not == (
                "The server is not ready to take calls: it is starting, stopping, or cannot be reached."
            )
            health.status = health_pb2.HealthCheckResponse.SERVING
            await _until(lambda: watch.ready)
        lines.clear()
        await _until(lambda: watch.why_not.startswith("The server cannot be reached: "))
        assert not watch.ready
        await asyncio.sleep(0.05)
    assert [line["event"] for line in lines] == ["server_not_reached"]
    assert set(health.asked) == {"tokendance.gateway.v1.CompletionsService"}


async def test_a_server_that_refuses_the_certificate_makes_it_unready(place: str, watch: ServerWatch) -> None:
    """The reason is told once in the log and to operators; it is ready again once the server takes it."""
    health = Health()
    health.refuses = True
    with capture_logs() as lines:
        async with _server(place, health):
            await _until(lambda: len(health.asked) > 3)
            assert not watch.ready
            assert watch.why_not == "The server does not take this facade's certificate: No facade."
            health.refuses = False
            await _until(lambda: watch.ready)
    told = [(line["event"], line["log_level"]) for line in lines if line["event"] != "server_not_reached"]
    assert told == [("server_refused_facade", "error"), ("server_takes_facade", "info")]


async def test_nothing_is_ready_after_the_end(place: str, watch: ServerWatch) -> None:
    """Whatever the server says."""
    async with _server(place, Health()):
        await _until(lambda: watch.ready)
        await watch.stop()
        assert not watch.ready
