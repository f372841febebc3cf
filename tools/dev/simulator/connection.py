"""One connection of a client on a raw asyncio protocol: HTTP/1.1 in, answers and misbehaviour out."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import deque
from typing import Protocol, cast

import httptools

from .answer import Answer, Finish, Script, whole
from .records import Record

BODY_LIMIT_BYTES = 128 * 1024 * 1024

_BAD_REQUEST = whole(400, "text/plain", b"This is no HTTP/1.1 request.")
_TOO_LARGE = whole(413, "text/plain", b"The body is too large for the simulator.")


class Desk(Protocol):
    """What a connection needs of the simulator."""

    def opened(self, connection: Connection) -> int:
        """Counts the connection; returns its number."""

    def closed(self, connection: Connection) -> None:
        """Forgets the connection."""

    def begun(self, record: Record) -> None:
        """Logs a request."""

    def over(self) -> None:
        """Notes that a request that had begun has ended, or lost its client."""

    def answer(self, record: Record, body: bytes) -> Answer:
        """The answer to a request; notes the model in the record."""

    def script(self, answer: Answer, record: Record) -> Script:
        """The script of an answer that cannot be written at once."""


class Connection(asyncio.Protocol):
    """Parses requests and plays one answer at a time; requests that come too early wait."""

    def __init__(self, desk: Desk, keep_body_bytes: int) -> None:
        self._desk = desk
        self._keep_body_bytes = keep_body_bytes
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Record, bytes, bool]] = deque()
        self._current: Record | None = None
        self._keep_alive = True
        self._trapped = False
        self._script: Script = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._paused = False
        self._held = False
        self._transport: asyncio.Transport
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts with a client."""
        self._transport = cast(asyncio.Transport, transport)
        self._number = self._desk.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parses, and answers if a request is complete."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(_BAD_REQUEST)
            return
        if self._body_bytes > BODY_LIMIT_BYTES:
            self._refuse(_TOO_LARGE)
        elif self._current is None and self._waiting:
            self._next()

    def pause_writing(self) -> None:
        """Holds the script: the client reads slowly."""
        self._paused = True

    def resume_writing(self) -> None:
        """Lets the script go on."""
        self._paused = False
        if self._held:
            self._held = False
            self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends everything, and notes if the client left before its answer had ended."""
        self._desk.closed(self)
        if self._current is not None and not self._current.ended:
            self._current.peer_left = True
            self._desk.over()
        self._current = None
        if self._timer is not None:
            self._timer.cancel()

    # httptools' side

    def on_message_begin(self) -> None:
        """Forgets the last request."""
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Takes the target, perhaps in parts."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes one header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Asks for the body if the client waits to be asked."""
        for name, value in self._headers:
            if len(name) == 6 and name.lower() == b"expect" and value.lower() == b"100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes <= BODY_LIMIT_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Queues the request; it is answered outside the parser, which would swallow our exceptions."""
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        record = Record(
            self._parser.get_method().decode(),
            self._url.decode("latin-1"),
            self._headers,
            body if len(body) <= self._keep_body_bytes else body[: self._keep_body_bytes],
            len(body),
            time.time(),
            self._number,
        )
        self._waiting.append((record, body, self._parser.should_keep_alive()))

    # our side

    def abandon(self) -> None:
        """Ends the connection because the simulator stops; the client is not blamed for it."""
        if self._current is not None:
            self._current.ended = True
            self._desk.over()
        self._transport.abort()

    def _refuse(self, response: bytes) -> None:
        self._transport.write(response)
        self._transport.close()

    def _next(self) -> None:
        record, body, self._keep_alive = self._waiting.popleft()
        self._current = record
        self._desk.begun(record)
        answer = self._desk.answer(record, body)
        if self._trapped:
            self._finish(Finish.CLOSE)
            return
        immediate = answer.immediate
        if immediate is not None:
            self._transport.write(immediate)
            record.status, record.bytes_sent = answer.status, len(immediate)
            self._finish(Finish.KEEP)
            return
        self._script = self._desk.script(answer, record)
        self._due = self._loop.time()
        self._advance()

    def _advance(self) -> None:
        """Plays the script up to its next wait, or until the client is too slow to read.

        A wait counts from when the last one was due, so that a rate holds even if a tick comes late. Timers
        take the place of a task: nothing is awaited, and only the timer has to be cancelled.
        """
        self._timer = None
        record = self._current
        if record is None:
            return
        try:
            for step in self._script:
                if isinstance(step, bytes):
                    if step.startswith(b"HTTP/1.1 "):
                        record.status = int(step[9:12])
                    record.bytes_sent += len(step)
                    self._transport.write(step)
                    if self._paused:
                        self._held = True
                        return
                elif isinstance(step, float):
                    self._due += step
                    self._timer = self._loop.call_at(self._due, self._advance)
                    return
                else:
                    self._finish(step)
                    return
        except Exception:
            self._transport.abort()
            raise
        self._finish(Finish.KEEP)

    def _finish(self, finish: Finish) -> None:
        record, transport = self._current, self._transport
        if finish is Finish.STALL or record is None:
            return
        record.ended = True
        self._current = None
        self._desk.over()
        if finish is Finish.RESET:
            self._reset()
        elif finish is Finish.CLOSE or not self._keep_alive:
            transport.close()
        else:
            self._trapped = finish is Finish.TRAP
            if self._waiting:
                self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._current is None and self._waiting and not self._transport.is_closing():
            self._next()

    def _reset(self) -> None:
        """Closes with RST in place of FIN, which is what a lingering time of zero means."""
        raw = self._transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(raw.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
