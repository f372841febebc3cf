"""One streamed answer over HTTP: the head when there is something to say, events, keep-alive comments, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiohttp.web import BaseRequest

from tokendance_facade.answers import EVENT_STREAM, Header, Sent, connection_line, head, write

KEEP_ALIVE = b": keep-alive\n\n"

_NO_CACHE: tuple[Header, ...] = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))


class EventStream:
    """Writes one event stream.

    The head goes out with the first event, or once `headers_after_s` have passed; from then on `keep_alive`, a comment
    unless the dialect has something else, follows each `keepalive_s` of silence. Where it is a function, it is called
    for what to write each time, also when the head goes out before there is an event. One timer serves both, whatever
    the rate of events. `headers` is called for further headers when the head goes out.
    """

    def __init__(
        self,
        request: BaseRequest,
        request_id: str,
        headers: Callable[[], Iterable[Header]],
        *,
        headers_after_s: float,
        keepalive_s: float,
        content_type: str = EVENT_STREAM,
        keep_alive: bytes | Callable[[], bytes] = KEEP_ALIVE,
    ) -> None:
        self._content_type = content_type
        self._silence = keep_alive
        self._request = request
        self._request_id = request_id
        self._headers = headers
        self._keepalive_s = keepalive_s
        self._chunked = request.version >= (1, 1)
        self._keep_alive = self._chunked and request.keep_alive
        self._loop = asyncio.get_running_loop()
        self._last_write = self._loop.time()
        self._timer = self._loop.call_later(headers_after_s, self._tick)
        self.opened = False

    async def send(self, events: bytes) -> None:
        """Write whole events. Raises ConnectionError where the caller has left or was given up."""
        data = self._frame(events)
        if not self.opened:
            data = self._open() + data
        self._last_write = self._loop.time()
        write(self._request, data)
        if self._request.protocol.writing_paused:
            await self._request.writer.drain()

    async def end(self) -> Sent:
        """Write the end of the body. The head has promised to keep the connection, so it is kept, errors or not."""
        self.stop()
        if self._chunked:
            write(self._request, b"0\r\n\r\n")
        await self._request.writer.drain()
        return Sent(keep_alive=self._keep_alive)

    def stop(self) -> None:
        """Write nothing of its own accord any more."""
        self._timer.cancel()

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    def _open(self) -> bytes:
        self.opened = True
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        return b"%b%b%b\r\n" % (
            head(200, self._content_type, self._request_id, (*_NO_CACHE, *self._headers())),
            framing,
            connection_line(self._request, keep_alive=self._keep_alive),
        )

    def _tick(self) -> None:
        """Write what is due: the head, or a comment if nothing was written for long enough."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return
        now = self._loop.time()
        due = self._last_write + self._keepalive_s
        if not self.opened:
            head = self._open()
            transport.write(head + self._frame(self._silence()) if callable(self._silence) else head)
        elif now < due:
            self._timer = self._loop.call_at(due, self._tick)
            return
        elif transport.get_write_buffer_size() == 0:
            transport.write(self._frame(self._silence() if callable(self._silence) else self._silence))
        self._last_write = now
        self._timer = self._loop.call_at(now + self._keepalive_s, self._tick)
