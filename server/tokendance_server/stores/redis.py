"""Redis: for now only asked whether it is there, and what it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import redis.asyncio
from redis.exceptions import AuthenticationError, RedisError

from tokendance_server.startup import StartupError

_WAIT_S = 5


@dataclass(frozen=True, slots=True)
class RedisServer:
    """What a server says of itself: program and version, and what it does when its memory is full.

    `policy` is empty where it does not say; `max_bytes` is 0 where its memory has no bound.
    """

    program: str
    version: str
    policy: str
    max_bytes: int

    @property
    def may_forget(self) -> bool:
        """True where it drops keys by itself, or will once it has a bound."""
        return self.policy not in ("", "noeviction")


async def check_redis(url: str) -> None:
    """Return where the server of a URL answers, else raise StartupError: one line, without the password."""
    async with _connected(url) as client:
        await client.ping()


async def look_at_redis(url: str) -> RedisServer:
    """Return what the server of a URL is, and change nothing there. Raises StartupError as `check_redis`."""
    async with _connected(url) as client:
        await client.ping()
        found = await client.info()
    program = "Valkey" if found.get("server_name") == "valkey" else "Redis"
    return RedisServer(
        program,
        str(found.get("valkey_version") or found.get("redis_version") or ""),
        str(found.get("maxmemory_policy") or ""),
        int(found.get("maxmemory") or 0),
    )


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    try:
        client = redis.asyncio.Redis.from_url(url, socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S)
    except ValueError as exc:
        raise StartupError("server.redis_url cannot be read; write redis://:PASSWORD@HOST:PORT/0.") from exc
    try:
        yield client
    except AuthenticationError as exc:
        raise StartupError("Redis refuses the user or the password of server.redis_url; correct it.") from exc
    except (RedisError, OSError) as exc:
        raise StartupError(
            f"Redis at server.redis_url does not answer ({type(exc).__name__}); check the URL, and that it runs."
        ) from exc
    finally:
        await client.aclose()
