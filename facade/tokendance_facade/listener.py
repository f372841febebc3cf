"""HTTP connections: sockets, malformed requests, slow heads, an orderly end. What a request means lies elsewhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_facade.answers import Answer, Reply
from tokendance_facade.config import FacadeConfig, TlsConfig, parse_address
from tokendance_facade.errors import internal_error
from tokendance_facade.public_tls import PublicTls

Handle = Callable[[web.BaseRequest], Awaitable[Reply]]
Refuse = Callable[[GatewayError], Answer]

_log = structlog.get_logger("tokendance_facade")
_BACKLOG = 1024
# Slower than any link that a person waits at, and fast enough that the largest answer does not stay for days.
_SLOWEST_READER_BYTES_PER_S = 512


class AddressError(OSError):
    """Nothing can listen on an address; `filename` is the address, `host:port`."""


class Listener:
    """Serves one address. `handle` answers a request and never raises; `refuse` answers what is no request at all."""

    def __init__(
        self, address: str, config: FacadeConfig, handle: Handle, refuse: Refuse, *, tls: TlsConfig | None = None
    ) -> None:
        self._address = parse_address(address)
        self._config = config
        self._handle = handle
        self._refuse = refuse
        self._tls = tls
        self._running: set[asyncio.Task[Any]] = set()
        self._connections: _Connections | None = None
        self._sockets: asyncio.Server | None = None
        self.url = ""
        self.stopping = False

    async def start(self) -> None:
        """Bind and listen. Raises AddressError where the address is taken or not this machine's."""
        loop = asyncio.get_running_loop()
        config = self._config
        connections = _Connections(
            cast("Any", self._run),
            request_factory=cast("Any", self._make_request),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=config.idle_connection_s,
            max_line_size=16 * 1024,
            max_field_size=16 * 1024,
            lingering_time=config.linger_s,
        )
        connections.head_timeout_s = config.head_timeout_s
        connections.write_timeout_s = config.write_timeout_s
        connections.refuse = self._refuse
        self._connections = connections
        if isinstance(self._address, str):
            path = Path(self._address)
            previous = os.umask(0o177)
            try:
                self._sockets = await loop.create_unix_server(connections, str(path), backlog=_BACKLOG)
            finally:
                os.umask(previous)
            self.url = f"unix://{path}"
        else:
            host, port = self._address
            options = self._tls_options()
            try:
                self._sockets = await loop.create_server(
                    connections, host, port, backlog=_BACKLOG, reuse_address=True, **options
                )
            except OSError as exc:
                raise AddressError(exc.errno, exc.strerror, f"{host}:{port}") from exc
            bound = self._sockets.sockets[0].getsockname()[1]
            scheme = "http" if self._tls is None else "https"
            self.url = f"{scheme}://[{host}]:{bound}" if ":" in host else f"{scheme}://{host}:{bound}"

    def _tls_options(self) -> dict[str, Any]:
        if self._tls is None:
            return {}
        tls = PublicTls(self._tls.files())
        # A handshake may take as long as a head, for it comes before the head's own time begins.
        return {"ssl": tls.context, "ssl_handshake_timeout": self._config.head_timeout_s, "ssl_shutdown_timeout": 1}

    async def stop(self, grace_s: float) -> None:
        """Accept nothing more, let running requests finish within `grace_s` seconds, then cancel them."""
        self.stopping = True
        if self._sockets is None or self._connections is None:
            return
        self._sockets.close()
        self._connections.pre_shutdown()
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        for task in self._running:
            task.cancel()
        await self._connections.shutdown(1)
        await self._sockets.wait_closed()

    async def _run(self, request: web.BaseRequest) -> Reply:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            reply = await self._handle(request)
        finally:
            self._running.discard(task)
        if self.stopping and isinstance(reply, Answer):
            reply.close = True
        return reply

    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._config.max_body_bytes,
        )


class _Connections(web.Server):
    """aiohttp's low-level server, with connections of our own kind."""

    head_timeout_s: float
    write_timeout_s: float
    refuse: Refuse

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """One connection: ends where a head does not arrive or an answer is not read; answers nonsense in our own form."""

    __slots__ = ("_connections", "_head_timer", "_malformed", "_unread", "_write_timer")

    def __init__(self, connections: _Connections, **kwargs: Any) -> None:
        super().__init__(connections, **kwargs)
        self._connections = connections
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._malformed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._connections.head_timeout_s, self._head_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        self._disarm_write()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch a caller that reads slower than it is answered."""
        super().pause_writing()
        if self._write_timer is None:
            self._watch_writes()

    def resume_writing(self) -> None:
        """Stop watching: what was written has been taken."""
        self._disarm_write()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._malformed:
            return
        super().data_received(data)
        if self._messages and not isinstance(found := self._messages[-1][0], RawRequestMessage):
            # Nothing behind it is a request.
            self._malformed = True
            _forget(found.exc)
        if self._messages or self._current_request is not None:
            if self._head_timer is not None:
                self._disarm()
        elif self._head_timer is None and self._waiter is not None:
            self._head_timer = self._loop.call_later(self._connections.head_timeout_s, self._head_late)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refused. The parser's own words may hold bytes of the request, so they stay here."""
        if exc is not None and status < 500:
            _forget(exc)
        if status >= 500:
            _log.error("request_crashed", exc_info=exc)
            error = internal_error()
        elif isinstance(exc, LineTooLong):
            error = GatewayError(
                errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
                "The request line or a header is too long; send shorter ones.",
                origin="caller",
            )
        else:
            error = GatewayError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST, "The request is not well-formed HTTP/1.1.", origin="caller"
            )
        return cast("web.StreamResponse", self._connections.refuse(error))

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch_writes(self) -> None:
        transport = cast("asyncio.Transport", self.transport)
        self._unread = transport.get_write_buffer_size()
        self._write_timer = self._loop.call_later(self._connections.write_timeout_s, self._write_late)

    def _disarm_write(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _write_late(self) -> None:
        """Give up a caller that has taken next to nothing; its handler is cancelled with its connection."""
        self._write_timer = None
        transport = self.transport
        if transport is None:
            return
        taken = self._unread - transport.get_write_buffer_size()
        if taken < self._connections.write_timeout_s * _SLOWEST_READER_BYTES_PER_S:
            transport.abort()
        else:
            self._watch_writes()

    def _head_late(self) -> None:
        self._head_timer = None
        if self._current_request is None and not self._messages and self.transport is not None:
            self.transport.abort()


def _forget(exc: BaseException) -> None:
    """Drop a traceback that would keep a connection, and all bytes that came over it, until garbage is collected."""
    exc.__traceback__ = None
