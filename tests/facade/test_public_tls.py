"""TLS of the public listener: who connects meets the newest certificate, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from tests.certificates import SERVER_NAMES, Authority

from tokendance_facade.answers import Answer
from tokendance_facade.config import FacadeConfig, TlsConfig
from tokendance_facade.listener import Listener
from tokendance_facade.public_tls import PublicTls


async def _answer(request: web.BaseRequest) -> Answer:
    return Answer(200, b"{}", "req_1")


@asynccontextmanager
async def _listening(tls: TlsConfig, head_timeout_s: float = 15) -> AsyncIterator[Listener]:
    config = FacadeConfig(http="127.0.0.1:0", tls=tls, head_timeout_s=head_timeout_s)
    listener = Listener(config.http, config, _answer, lambda error: Answer(400, b"{}", "req_1"), tls=config.tls)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(0)


def _tls(authority: Authority, folder: Path) -> TlsConfig:
    files = authority.sign(SERVER_NAMES).write(folder, "public")
    return TlsConfig(certificate=files.certificate, key=files.key)


async def _serial(listener: Listener, authority: Authority) -> int:
    """Connect as a stranger does; returns the number of the certificate that was presented."""
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    host, port = listener.url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(certificate).serial_number


async def test_the_public_listener_speaks_tls(tmp_path: Path) -> None:
    """By name and by address, and it says so in its URL."""
    authority = Authority()
    async with _listening(_tls(authority, tmp_path)) as listener, aiohttp.ClientSession() as session:
        assert listener.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        for url in (listener.url, listener.url.replace("127.0.0.1", "localhost")):
            async with session.get(url, ssl=context) as answer:
                assert answer.status == 200


async def test_plaintext_and_old_tls_are_refused(tmp_path: Path) -> None:
    """A key is not to be sent to a port that reads it as it is, nor over what is broken."""
    async with _listening(_tls(Authority(), tmp_path)) as listener:
        host, port = listener.url.removeprefix("https://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/" not in await reader.read()
        writer.close()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(host, int(port), ssl=context)


async def test_a_renewed_certificate_is_met_by_the_next_connection(tmp_path: Path) -> None:
    """A file that cannot be used changes nothing."""
    authority = Authority()
    tls = _tls(authority, tmp_path)
    async with _listening(tls) as listener:
        first = await _serial(listener, authority)
        tls.key.write_bytes(b"junk")
        assert await _serial(listener, authority) == first
        _tls(authority, tmp_path)
        second = await _serial(listener, authority)
        assert second != first
        assert await _serial(listener, authority) == second


async def test_a_handshake_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """As a head that does not come."""
    async with _listening(_tls(Authority(), tmp_path), head_timeout_s=0.2) as listener:
        host, port = listener.url.removeprefix("https://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    """By every problem."""
    tls = _tls(Authority(), tmp_path)
    tls.key.unlink()
    with pytest.raises(ValueError, match=r"public\.key cannot be read"):
        PublicTls(tls.files())
