"""One connection to an upstream: bytes out, and each byte that comes in to the one Reply that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from tokendance_server.providers.lean.reply import Reply

# More than this unread, and the upstream has to wait.
_READ_AHEAD_BYTES = 128 * 1024
# Up to here one copy is cheaper than two writes.
_JOIN_BYTES = 32 * 1024


class Connection(asyncio.Protocol):
    """Carries one request at a time, in `loop`. `on_lost` is called once, when the connection has ended."""

    __slots__ = ("_on_lost", "_paused", "_reply", "_transport", "idle_since", "loop")

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        self._on_lost = on_lost
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reply: Reply | None = None
        self._paused = False
        self.idle_since = 0.0

    @property
    def peer(self) -> str | None:
        """The address at the other end, or None where the connection ended at once."""
        found = self._transport and self._transport.get_extra_info("peername")
        return cast("str", found[0]) if found else None

    def send(self, head: bytes, body: bytes) -> Reply:
        """Send a request; what comes from now on is its answer. Raises RuntimeError while another one is under way."""
        if self._reply is not None:
            raise RuntimeError("a connection carries one request at a time")
        reply = Reply(self.loop)
        if self._transport is None or self._transport.is_closing():
            reply.end(clean=False)
            return reply
        self._reply = reply
        if len(body) <= _JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        return reply

    def resume(self) -> None:
        """Let the upstream go on, now that its answer is being read."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def release(self) -> bool:
        """End the exchange. Returns whether another may follow: a whole message came, nothing behind it, all was sent.

        Where none may, the connection is closed.
        """
        reply, self._reply = self._reply, None
        transport = self._transport
        if (
            reply is not None
            and reply.complete
            and reply.keep
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        ):
            self.resume()
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """Close the connection, and send nothing more of what waits to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop; what nobody has asked for ends the connection."""
        reply = self._reply
        if reply is None:
            self.abort()
            return
        reply.feed(data)
        if reply.buffered > _READ_AHEAD_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Called by the event loop, which closes the connection then."""
        if self._reply is not None:
            self._reply.end(clean=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop once, last."""
        self._transport = None
        if self._reply is not None:
            self._reply.end(clean=exc is None)
        self._on_lost(self)
