"""The server's gRPC listeners: the TCP port, the facade's socket and the administration socket."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from tokendance_server.config import Limits
from tokendance_server.startup import StartupError

_HANDSHAKE_MS = 3_000
# A facade looks after its connection with pings, also while it has no calls.
_PINGS_APART_MS = 10_000
# After that a facade connects anew, and with it comes whatever certificate it has by then; its calls do not notice.
_CONNECTION_AGE_MS = 3_600_000
# A peer that is gone without a word, or reads nothing at all, is noticed within both together.
_KEEPALIVE_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
# Calls of a peer that takes nothing are ended, but what it holds of them in its connection goes only with that.
_CONNECTION_AGE_MS = 3_600_000


class Listener:
    """One gRPC server on one address, with its own interceptor; `credentials` make it speak TLS.

    To one for facades (`facades`) come the calls of many callers over one connection; one that is `public` is for
    callers outside of the trust zone.
    """

    def __init__(
        self,
        address: str,
        interceptor: grpc.aio.ServerInterceptor,
        handlers: Mapping[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]],
        limits: Limits,
        *,
        reflect: bool,
        credentials: grpc.ServerCredentials | None = None,
        facades: bool = False,
        public: bool = False,
    ) -> None:
        self.address = address
        self.facades = facades
        self.public = public
        # Kept for as long as the server: gRPC asks them with every handshake.
        self._credentials = credentials
        self._health = health_aio.HealthServicer()
        self._services = tuple(handlers)
        self._server = grpc.aio.server(interceptors=[interceptor], options=_options(limits, facades=facades))
        for service, methods in handlers.items():
            self._server.add_registered_method_handlers(service, methods)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, dict(methods)),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflect:
            names = (*self._services, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Bind and serve. Raises StartupError where the address is taken."""
        try:
            if self.address.startswith("unix:"):
                self._bind_socket(Path(self.address.removeprefix("unix:")))
            else:
                port = self._bind_port()
                self.address = f"{self.address.rpartition(':')[0]}:{port}"
        except RuntimeError as exc:
            raise StartupError(
                f"gRPC cannot listen on {self.address}: the address is taken or not this machine's. "
                "Choose another with --grpc HOST:PORT, for callers outside with --grpc-public, or for facades with "
                "server.facade_grpc."
            ) from exc
        await self._server.start()
        await self._announce(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Tell health checkers that no new call should come."""
        await self._announce(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those that run end within `grace_s` seconds, then cut them."""
        await self._server.stop(grace_s)

    async def _announce(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for service in ("", *self._services):
            await self._health.set(service, status)

    def _bind_port(self) -> int:
        if self._credentials is None:
            return self._server.add_insecure_port(self.address)
        return self._server.add_secure_port(self.address, self._credentials)

    def _bind_socket(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        before = os.umask(0o177)  # the socket must never be open to others, not even for a moment
        try:
            self._server.add_insecure_port(self.address)
        finally:
            os.umask(before)
        path.chmod(0o600)


def is_loopback(address: str) -> bool:
    """Tell whether a `host:port` is reachable from this machine only."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def by_service(
    handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]],
) -> dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]:
    """Sort handlers, by path, into one table for each service."""
    tables: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for path, handler in handlers.items():
        _, service, method = path.split("/")
        tables.setdefault(service, {})[method] = handler
    return tables


def _options(limits: Limits, *, facades: bool) -> Sequence[tuple[str, int]]:
    return (
        # Without it two processes share a port in silence, and callers meet either.
        ("grpc.so_reuseport", 0),
        # A connection that says nothing, or half a preface, is closed then; the default waits for ever.
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.max_receive_message_length", limits.grpc_message_bytes),
        ("grpc.max_send_message_length", limits.grpc_message_bytes),
        ("grpc.max_metadata_size", limits.grpc_metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * limits.grpc_metadata_bytes),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
        ("grpc.max_connection_age_grace_ms", _CONNECTION_AGE_MS + _KEEPALIVE_MS),
        *(_facade_options(limits) if facades else (("grpc.max_concurrent_streams", limits.grpc_concurrent_streams),)),
    )


def _facade_options(limits: Limits) -> Sequence[tuple[str, int]]:
    return (
        # More than are admitted: the refusal is to be ours, and quick, instead of a place in a line.
        ("grpc.max_concurrent_streams", max(limits.grpc_concurrent_streams, 2 * limits.in_flight)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PINGS_APART_MS),
        ("grpc.max_connection_age_ms", _CONNECTION_AGE_MS),
    )
