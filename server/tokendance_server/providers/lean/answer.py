"""An answer on a lean connection, as its reader sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.providers.failures import broken_off, too_large
from tokendance_server.providers.lean.connection import Connection
from tokendance_server.providers.lean.pool import Pool
from tokendance_server.providers.lean.reply import Reply
from tokendance_server.providers.patience import Patience
from tokendance_server.providers.transport import DRAIN_BYTES, DRAIN_S, REQUEST_ID_HEADERS

_REQUEST_ID = frozenset(name.encode() for name in REQUEST_ID_HEADERS)


class LeanAnswer:
    """An answer whose head has come. Satisfies providers.transport.Answer.

    `timer` expires the reply; it is moved once, when the first of the body is read, and never for each packet.
    """

    __slots__ = (
        "_closed",
        "_connection",
        "_limit",
        "_patience",
        "_pool",
        "_received",
        "_reply",
        "_timer",
        "connect_us",
    )

    def __init__(
        self,
        connection: Connection,
        reply: Reply,
        pool: Pool,
        patience: Patience,
        *,
        timer: asyncio.TimerHandle,
        limit: int,
        connect_us: int | None = None,
    ) -> None:
        self._connection = connection
        self._reply = reply
        self._pool = pool
        self._patience = patience
        self._timer = timer
        self._limit = limit
        self._received = 0
        self._closed = False
        self.connect_us = connect_us

    @property
    def status(self) -> int:
        """The status code."""
        return self._reply.status

    @property
    def headers(self) -> dict[str, str]:
        """The headers by lower-case name; of a repeated one the last."""
        return {_text(name): _text(value) for name, value in self._reply.headers}

    @property
    def request_id(self) -> str:
        """The upstream's own id of the call; empty where it wrote none."""
        return next((_text(value) for name, value in self._reply.headers if name in _REQUEST_ID), "")

    @property
    def head_bytes(self) -> int:
        """How long the headers are in all."""
        return sum(len(name) + len(value) for name, value in self._reply.headers)

    @property
    def content_type(self) -> str:
        """The media type in lower case without its parameters; empty where none was sent."""
        return _text(self.header(b"content-type")).partition(";")[0].strip().lower()

    def header(self, name: bytes) -> bytes:
        """Return the header of a lower-case name, of a repeated one all, with commas; empty where there is none."""
        return b",".join([value for found, value in self._reply.headers if found == name])

    def read_packet(self) -> Coroutine[Any, Any, bytes]:
        """Return what has arrived, at least one byte; nothing at the end of the body."""
        return self._read(errors_pb2.ERROR_REASON_STREAM_INTERRUPTED)

    async def read_body(self) -> bytes:
        """Return the whole body."""
        packets = []
        while packet := await self._read(errors_pb2.ERROR_REASON_PROVIDER_ERROR):
            packets.append(packet)
        return packets[0] if len(packets) == 1 else b"".join(packets)

    async def read_beginning(self, size: int) -> bytes:
        """Return the body up to about `size` bytes, or what of it came before it was cut."""
        packets: list[bytes] = []
        try:
            while self._received < size and (packet := await self.read_packet()):
                packets.append(packet)
        except GatewayError:
            return b"".join(packets)
        return b"".join(packets)

    async def drain(self) -> None:
        """Read a small rest of the body, if it comes at once, so that the connection can be kept."""
        if self._reply.complete:
            return
        left = self._received + DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_S):
                while self._received < left and await self.read_packet():
                    pass
        except (TimeoutError, GatewayError):
            return

    def close(self) -> None:
        """Let go of the answer: its connection is kept if the body came whole, and closed otherwise."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        # Once given back it may serve another call at once, so this answer must not touch it any more.
        self._pool.give_back(self._connection)
        self._reply.end(clean=False)

    async def _read(self, cut: ErrorReason.ValueType) -> bytes:
        reply = self._reply
        while True:
            if reply.expired:
                raise self._patience.error(self._connection.loop.time())
            if data := reply.take():
                return self._take(data)
            if reply.failed:
                raise broken_off(cut)
            if reply.complete:
                return b""
            await reply.wait()

    def _take(self, data: bytes) -> bytes:
        """Count what was read, and let the upstream go on."""
        self._received += len(data)
        if self._received > self._limit:
            raise too_large()
        if self._closed:
            return data
        self._connection.resume()
        patience = self._patience
        if self._reply.complete:
            # All is here, so nothing more is waited for.
            self._timer.cancel()
            return data
        loop = self._connection.loop
        first = patience.last is None
        patience.last = loop.time()
        if first:
            # From here on another patience counts, and it may end sooner than the one the timer was set for.
            self._timer.cancel()
            self._timer = loop.call_at(patience.due(), self._watch)
        return data

    def _watch(self) -> None:
        """Expire an answer that keeps silent too long."""
        loop = self._connection.loop
        due = self._patience.due()
        if loop.time() >= due:
            self._reply.expire()
        else:
            self._timer = loop.call_at(due, self._watch)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
