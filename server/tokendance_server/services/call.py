"""One RPC, as the server's own code sees it: who calls, under which request id, until when, and what to log of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol
from urllib.parse import unquote

import grpc
import grpc.aio

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.caller_pb2 import CallerAssertion
from tokendance_server.domain.principals import Principal


class Scope(Protocol):
    """What ends a call; `error` is why, once it does."""

    error: GatewayError | None


Metadata = Sequence[tuple[str, str | bytes]]


class Trust(enum.Enum):
    """What a listener vouches for. Decides which assertions of a caller are believed."""

    NETWORK = "network"
    """Anybody who can reach the port: only the credential counts, or the certificate of a service."""
    PUBLIC = "public"
    """Callers outside of the trust zone: an API key is the only credential, and nobody signs in."""
    FACADE = "facade"
    """The gateway's own facade, in process, over its socket or by its certificate: its CallerAssertion is believed."""
    OPERATOR = "operator"
    """The node's administration socket: a caller without credential is the local operator."""
    STRANGER = "stranger"
    """Somebody at the facade's listener who is not the facade: nothing is believed, and nothing is served."""


class Call(grpc.aio.ServicerContext[Any, Any]):
    """The context that servicers get: gRPC's own, and what the interceptor found out.

    `started` is of time.perf_counter (an event loop's own clock may count in milliseconds only); `deadline` is in the
    event loop's seconds, and `scope` holds the call to it. `address` is the caller's IP address, as the facade asserts
    it or the connection shows it, and empty where it is not known. `asked` is the message, once it was read. `model`,
    `upstream_s` (seconds of waiting for upstreams) and `key_id` are set on the way, for log and metrics.
    """

    __slots__ = (
        "_inner",
        "address",
        "asked",
        "caller",
        "deadline",
        "method",
        "model",
        "principal",
        "request_id",
        "scope",
        "started",
        "surface",
        "trust",
        "upstream_s",
    )

    def __init__(self, inner: grpc.aio.ServicerContext[Any, Any], method: str, trust: Trust, started: float) -> None:
        self._inner = inner
        self.method = method
        self.trust = trust
        self.started = started
        self.asked: Any = None
        self.deadline = 0.0
        self.scope: Scope | None = None
        self.request_id = ""
        self.surface: errors_pb2.Surface.ValueType = errors_pb2.SURFACE_GRPC
        self.address = ""
        self.caller: CallerAssertion | None = None
        self.principal: Principal | None = None
        self.model = ""
        self.upstream_s = 0.0

    @property
    def ended_by(self) -> GatewayError | None:
        """Why the gateway itself ends the call, such as that its deadline is over; None where it does not."""
        return None if self.scope is None else self.scope.error

    @property
    def identity(self) -> Principal:
        """The caller, once authenticated; a servicer never runs before that."""
        assert self.principal is not None
        return self.principal

    def add_trailing(self, *pairs: tuple[str, str | bytes]) -> None:
        """Add to the metadata that travels behind the answer."""
        present = self._inner.trailing_metadata() or ()
        self._inner.set_trailing_metadata((*present, *pairs))

    # The rest is gRPC's own context, unchanged.

    async def read(self) -> Any:
        return await self._inner.read()

    async def write(self, message: Any) -> None:
        await self._inner.write(message)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        await self._inner.send_initial_metadata(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        await self._inner.abort(code, details, trailing_metadata)
        raise AssertionError("abort always raises")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self._inner.abort_with_status(status)
        raise AssertionError("abort always raises")

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._inner.set_trailing_metadata(trailing_metadata)

    def invocation_metadata(self) -> Any:
        return self._inner.invocation_metadata()

    def set_code(self, code: grpc.StatusCode) -> None:
        self._inner.set_code(code)

    def set_details(self, details: str) -> None:
        self._inner.set_details(details)

    def set_compression(self, compression: grpc.Compression) -> None:
        self._inner.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        self._inner.disable_next_message_compression()

    def peer(self) -> str:
        return self._inner.peer()

    def peer_identities(self) -> Iterable[bytes] | None:
        return self._inner.peer_identities()

    def peer_identity_key(self) -> str | None:
        return self._inner.peer_identity_key()

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return self._inner.auth_context()

    def time_remaining(self) -> float:
        return self._inner.time_remaining()

    def trailing_metadata(self) -> Any:
        return self._inner.trailing_metadata()

    def code(self) -> grpc.StatusCode:
        return self._inner.code()

    def details(self) -> str:
        return self._inner.details()

    def add_done_callback(self, callback: Any) -> None:
        self._inner.add_done_callback(callback)

    def cancelled(self) -> bool:
        return self._inner.cancelled()

    def done(self) -> bool:
        return self._inner.done()


def address_of(peer: str) -> str:
    """Return the IP address in what gRPC calls a peer, such as `ipv4:127.0.0.1:50000`; empty for a socket file."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def call_of(context: grpc.aio.ServicerContext[Any, Any]) -> Call:
    """Return the Call behind a servicer's context; every method that passes the interceptors has one."""
    assert isinstance(context, Call)
    return context
