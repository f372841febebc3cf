"""The pool: what is kept, for how long, and what is never kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tokendance_server.providers.lean.connection import Connection
from tokendance_server.providers.lean.pool import Origin, Pool

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def upstream() -> AsyncIterator[Origin]:
    """A server that answers whatever comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            writer.write(ANSWER)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Origin(tls=False, host="127.0.0.1", port=server.sockets[0].getsockname()[1])


async def connect(pool: Pool, origin: Origin) -> Connection:
    """A new connection."""
    connection = pool.open(origin)
    await asyncio.get_running_loop().create_connection(lambda: connection, origin.host, origin.port)
    return connection


async def exchange(connection: Connection) -> None:
    """Ask, and wait for the whole answer."""
    reply = connection.send(b"GET / HTTP/1.1\r\n\r\n", b"")
    while not reply.complete:
        await reply.wait()


async def test_the_freshest_is_used_first_and_once() -> None:
    """So that the others may grow old."""
    pool = Pool()
    async with upstream() as origin:
        made = [await connect(pool, origin) for _ in range(3)]
        for one in made:
            await exchange(one)
        for one in made:
            pool.give_back(one)
        assert [pool.take(origin) for _ in range(4)] == [*reversed(made), None]
        await pool.close()


async def test_origins_share_nothing() -> None:
    """Not even where only the port or TLS tells them apart."""
    pool = Pool()
    async with upstream() as origin:
        one = await connect(pool, origin)
        await exchange(one)
        pool.give_back(one)
        assert pool.take(origin._replace(tls=True)) is None
        assert pool.take(origin._replace(port=origin.port + 1)) is None
        assert pool.take(origin._replace(host="localhost")) is None
        assert pool.take(origin) is one
        await pool.close()


async def test_what_is_idle_too_long_is_closed() -> None:
    """Before the upstream does it while a request is on its way."""
    pool = Pool(idle_s=0.1)
    async with upstream() as origin:
        made = [await connect(pool, origin) for _ in range(2)]
        for one in made:
            await exchange(one)
            pool.give_back(one)
            await asyncio.sleep(0.06)
        await asyncio.sleep(0.02)
        assert pool.open_connections == 1
        await asyncio.sleep(0.1)
        assert (pool.open_connections, pool.take(origin)) == (0, None)
        await pool.close()


async def test_no_more_are_kept_than_there_is_room_for() -> None:
    """The others are closed."""
    pool = Pool(kept=2)
    async with upstream() as origin:
        made = [await connect(pool, origin) for _ in range(4)]
        for one in made:
            await exchange(one)
        for one in made:
            pool.give_back(one)
        await asyncio.sleep(0.02)
        assert pool.open_connections == 2
        await pool.close()


@pytest.mark.parametrize("asked", [False, True])
async def test_an_exchange_that_is_not_over_is_not_kept(*, asked: bool) -> None:
    """Nor a connection on which nothing was asked."""
    pool = Pool()
    async with upstream() as origin:
        one = await connect(pool, origin)
        if asked:
            one.send(b"GET / HTTP/1.1\r\n\r\n", b"")
        pool.give_back(one)
        assert pool.take(origin) is None
        await asyncio.sleep(0.02)
        assert pool.open_connections == 0
        await pool.close()


async def test_a_connection_carries_one_request_at_a_time() -> None:
    """Two answers on one connection could be taken for each other."""
    pool = Pool()
    async with upstream() as origin:
        one = await connect(pool, origin)
        one.send(b"GET / HTTP/1.1\r\n\r\n", b"")
        with pytest.raises(RuntimeError):
            one.send(b"GET / HTTP/1.1\r\n\r\n", b"")
        await pool.close()


async def test_nothing_is_kept_once_it_is_closed() -> None:
    """What comes back late is closed, too."""
    pool = Pool()
    async with upstream() as origin:
        await pool.close()
        late = await connect(pool, origin)
        await exchange(late)
        pool.give_back(late)
        await asyncio.sleep(0.02)
        assert (pool.take(origin), pool.open_connections) == (None, 0)
