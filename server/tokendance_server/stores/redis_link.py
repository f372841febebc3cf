"""One lean connection to Redis or Valkey: commands go out in order, answers come back in order, nothing twice."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

_PORT = 6379


class LinkLostError(Exception):
    """The connection ended, or could not be made. What was asked and not answered may have been done or not."""


class Link(asyncio.Protocol):
    """RESP3 over one connection. `pushed` gets what the server sends unasked."""

    def __init__(self, pushed: Callable[[list[Any]], None]) -> None:
        self._pushed = pushed
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None

    @property
    def alive(self) -> bool:
        """True while it can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what writes."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand every whole answer to who waits for it."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                if isinstance(answer, hiredis.PushNotification):
                    self._pushed(answer)
                    continue
                asked = self._waiting.popleft()
                if not asked.done():
                    asked.set_result(answer)
        except (hiredis.ProtocolError, IndexError):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait that nobody will answer."""
        self._transport = None
        while self._waiting:
            asked = self._waiting.popleft()
            if not asked.done():
                asked.set_exception(LinkLostError(type(exc).__name__ if exc else "closed"))

    def close(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def subscribe(self, channel: bytes) -> None:
        """Let the server send what is published on a channel; it confirms that unasked."""
        if self._transport is not None:
            self._transport.write(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(channel), channel))

    async def ask(self, *words: bytes) -> Any:
        """Send a command and return its answer, a hiredis.ReplyError for an error. Raises LinkLostError."""
        if self._transport is None or self._transport.is_closing():
            raise LinkLostError("closed")
        asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(asked)
        self._transport.write(
            b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
        )
        return await asked


async def connect(url: str, pushed: Callable[[list[Any]], None], address: tuple[str, int] | None = None) -> Link:
    """Connect by a redis, rediss or unix URL, and log in; to another `address` of the same cluster where given.

    Raises LinkLostError.
    """
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    try:
        if parts.scheme == "unix":
            _, link = await loop.create_unix_connection(lambda: Link(pushed), parts.path)
        else:
            host, port = address or (parts.hostname or "127.0.0.1", parts.port or _PORT)
            secure = ssl.create_default_context() if parts.scheme == "rediss" else None
            _, link = await loop.create_connection(lambda: Link(pushed), host, port, ssl=secure)
    except OSError as exc:
        raise LinkLostError(type(exc).__name__) from exc
    login = []
    if parts.password:
        login = [b"AUTH", unquote(parts.username or "default").encode(), unquote(parts.password).encode()]
    database = parts.path.strip("/") if parts.scheme != "unix" else ""
    try:
        greeting = await link.ask(b"HELLO", b"3", *login)
        if not isinstance(greeting, Exception) and database not in ("", "0"):
            greeting = await link.ask(b"SELECT", database.encode())
    except BaseException:
        link.close()
        raise
    if isinstance(greeting, Exception):
        link.close()
        raise LinkLostError(str(greeting).split(" ", 1)[0])
    return link
