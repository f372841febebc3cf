"""Whether the server in another process takes the calls of this facade, asked again and again; tells changes once."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tokendance.errors import GatewayError
from tokendance.rpc import RpcFailure, from_rpc
from tokendance_facade.internal import NOT_READY

_log = structlog.get_logger("tokendance_facade")

# A server says of each of its services whether it serves; to a certificate that is no facade's it says so of none.
_SERVICE = "tokendance.gateway.v1.CompletionsService"
_EVERY_S = 0.5
_ANSWER_S = 2.0


async def ask_server(channel: grpc.aio.Channel) -> bool:
    """Return whether the server serves model calls now. Raises GatewayError where it refuses this facade or is away."""
    health: Any = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await health.Check(health_pb2.HealthCheckRequest(service=_SERVICE), timeout=_ANSWER_S)
    except grpc.RpcError as failure:
        raise from_rpc(cast("RpcFailure", failure)) from failure
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def is_refusal(error: GatewayError) -> bool:
    """Tell whether the server was reached, and takes this process for no facade."""
    return error.metadata.get("listener") == "facade"


class ServerWatch:
    """Knows whether the server can be reached, serves, and takes this process for a facade.

    `every_s` is how long what it knows may be old, in seconds; asking also keeps the channel connected.
    """

    def __init__(self, channel: grpc.aio.Channel, *, every_s: float = _EVERY_S) -> None:
        self._channel = channel
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._serves = False
        self._refusal = ""
        self._unreached = ""

    @property
    def ready(self) -> bool:
        """True while calls are taken, as far as is known."""
        return self._serves and self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    @property
    def why_not(self) -> str:
        """What is wrong while it is not ready, for operators."""
        if self._refusal:
            return f"The server does not take this facade's certificate: {self._refusal}"
        if self._unreached:
            return f"The server cannot be reached: {self._unreached}"
        return NOT_READY

    def start(self) -> None:
        """Ask from now on until `stop`."""
        self._task = asyncio.create_task(self._run(), name="server watch")

    async def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._serves = False

    async def _run(self) -> None:
        while True:
            await self._ask()
            await asyncio.sleep(self._every_s)

    async def _ask(self) -> None:
        try:
            serves = await ask_server(self._channel)
        except GatewayError as error:
            self._failed(error)
            return
        if self._refusal:
            _log.info("server_takes_facade")
        self._serves = serves
        self._refusal = self._unreached = ""

    def _failed(self, error: GatewayError) -> None:
        self._serves = False
        refused = is_refusal(error)
        if refused and not self._refusal:
            _log.error("server_refused_facade", details=error.message)
        if not refused and not self._unreached:
            _log.warning("server_not_reached", details=error.message)
        self._refusal = error.message if refused else ""
        self._unreached = "" if refused else error.message
