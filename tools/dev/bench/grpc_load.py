"""gRPC load: unary calls as HTTP/2 frames on a raw asyncio protocol, as grpc.aio's client costs more than a server."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from typing import cast

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2 as service_pb

from .answers import UnexpectedAnswerError
from .http_load import ANSWER_TIMEOUT_S, CLOSING_S, HOST, MOST_ANSWERS, WARM_ANSWERS, Load

CONNECTIONS = 4
CALLS_PER_CONNECTION = 8
METHOD = "/tokendance.gateway.v1.CompletionsService/CreateCompletion"

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_LARGEST_WINDOW = 2**31 - 1
_STATIC_TABLE = 61


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


# Windows as wide as they may be, so that the driver never has to give credit for what it has read.
_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(_SETTINGS, 0, 0, struct.pack(">HIHI", 2, 0, 4, _LARGEST_WINDOW))
    + frame(8, 0, 0, struct.pack(">I", _LARGEST_WINDOW - 65535))
)


def _text(value: bytes) -> bytes:
    """HPACK's form of a string, not compressed; up to 254 bytes."""
    size = bytes([len(value)]) if len(value) < 127 else bytes([127, len(value) - 127])
    return size + value


def header_blocks(authorization: str, port: int) -> tuple[bytes, bytes]:
    """HPACK for the first call of a connection, which fills the table, and for all others, which point into it."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": METHOD,
        ":authority": f"{HOST}:{port}",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "grpc-bench/1",
        "grpc-timeout": "30S",
        "authorization": authorization,
    }
    first = b"".join(b"\x40" + _text(name.encode()) + _text(value.encode()) for name, value in headers.items())
    others = bytes(0x80 | (_STATIC_TABLE + place) for place in range(len(headers), 0, -1))
    return first, others


def create_completion(model: str) -> bytes:
    """A small CreateCompletion request as a gRPC message."""
    messages = [
        pb.Message(role=role, parts=[pb.Part(text=pb.Text(text=text))])
        for role, text in (
            (pb.ROLE_SYSTEM, "You are a helpful assistant."),
            (pb.ROLE_USER, "Hello, who are you and what can you do for me today?"),
        )
    ]
    completion = pb.CompletionRequest(model=model, messages=messages)
    message = service_pb.CreateCompletionRequest(completion=completion).SerializeToString()
    return b"\0" + struct.pack(">I", len(message)) + message


class Channel(asyncio.Protocol):
    """One connection with so many calls under way; each that ends begins the next. Counts what was answered."""

    def __init__(self, message: bytes, first: bytes, others: bytes) -> None:
        self._message = message
        self._first = first
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._got = b""
        self._stream = 1
        self._answered: set[int] = set()
        self._open = 0
        self._until = 0.0
        self._left = 0
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the preface."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_PREFACE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails whoever waits."""
        self._fail(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Reads frames, and answers all of them in one write."""
        got = self._got + data
        at = 0
        out: list[bytes] = []
        while len(got) - at >= 9:
            size = int.from_bytes(got[at : at + 3], "big")
            if len(got) - at < 9 + size:
                break
            kind, flags = got[at + 3], got[at + 4]
            stream = int.from_bytes(got[at + 5 : at + 9], "big")
            self._take(kind, flags, stream, got[at + 9 : at + 9 + size], out)
            at += 9 + size
        self._got = got[at:]
        if out:
            self._transport.write(b"".join(out))

    def _take(self, kind: int, flags: int, stream: int, payload: bytes, out: list[bytes]) -> None:
        if kind == _DATA:
            self._answered.add(stream)
        elif kind == _HEADERS:
            if flags & _END_STREAM:
                self._ended(stream, payload, out)
        elif kind in (_SETTINGS, _PING):
            if not flags & _ACK:
                out.append(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            self._fail(UnexpectedAnswerError(f"The server ended a call or the connection: {payload!r}"))

    def _ended(self, stream: int, trailers: bytes, out: list[bytes]) -> None:
        # An error of a unary call has trailers and no message: that much can be told without decoding headers.
        if stream not in self._answered:
            self._fail(UnexpectedAnswerError(f"A call failed; its trailers: {trailers[:600]!r}"))
            return
        self._answered.remove(stream)
        self.answers += 1
        self._open -= 1
        if self._left > 0 and time.perf_counter() < self._until:
            out.append(self._next_call())
        elif not self._open and not self._over.done():
            self._over.set_result(None)

    def _next_call(self) -> bytes:
        stream, self._stream = self._stream, self._stream + 2
        self._open += 1
        self._left -= 1
        block = self._first if stream == 1 else self._others
        return frame(_HEADERS, _END_HEADERS, stream, block) + frame(_DATA, _END_STREAM, stream, self._message)

    async def call(self, until: float, most: int) -> None:
        """Keeps calls under way until `until` (of time.perf_counter) or `most` calls; raises what went wrong."""
        self._until, self._left = until, most
        self._over = self._loop.create_future()
        self._transport.write(b"".join(self._next_call() for _ in range(min(CALLS_PER_CONNECTION, most))))
        limit_s = max(0.0, until - time.perf_counter()) + ANSWER_TIMEOUT_S
        timer = self._loop.call_later(limit_s, self._fail, TimeoutError("no answer"))
        try:
            await self._over
        finally:
            timer.cancel()

    def close(self) -> None:
        """Leaves."""
        self._over.cancel()
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)
            self._over.exception()  # nobody waits between two stretches


async def drive_grpc(port: int, authorization: str, model: str, seconds: float, cpu_s: Callable[[], float]) -> Load:
    """Loads a warm server with CreateCompletion for `seconds`; `cpu_s` reads the CPU time of the measured process."""
    loop = asyncio.get_running_loop()
    message = create_completion(model)
    first, others = header_blocks(authorization, port)
    channels: list[Channel] = []
    try:
        for _ in range(CONNECTIONS):
            _, channel = await loop.create_connection(lambda: Channel(message, first, others), HOST, port)
            channels.append(channel)
        await asyncio.gather(
            *(
                channel.call(time.perf_counter() + ANSWER_TIMEOUT_S, WARM_ANSWERS * CALLS_PER_CONNECTION)
                for channel in channels
            )
        )
        warm = sum(channel.answers for channel in channels)
        before_s, began = cpu_s(), time.perf_counter()
        await asyncio.gather(*(channel.call(began + seconds, MOST_ANSWERS) for channel in channels))
        answers = sum(channel.answers for channel in channels) - warm
        return Load(answers, 0, time.perf_counter() - began, cpu_s() - before_s, ())
    finally:
        for channel in channels:
            channel.close()
        await asyncio.sleep(CLOSING_S)  # as the callers of http_load do
