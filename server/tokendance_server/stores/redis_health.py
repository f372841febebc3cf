"""Circuits that are open, told among nodes through Redis or Valkey: each with an end, so nothing need be undone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import hiredis

from tokendance_server.stores.redis_link import Link, LinkLostError, connect

_KEY = b"tokendance:routes:open"
_LIVES_MS = b"120000"
_PART = "\x00"
_DEADLINE_S = 0.5

Key = tuple[str, str]


class SharedHealth:
    """Satisfies Shared. `told` gets what other nodes found, once each: which route, and for how many seconds yet.

    `report` gets the error when nodes cannot tell each other, and None when they can again. Until then each node has
    its own circuits only, which is all that a call needs.
    """

    def __init__(
        self,
        url: str,
        node_id: str,
        told: Callable[[Key, float], None],
        report: Callable[[Exception | None], None],
        *,
        every_s: float = 0.5,
    ) -> None:
        self._url = url
        self._node_id = node_id
        self._told = told
        self._report = report
        self._every_s = every_s
        self._news: dict[Key, float] = {}
        self._woken = asyncio.Event()
        self._heard: dict[bytes, float] = {}
        self._link: Link | None = None
        self._address: tuple[str, int] | None = None
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def opened(self, key: Key, rest_s: float) -> None:
        """Tell that a route is out for so many seconds; never waits."""
        self._news[key] = rest_s
        self._woken.set()

    def start(self) -> None:
        """Tell and listen until `close`."""
        self._task = asyncio.create_task(self._run(), name="shared-health")

    async def close(self) -> None:
        """End it; harmless where it was never started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._drop()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_DEADLINE_S):
                    await self._exchange()
            except (LinkLostError, TimeoutError, hiredis.ReplyError) as exc:
                self._drop()
                self._tell(exc)
            else:
                self._tell(None)
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._woken.wait()
            if self._failing:
                # News wake it at once, and nobody gains from a server asked in a loop.
                await asyncio.sleep(self._every_s)

    async def _exchange(self) -> None:
        """Tell what opened here, and hear what is open elsewhere; times are the server's own."""
        seconds, micros = await self._ask(b"TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        while self._news:
            key, rest_s = next(iter(self._news.items()))
            member = _PART.join((self._node_id, *key)).encode()
            await self._ask(b"ZADD", _KEY, b"%d" % (now_ms + int(rest_s * 1000)), member)
            await self._ask(b"PEXPIRE", _KEY, _LIVES_MS)
            if self._news.get(key) == rest_s:
                del self._news[key]
        await self._ask(b"ZREMRANGEBYSCORE", _KEY, b"-inf", b"%d" % now_ms)
        found = {
            bytes(member): float(end) for member, end in await self._ask(b"ZRANGE", _KEY, b"0", b"-1", b"WITHSCORES")
        }
        for member, end in found.items():
            node, _, route = member.decode(errors="replace").partition(_PART)
            provider, parted, model = route.partition(_PART)
            if node != self._node_id and parted and self._heard.get(member) != end:
                self._told((provider, model), (end - now_ms) / 1000)
        self._heard = found

    async def _ask(self, *words: bytes) -> Any:
        if self._link is None or not self._link.alive:
            self._link = await connect(self._url, lambda _: None, self._address)
        answer = await self._link.ask(*words)
        if isinstance(answer, hiredis.ReplyError):
            kind, _, rest = str(answer).partition(" ")
            host, _, port = rest.rpartition(" ")[2].rpartition(":")
            if kind == "MOVED" and host and port.isdecimal():
                # A cluster keeps the key elsewhere: the next try goes there.
                self._address = (host, int(port))
            raise answer
        return answer

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _tell(self, error: Exception | None) -> None:
        if (error is not None) != self._failing:
            self._failing = error is not None
            self._report(error)
