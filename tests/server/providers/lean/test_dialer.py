"""The dialer: names are asked for once by many at a time, and a failure is not remembered."""

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.providers.lean.dialer import Dialer
from tokendance_server.providers.lean.pool import Origin, Pool


class SlowResolver(AbstractResolver):
    """Says after a moment that every name is this machine, but for the first `failures` times."""

    def __init__(self, failures: int = 0) -> None:
        self.asked = 0
        self._failures = failures

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        await asyncio.sleep(0.05)
        if self.asked <= self._failures:
            raise OSError("no such name")
        return [
            ResolveResult(
                hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        """Holds nothing."""


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve nothing."""
    writer.close()


async def connect(resolver: SlowResolver, *, leave: int = 0, stay: int = 0) -> int:
    """Connect many times at once, some of which leave soon; returns how many of the others failed."""
    pool = Pool()
    dialer = Dialer(EgressPolicy(allow_loopback=True), pool, resolver, None)
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        origin = Origin(tls=False, host="upstream.example", port=server.sockets[0].getsockname()[1])
        leaving = [asyncio.create_task(dialer.connect(origin)) for _ in range(leave)]
        staying = [asyncio.create_task(dialer.connect(origin)) for _ in range(stay)]
        await asyncio.sleep(0.01)
        for task in leaving:
            task.cancel()
        done = await asyncio.gather(*staying, return_exceptions=True)
        await asyncio.gather(*leaving, return_exceptions=True)
        if resolver.asked == 1 and stay:
            await dialer.connect(origin)
        await dialer.close()
        await pool.close()
    return sum(isinstance(one, OSError) for one in done)


async def test_many_that_ask_at_once_share_one_question() -> None:
    """Also with those who come later, and where the first who asked leaves."""
    resolver = SlowResolver()
    assert await connect(resolver, leave=3, stay=5) == 0
    assert resolver.asked == 1


async def test_a_failure_is_not_remembered() -> None:
    """The next call asks again."""
    resolver = SlowResolver(failures=1)
    with pytest.raises(OSError, match="no such name"):
        await Dialer(EgressPolicy(), Pool(), resolver, None).connect(Origin(tls=False, host="a.example", port=1))
    assert await connect(resolver, stay=1) == 0
    assert resolver.asked == 2


async def test_a_failure_that_nobody_waits_for_is_no_noise() -> None:
    """All who had asked have left."""
    assert await connect(SlowResolver(failures=9), leave=2) == 0
    await asyncio.sleep(0.06)
