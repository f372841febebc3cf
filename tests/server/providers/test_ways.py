"""Both clients on other ways: through a proxy, trusting further authorities, showing a certificate."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.certificates import SERVER_NAMES, Authority
from tests.server.providers.byte_servers import HEAD, PROVIDER, WHOLE, answering, ask, code, serving

from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.providers.transport import Client, Transport, open_transport
from tokendance_server.providers.ways import check_way

GOOD = HEAD + WHOLE["length"]
REFUSAL = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"


@asynccontextmanager
async def proxying(seen: list[str], *, to: int | None = None, refuses: bool = False) -> AsyncIterator[str]:
    """A proxy that notes each first line, and connects on: to the port that is asked for, or to `to`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.partition(b"\r\n")[0].decode()
        seen.append(line)
        method, target, _ = line.split()
        if refuses:
            writer.write(REFUSAL)
            await writer.drain()
            return
        port = to or urlsplit(target if "://" in target else f"//{target}").port
        beyond, on = await asyncio.open_connection("127.0.0.1", port)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                on.write(head)
            await asyncio.gather(pump(reader, on), pump(beyond, writer))
        finally:
            on.close()

    async with serving(serve) as url:
        yield url.removesuffix("/v1/x")


async def pump(source: asyncio.StreamReader, into: asyncio.StreamWriter) -> None:
    """Copy bytes until there are no more."""
    while data := await source.read(65536):
        into.write(data)
        await into.drain()
    into.close()


def on_the_way(**fields: str) -> ProviderConfig:
    """A provider that is reached on a way of its own."""
    return dataclasses.replace(PROVIDER, **fields)  # type: ignore[arg-type]  # all of them are texts


def server_context(authority: Authority, folder: Path, *, asks: Authority | None = None) -> ssl.SSLContext:
    """TLS of a server on loopback; with `asks` it wants a certificate of that authority."""
    files = authority.sign(SERVER_NAMES).write(folder, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if asks is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=asks.certificate.decode())
    return context


async def test_a_proxy_is_told_the_whole_address(transport: Transport) -> None:
    """Of a plain upstream; and its connection is kept for this way only."""
    seen: list[str] = []
    connections: list[int] = []
    async with serving(answering([GOOD], [GOOD], [GOOD], seen=connections)) as url, proxying(seen) as proxy:
        through = on_the_way(proxy_url=proxy)
        assert await ask(transport, url, through) == b"hello world"
        assert await ask(transport, url, through) == b"hello world"
        assert await ask(transport, url) == b"hello world"
        assert seen == [f"POST {url} HTTP/1.1"]
        assert connections == [1, 1, 2]


async def test_a_proxy_is_a_tunnel_where_the_upstream_speaks_tls(transport: Transport, tmp_path: Path) -> None:
    """The certificate is the upstream's, by the name that was asked for, not the proxy's."""
    authority = Authority()
    seen: list[str] = []
    async with serving(answering([GOOD]), server_context(authority, tmp_path)) as at, proxying(seen) as proxy:
        url = at.replace("127.0.0.1", "localhost")
        provider = on_the_way(proxy_url=proxy, ca_bundle_pem=authority.certificate.decode())
        assert await ask(transport, url, provider) == b"hello world"
        assert seen == [f"CONNECT localhost:{urlsplit(url).port} HTTP/1.1"]
        assert await code(ask(transport, url, on_the_way(proxy_url=proxy))) == "provider_unavailable"


async def test_a_proxy_that_does_not_connect_is_an_upstream_that_is_gone(transport: Transport) -> None:
    """Whatever it says instead."""
    seen: list[str] = []
    async with proxying(seen, refuses=True) as proxy:
        through = on_the_way(proxy_url=proxy)
        assert await code(ask(transport, "https://localhost:1/x", through)) == "provider_unavailable"
    assert await code(ask(transport, "https://localhost:1/x", through)) == "provider_unavailable"
    assert len(seen) == 1


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "10.0.0.1"])
async def test_what_may_not_be_reached_may_not_be_reached_through_a_proxy(transport: Transport, host: str) -> None:
    """The proxy would connect to it; it is not even asked."""
    seen: list[str] = []
    async with proxying(seen) as proxy:
        through = on_the_way(proxy_url=proxy)
        assert await code(ask(transport, f"http://{host}/x", through)) == "provider_unavailable"
        assert await code(ask(transport, f"https://{host}/x", through)) == "provider_unavailable"
    assert seen == []


async def test_a_proxy_is_an_address_like_any_other(upstream_client: Client) -> None:
    """One on a network that is not opened is not connected to."""
    seen: list[str] = []
    transport = open_transport(upstream_client, EgressPolicy())
    async with proxying(seen) as proxy:
        assert await code(ask(transport, "http://203.0.114.1/x", on_the_way(proxy_url=proxy))) == "provider_unavailable"
    await transport.close()
    assert seen == []


async def test_a_certificate_is_shown_to_who_asks_for_one(transport: Transport, tmp_path: Path) -> None:
    """With its key; without it the upstream does not talk."""
    theirs, ours = Authority(), Authority()
    mine = ours.sign(SERVER_NAMES)
    trusting = {"ca_bundle_pem": theirs.certificate.decode()}
    async with serving(answering([GOOD]), server_context(theirs, tmp_path, asks=ours)) as at:
        url = at.replace("127.0.0.1", "localhost")
        showing = on_the_way(**trusting, client_certificate_pem=mine.certificate.decode(), client_key=mine.key.decode())
        check_way(showing)
        assert await code(ask(transport, url, on_the_way(**trusting))) in ("provider_unavailable", "provider_error")
        assert await ask(transport, url, showing) == b"hello world"
    assert mine.key.decode()[40:80] not in repr(showing)


@pytest.mark.parametrize(
    "fields",
    [
        {"proxy_url": "https://proxy.example:3128"},
        {"proxy_url": "http://user:secret@proxy.example:3128"},
        {"proxy_url": "http://proxy.example/path"},
        {"ca_bundle_pem": "no certificate"},
        {"client_certificate_pem": "no certificate", "client_key": "secret"},
    ],
)
def test_a_way_that_cannot_be_is_told_at_save(fields: dict[str, str]) -> None:
    """Without a word of what it holds."""
    with pytest.raises(ValueError, match=r"proxy_url|ca_bundle_pem|client_certificate_pem") as caught:
        check_way(on_the_way(**fields))
    assert "secret" not in str(caught.value)


def test_a_key_of_another_certificate_is_refused() -> None:
    """Before any upstream is asked."""
    authority = Authority()
    one, other = authority.sign(SERVER_NAMES), authority.sign(SERVER_NAMES)
    with pytest.raises(ValueError, match="do not belong together"):
        check_way(on_the_way(client_certificate_pem=one.certificate.decode(), client_key=other.key.decode()))
