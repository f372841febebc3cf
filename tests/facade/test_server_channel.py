"""The channel to a server over TCP: it presents a certificate, comes back after a restart, and follows its files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from tests.certificates import FACADE_NAMES, SERVER_NAMES, Authority
from tests.e2e.nodes import free_ports

from tokendance.tls_files import TlsFiles
from tokendance_facade.config import FacadeConfig, ServerTlsConfig
from tokendance_facade.server_channel import RenewedChannel, open_channel


class _Presented(grpc.GenericRpcHandler):
    """Answers with the serial number of its caller's certificate; a stream does so until it is told to end."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        if handler_call_details.method == "/a/Stream":
            return grpc.unary_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._one)

    async def _one(self, request: bytes, context: Any) -> bytes:
        (pem,) = context.auth_context()["x509_pem_cert"]
        return str(x509.load_pem_x509_certificate(pem).serial_number).encode()

    async def _stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self._one(request, context)
        await self.ended.wait()
        yield b"end"


@asynccontextmanager
async def _server(authority: Authority, port: int, *names: x509.GeneralName) -> AsyncIterator[_Presented]:
    signed = authority.sign(names or SERVER_NAMES)
    credentials = grpc.ssl_server_credentials(
        [(signed.key, signed.certificate)], authority.certificate, require_client_auth=True
    )
    handler = _Presented()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handler,))
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield handler
    finally:
        await server.stop(0)


def _config(files: TlsFiles, port: int, server_name: str = "") -> FacadeConfig:
    assert files.authority is not None
    tls = ServerTlsConfig(certificate=files.certificate, key=files.key, ca=files.authority, server_name=server_name)
    return FacadeConfig(server=f"127.0.0.1:{port}", server_tls=tls)


def _looking(files: TlsFiles, port: int) -> grpc.aio.Channel:
    """A channel that looks at its files with every call."""
    return open_channel(_config(files, port), "", look_every_s=0)


async def _ask(channel: grpc.aio.Channel) -> int:
    method: Any = channel.unary_unary("/a/One")
    return int(await method(b"", timeout=5))


def _serial(files: TlsFiles) -> int:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


def _facade(authority: Authority, folder: Path) -> TlsFiles:
    return authority.sign(FACADE_NAMES).write(folder, "facade", authority.certificate)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


async def test_the_facade_presents_its_certificate(tmp_path: Path) -> None:
    """To a server whose certificate is of its own authority."""
    authority, (port,) = Authority(), free_ports(1)
    files = _facade(authority, tmp_path)
    async with _server(authority, port), open_channel(_config(files, port), "") as channel:
        assert await _ask(channel) == _serial(files)
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY


@pytest.mark.parametrize("server_name", ["", "gateway.example", "other.example"])
async def test_a_server_is_taken_by_the_name_that_is_asked_for(tmp_path: Path, server_name: str) -> None:
    """The host of the address, or the name that the configuration gives instead."""
    authority, (port,) = Authority(), free_ports(1)
    config = _config(_facade(authority, tmp_path), port, server_name)
    async with _server(authority, port, x509.DNSName("gateway.example")), open_channel(config, "") as channel:
        if server_name == "gateway.example":
            await _ask(channel)
        else:
            with pytest.raises(grpc.aio.AioRpcError):
                await _ask(channel)


async def test_a_server_of_another_authority_is_told_nothing(tmp_path: Path) -> None:
    """Whoever took its address gets no key and no prompt."""
    (port,) = free_ports(1)
    config = _config(_facade(Authority(), tmp_path), port)
    async with _server(Authority(), port), open_channel(config, "") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await _ask(channel)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_that_was_started_again_is_found_again(tmp_path: Path) -> None:
    """Without anything being done to the facade, and soon."""
    authority, (port,) = Authority(), free_ports(1)
    ready = grpc.ChannelConnectivity.READY
    async with open_channel(_config(_facade(authority, tmp_path), port), "") as channel:
        for _ in range(2):
            async with _server(authority, port):
                await _until(lambda: channel.get_state(try_to_connect=True) is ready)
                await _ask(channel)
            await _until(lambda: channel.get_state(try_to_connect=True) is not ready)


async def test_a_renewed_certificate_is_presented(tmp_path: Path) -> None:
    """By calls that begin after the change; one that runs goes on as it is. A wrong file changes nothing."""
    authority, (port,) = Authority(), free_ports(1)
    files = _facade(authority, tmp_path)
    first = _serial(files)
    async with _server(authority, port) as handler, _looking(files, port) as channel:
        assert isinstance(channel, RenewedChannel)
        method: Any = channel.unary_unary("/a/One")
        running = channel.unary_stream("/a/Stream")(b"", timeout=20)
        assert int(await running.read()) == first

        files.key.write_bytes(b"junk")
        assert int(await method(b"", timeout=5)) == first
        Authority().sign(FACADE_NAMES).write(tmp_path, "facade", authority.certificate)  # the server refuses it
        for _ in range(5):
            assert int(await method(b"", timeout=5)) == first
            await asyncio.sleep(0.02)

        second = _serial(_facade(authority, tmp_path))
        async with asyncio.timeout(10):
            while int(await method(b"", timeout=5)) != second:
                await asyncio.sleep(0.02)
        assert await _ask(channel) == second
        handler.ended.set()
        assert await running.read() == b"end"
        assert await running.read() is grpc.aio.EOF


async def test_closing_ends_what_older_connections_still_carry(tmp_path: Path) -> None:
    """Nothing is left waiting for their calls."""
    authority, (port,) = Authority(), free_ports(1)
    before = asyncio.all_tasks()
    async with _server(authority, port):
        channel = _looking(_facade(authority, tmp_path), port)
        stream: Any = channel.unary_stream("/a/Stream")
        running = stream(b"", timeout=20)
        await running.read()
        second = _serial(_facade(authority, tmp_path))
        async with asyncio.timeout(10):
            while await _ask(channel) != second:
                await asyncio.sleep(0.02)
        assert not running.done()
        await channel.close()
        assert running.done()
    await _until(lambda: asyncio.all_tasks() <= before)


async def test_files_that_cannot_be_used_open_no_channel(tmp_path: Path) -> None:
    """The start fails with what is wrong."""
    files = _facade(Authority(), tmp_path)
    files.key.unlink()
    with pytest.raises(ValueError, match=r"facade\.key cannot be read"):
        open_channel(_config(files, 1), "")
