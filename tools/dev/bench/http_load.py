"""HTTP load on raw asyncio protocols, cheap enough not to be what is measured: N connections, each in a closed loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import orjson

from .answers import Document, EventStream, Reader

HOST = "127.0.0.1"
ANSWER_TIMEOUT_S = 30
MOST_ANSWERS = 100_000
WARM_ANSWERS = 3
OPENED_TOGETHER = 100
BETWEEN_STREAMS_S = 0.002
CLOSING_S = 0.1

_MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Hello, who are you and what can you do for me today?"},
]


@dataclass(frozen=True)
class Target:
    """Where to send what. `stream` tells how the answers are to be read."""

    port: int
    authorization: str
    model: str
    stream: bool = False

    @property
    def body(self) -> bytes:
        """The JSON of one request."""
        return orjson.dumps({"model": self.model, "messages": _MESSAGES} | ({"stream": True} if self.stream else {}))

    @property
    def request(self) -> bytes:
        """One request as it crosses the wire."""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}:{self.port}\r\nAuthorization: {self.authorization}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


@dataclass(frozen=True)
class Load:
    """What one stretch of load did: answers, events of streams, the wall and CPU seconds they took, latencies."""

    answers: int
    events: int
    wall_s: float
    cpu_s: float
    latencies_s: Sequence[float]

    def percentile_s(self, percent: float) -> float:
        """The latency that so many percent of the answers did not exceed."""
        ranked = sorted(self.latencies_s)
        return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


class Caller(asyncio.Protocol):
    """One connection: asks, reads the whole answer, asks again, until time or count is over."""

    def __init__(self, request: bytes, reader: Reader) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._first = self._loop.create_future()
        self._until = 0.0
        self._left = 0
        self._asked = 0.0
        self.reader = reader
        self.latencies_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins; nothing is asked yet."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails whoever waits."""
        self._fail(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Reads on; asks again inside the callback, so that no task has to wake up."""
        try:
            complete = self.reader.feed(data)
        except RuntimeError as error:
            self._fail(error)
            self._transport.abort()
            return
        if self.reader.events and not self._first.done():
            self._first.set_result(None)
        if not complete:
            return
        now = time.perf_counter()
        self.latencies_s.append(now - self._asked)
        self._left -= 1
        if now < self._until and self._left > 0:
            self._asked = now
            self._transport.write(self._request)
        elif not self._over.done():
            self._over.set_result(None)

    async def ask(self, until: float, most: int) -> None:
        """Asks at least once, then until `until` (of time.perf_counter) or `most` answers; raises what went wrong."""
        self._until, self._left = until, most
        self._over = self._loop.create_future()
        self._asked = time.perf_counter()
        self._transport.write(self._request)
        timer = self._loop.call_at(
            self._loop.time() + max(0.0, until - self._asked) + ANSWER_TIMEOUT_S, self._fail, TimeoutError("no answer")
        )
        try:
            await self._over
        finally:
            timer.cancel()

    async def first_event(self, delay_s: float) -> None:
        """Asks once, after `delay_s`, and waits for the first event of the answer only."""
        await asyncio.sleep(delay_s)
        self._transport.write(self._request)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await self._first

    def close(self) -> None:
        """Leaves."""
        self._over.cancel()
        self._first.cancel()
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        for waited in (self._over, self._first):
            if not waited.done():
                waited.set_exception(error)
                waited.exception()  # often only one of the two is awaited


@asynccontextmanager
async def callers(target: Target, count: int) -> AsyncIterator[list[Caller]]:
    """So many open connections, closed at the end."""
    loop = asyncio.get_running_loop()
    opened: list[Caller] = []
    try:
        for at in range(0, count, OPENED_TOGETHER):
            pairs = await asyncio.gather(
                *(
                    loop.create_connection(lambda: _caller(target), HOST, target.port)
                    for _ in range(min(OPENED_TOGETHER, count - at))
                )
            )
            opened += [caller for _, caller in pairs]
        yield opened
    finally:
        for caller in opened:
            caller.close()
        # The loop closes sockets in its next turns; a server that is told to end before that waits for its callers.
        await asyncio.sleep(CLOSING_S)


def _caller(target: Target) -> Caller:
    return Caller(target.request, EventStream() if target.stream else Document())


async def drive(
    target: Target, connections: int, seconds: float, cpu_s: Callable[[], float], *, stagger_s: float = 0
) -> Load:
    """Loads a warm target for `seconds`, plus what the last answers take; `cpu_s` reads the CPU time of the measured.

    Streams that begin together would send their packets together, so the connections begin over `stagger_s`.
    """
    async with callers(target, connections) as all_callers:
        warm = 1 if target.stream else WARM_ANSWERS
        await asyncio.gather(
            *(caller.ask(float("inf"), warm) for caller in all_callers[: 4 if target.stream else None])
        )
        for caller in all_callers:
            caller.latencies_s.clear()
            caller.reader.events = 0
        before_s, began = cpu_s(), time.perf_counter()

        async def ask(caller: Caller, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            await caller.ask(began + seconds, MOST_ANSWERS)

        await asyncio.gather(*(ask(caller, stagger_s * at / connections) for at, caller in enumerate(all_callers)))
        spent_s, wall_s = cpu_s() - before_s, time.perf_counter() - began
        latencies_s = [latency for caller in all_callers for latency in caller.latencies_s]
        events = sum(caller.reader.events for caller in all_callers)
        return Load(len(latencies_s), events, wall_s, spent_s, latencies_s)


@asynccontextmanager
async def open_streams(target: Target, count: int) -> AsyncIterator[None]:
    """So many streams that have sent their first event and go on; ended by leaving. Each begins a moment later."""
    async with callers(target, count) as all_callers:
        await asyncio.gather(*(caller.first_event(at * BETWEEN_STREAMS_S) for at, caller in enumerate(all_callers)))
        yield
