"""HTTP answers written by hand in one go: the head is known, so that no general machinery has to find it out.

What aiohttp asks of a response is `prepare`, `write_eof` and `keep_alive`; it adds nothing to what is written here,
its own name least of all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import ClientConnectionResetError
from aiohttp.web import BaseRequest

SERVER_NAME = "TokenDance Gateway"
JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"

Header = tuple[str, str]

_STATUS_LINES = {
    **{status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus},
    499: b"HTTP/1.1 499 Client Closed Request\r\n",
    529: b"HTTP/1.1 529 Overloaded\r\n",
}
_BODILESS = frozenset({204, 304})


class _Date:
    """The Date header, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = b"date: %b\r\n" % formatdate(now, usegmt=True).encode()
        return self._line


_date = _Date()
_server_line = b"server: %b\r\n" % SERVER_NAME.encode()


def head(status: int, content_type: str, request_id: str, more: Iterable[Header]) -> bytes:
    """Return an answer's head without framing and without its closing empty line.

    `more` holds values of our own making or checked ones: no value of a caller reaches a head unchecked.
    """
    identity = request_id.encode()
    lines = [
        _STATUS_LINES.get(status) or b"HTTP/1.1 %d Other\r\n" % status,
        _server_line,
        _date.line(),
        b"content-type: %b\r\nx-request-id: %b\r\nrequest-id: %b\r\n" % (content_type.encode(), identity, identity),
    ]
    lines.extend(b"%b: %b\r\n" % (name.encode(), value.encode("ascii", "replace")) for name, value in more)
    return b"".join(lines)


def connection_line(request: BaseRequest, *, keep_alive: bool) -> bytes:
    """Return the Connection header where HTTP's own default says otherwise."""
    if not keep_alive:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if request.version < (1, 1) else b""


def write(request: BaseRequest, data: bytes) -> None:
    """Hand bytes to the connection. Raises ClientConnectionResetError where the caller has left."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ClientConnectionResetError("the caller has left")
    transport.write(data)


class Answer:
    """A whole answer. With `close` the connection ends behind it."""

    __slots__ = ("_head", "_request", "body", "close", "keep_alive", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        request_id: str,
        *,
        content_type: str = JSON,
        headers: Iterable[Header] = (),
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.close = close
        self.keep_alive = not close
        self._head = head(status, content_type, request_id, headers)
        self._request: BaseRequest | None = None

    async def prepare(self, request: BaseRequest) -> None:
        """Take note of the request that is answered."""
        self._request = request

    async def write_eof(self) -> None:
        """Write the answer, whole."""
        request = self._request
        assert request is not None
        self.keep_alive = request.keep_alive and not self.close
        connection = connection_line(request, keep_alive=self.keep_alive)
        length = b"" if self.status in _BODILESS else b"content-length: %d\r\n" % len(self.body)
        body = b"" if request.method == "HEAD" or self.status in _BODILESS else self.body
        write(request, b"%b%b%b\r\n%b" % (self._head, length, connection, body))
        await request.writer.drain()


class Sent:
    """Stands for an answer that its handler has written already."""

    __slots__ = ("keep_alive",)

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: BaseRequest) -> None:
        """Do nothing: the head is out."""

    async def write_eof(self) -> None:
        """Do nothing: the body is out."""


Reply = Answer | Sent
