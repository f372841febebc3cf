"""Servers that send bytes as a test says, and what is asked of them through a transport."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import yarl

from tokendance.errors import GatewayError
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.providers.transport import Transport

PROVIDER = ProviderConfig(id="p", kind="openai", connect_timeout_s=2, first_byte_timeout_s=5, idle_timeout_s=5)
LOOPBACK = EgressPolicy(allow_loopback=True)
HEAD = b"HTTP/1.1 200 OK\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on loopback; a peer that is gone is no error of it."""
    running: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(guarded(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    async with await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls) as server:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
        # Those that wait for another request of a client that keeps its connection.
        for task in list(running):
            task.cancel()
        if running:
            await asyncio.wait(running)


def answering(*answers: list[bytes], seen: list[int] | None = None) -> Serve:
    """Serve one answer a request, each as the packets it comes in; `seen` gets the connection's number each time."""
    left = list(answers)
    connections: list[object] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        number = len(connections)
        while True:
            await reader.readuntil(b"{}")
            if seen is not None:
                seen.append(number)
            for packet in left.pop(0):
                writer.write(packet)
                await writer.drain()
                await asyncio.sleep(0)
            if not left:
                return

    return serve


async def ask(transport: Transport, url: str, provider: ProviderConfig = PROVIDER, body: bytes = b"{}") -> bytes:
    """The body of an answer, read whole."""
    deadline = asyncio.get_running_loop().time() + 10
    answer = await transport.post(provider, yarl.URL(url), {}, body, deadline)
    try:
        return await answer.read_body()
    finally:
        answer.close()


async def code(asked: Awaitable[bytes]) -> str:
    """The code that a request fails with."""
    with pytest.raises(GatewayError) as caught:
        await asked
    assert "127.0.0.1" not in str(caught.value)
    return caught.value.code


WHOLE = {
    "length": b"content-length: 11\r\n\r\nhello world",
    "chunked": b"transfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nt: v\r\n\r\n",
    "closing": b"connection: close\r\n\r\nhello world",
    "no length": b"\r\nhello world",
}
AHEAD = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\ncontent-encoding: br\r\n\r\n"
