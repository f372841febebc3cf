"""Open circuits told among nodes through a real server: once each, with their end, and never back to who told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tokendance_server.stores.redis_health import Key, SharedHealth


class Listener:
    """What a node was told, and how sharing fared."""

    def __init__(self) -> None:
        self.told: list[tuple[Key, float]] = []
        self.reported: list[Exception | None] = []

    def hear(self, key: Key, rest_s: float) -> None:
        self.told.append((key, rest_s))


async def settled(condition: Callable[[], bool]) -> None:
    """Wait until it is so, for two seconds at most."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def node(url: str, name: str) -> AsyncIterator[tuple[SharedHealth, Listener]]:
    """One node that shares."""
    listener = Listener()
    shared = SharedHealth(url, name, listener.hear, listener.reported.append, every_s=0.05)
    shared.start()
    try:
        yield shared, listener
    finally:
        await shared.close()


async def test_what_one_node_finds_the_others_are_told_once(redis_server: str) -> None:
    """With the time that is left; again only where it opens again, and nobody is told its own."""
    async with node(redis_server, "node_a") as (mine, my_ear), node(redis_server, "node_b") as (_, ear):
        mine.opened(("acme", "fast:1 x"), 5.0)
        await settled(lambda: bool(ear.told))
        ((key, rest_s),) = ear.told
        assert key == ("acme", "fast:1 x")
        assert 4 < rest_s <= 5
        await asyncio.sleep(0.2)
        assert len(ear.told) == 1
        mine.opened(("acme", "fast:1 x"), 9.0)
        await settled(lambda: len(ear.told) == 2)
        assert my_ear.told == []
    async with node(redis_server, "node_c") as (_, late):
        await settled(lambda: bool(late.told))


async def test_what_is_over_is_told_to_nobody(redis_server: str) -> None:
    """Its end is the server's, and who comes later hears nothing of it."""
    async with node(redis_server, "node_a") as (mine, _):
        mine.opened(("acme", "brief"), 0.05)
        await asyncio.sleep(0.3)
    async with node(redis_server, "node_b") as (_, ear):
        await asyncio.sleep(0.2)
    assert [key for key, _ in ear.told if key == ("acme", "brief")] == []


async def test_without_a_server_it_says_so_once_and_goes_on() -> None:
    """Telling never waits, and nothing breaks."""
    async with node("redis://127.0.0.1:1/0", "node_a") as (mine, ear):
        mine.opened(("acme", "fast"), 5.0)
        await settled(lambda: bool(ear.reported))
        await asyncio.sleep(0.2)
    assert len(ear.reported) == 1
    assert ear.reported[0] is not None
