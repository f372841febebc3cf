"""The guard that keeps tests on this machine."""

import asyncio
import socket

import pytest


@pytest.mark.parametrize("address", ["192.0.2.1", "0.0.0.0"])
def test_foreign_addresses_are_refused(address: str) -> None:
    """Neither a connection to another machine nor a listener for other machines gets a socket."""
    with socket.socket() as opened, pytest.raises(RuntimeError, match="loopback only"):
        opened.connect((address, 9))
    with socket.socket() as opened, pytest.raises(RuntimeError, match="loopback only"):
        opened.bind((address, 0))


def test_names_are_not_looked_up() -> None:
    """A name that is not this machine's never reaches a resolver."""
    with pytest.raises(RuntimeError, match="loopback only"):
        socket.getaddrinfo("gateway.example", 443)


async def test_loopback_works() -> None:
    """Servers and clients of a test meet over loopback."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
