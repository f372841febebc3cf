"""Redis: for now only asked whether it is there."""

from __future__ import annotations

import redis.asyncio
from redis.exceptions import AuthenticationError, RedisError

from tokendance_server.startup import StartupError

_WAIT_S = 5


async def check_redis(url: str) -> None:
    """Return where the server of a URL answers, else raise StartupError: one line, without the password."""
    try:
        client = redis.asyncio.Redis.from_url(url, socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S)
    except ValueError as exc:
        raise StartupError("server.redis_url cannot be read; write redis://:PASSWORD@HOST:PORT/0.") from exc
    try:
        await client.ping()
    except AuthenticationError as exc:
        raise StartupError("Redis refuses the user or the password of server.redis_url; correct it.") from exc
    except (RedisError, OSError) as exc:
        raise StartupError(
            f"Redis at server.redis_url does not answer ({type(exc).__name__}); check the URL, and that it runs."
        ) from exc
    finally:
        await client.aclose()
