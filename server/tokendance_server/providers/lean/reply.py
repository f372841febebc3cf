"""One answer as it arrives: what the parser finds goes in, what the reader takes comes out. It knows no socket.

Every request has a parser and a Reply of its own, so that nothing of one answer can come out of another.
"""

from __future__ import annotations

import asyncio

import httptools

from tokendance_server.providers.transport import HEADER_BYTES

# A status line and the marks between headers; what the headers themselves may be is counted apart.
_HEAD_BYTES = 2 * HEADER_BYTES
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_BODILESS = frozenset({204, 304})


class Reply:
    """What has come of one answer. Public fields are for reading.

    `begun`: a byte has come; `headed`: the final head; `complete`: the whole message; `failed`: no more will come, or
    none that can be believed; `expired`: a wait took too long. `keep`: the connection may serve another request.
    """

    __slots__ = (
        "_bodiless",
        "_framed",
        "_head_bytes",
        "_loop",
        "_packets",
        "_parser",
        "_waiter",
        "begun",
        "buffered",
        "complete",
        "expired",
        "failed",
        "headed",
        "headers",
        "keep",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Given: asking which loop runs asks the system for the process's id, and a stream waits for each packet.
        self._loop = loop
        # It knows this reply, as this reply knows it: `end` parts them, or they would be garbage to be searched for.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._packets: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._head_bytes = 0
        self._framed = False
        self._bodiless = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.buffered = 0
        self.begun = self.headed = self.complete = self.failed = self.expired = self.keep = False

    def feed(self, data: bytes) -> None:
        """Take what a packet brought."""
        if self.complete or self.failed or self._parser is None:
            self.keep = False
            return
        self.begun = True
        if not self.headed:
            # Before a head is whole the parser holds what comes of it, so it is measured here.
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._spoil()
        if not self.headed and self._head_bytes > _HEAD_BYTES:
            self._spoil()
        self.wake()

    def end(self, *, clean: bool) -> None:
        """Learn that nothing more will come; `clean` is the peer's own end, which closes a body without a length."""
        self.keep = False
        self._parser = None
        if self.complete:
            return
        if clean and self.headed and not self._framed and not self._bodiless and not self.failed:
            self.complete = True
        else:
            self.failed = True
        self.wake()

    def expire(self) -> None:
        """Tell the reader that it has waited too long."""
        self.expired = True
        self.wake()

    def take(self) -> bytes:
        """Return all of the body that has come and was not taken yet."""
        packets = self._packets
        if not packets:
            return b""
        data = packets[0] if len(packets) == 1 else b"".join(packets)
        self._packets = []
        self.buffered = 0
        return data

    async def wait(self) -> None:
        """Wait until there is something new."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let the reader look."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_message_begin(self) -> None:
        """Called by the parser: a message begins, and behind a complete one none may."""
        if self.complete:
            self.keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for a header, and for what trails a body, which nobody asks for."""
        self._head_bytes += len(name) + len(value)
        if self.headed:
            if self._head_bytes > 2 * _HEAD_BYTES:
                self._spoil()
            return
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Called by the parser: the head has come, of the answer or of a word ahead of it."""
        if self.complete or self._parser is None:
            return
        self.status = status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers = []
        elif status < 200:
            self._spoil()
        else:
            self.headed = True
            self.keep = self._parser.should_keep_alive()
            self._bodiless = status in _BODILESS
            self._framed = any(name in _FRAMING for name, _ in self.headers)

    def on_body(self, data: bytes) -> None:
        """Called by the parser for a piece of the body."""
        if self.complete or self.failed:
            return
        self._packets.append(data)
        self.buffered += len(data)

    def on_message_complete(self) -> None:
        """Called by the parser: the message is whole, if it was not a word ahead of it."""
        if self.headed:
            self.complete = not self.failed

    def _spoil(self) -> None:
        """Believe nothing more; what was whole before stays so."""
        self.keep = False
        if not self.complete:
            self.failed = True
