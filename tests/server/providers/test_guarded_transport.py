"""The transport under the egress policy: what is resolved, what is connected to, and what nobody is told.

127.0.0.2 stands for an address that may be reached and 127.0.0.3 for one that may not, for a test cannot connect to
public addresses; the policy tells them apart by the operator's word alone.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import aiohttp
import pytest
import uvloop
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from structlog.testing import capture_logs

from tokendance.errors import GatewayError
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy, EgressRefusedError
from tokendance_server.domain.keys.networks import parse_network
from tokendance_server.providers.aiohttp_transport import AiohttpTransport
from tokendance_server.providers.guarded_connector import GuardedConnector, GuardedResolver
from tokendance_server.providers.lean.transport import LeanTransport
from tokendance_server.providers.transport import Client, Transport, open_transport

GOOD, BAD = "127.0.0.2", "127.0.0.3"
POLICY = EgressPolicy(allowed_private=[parse_network(f"{GOOD}/32")])
PROVIDER = ProviderConfig(id="acme", kind="openai", connect_timeout_s=2, first_byte_timeout_s=2)
OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
CLOSED = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "192.0.0.192",
    "198.18.0.1", "224.0.0.1", "255.255.255.255", "168.63.129.16", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8",
    "::7f00:1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2001::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "not an address", "",
]  # fmt: skip


class StubResolver(AbstractResolver):
    """Gives one list of addresses after the other; the last one again and again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        """Holds nothing."""


class CountingPolicy(EgressPolicy):
    """Allows GOOD so many times and nothing after that, as if the peer were another than was asked for."""

    def __init__(self, times: int) -> None:
        super().__init__(allowed_private=[parse_network(f"{GOOD}/32")])
        self.left = times

    def check_address(self, address: str) -> None:
        super().check_address(address)
        self.left -= 1
        if self.left < 0:
            raise EgressRefusedError(f"{address} is refused now")


class Upstream:
    """What one server saw."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.requests: list[bytes] = []


@asynccontextmanager
async def upstream(host: str, port: int = 0, answer: bytes = OK) -> AsyncIterator[Upstream]:
    """A server that gives one answer on each connection and closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            seen.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, host, port) as server:
        seen = Upstream(server.sockets[0].getsockname()[1])
        yield seen


class MakeTransport(Protocol):
    """Makes a transport that is closed afterwards."""

    def __call__(
        self, policy: EgressPolicy = POLICY, resolver: AbstractResolver | None = None
    ) -> AbstractAsyncContextManager[Transport]: ...


@pytest.fixture
def transport(upstream_client: Client) -> MakeTransport:
    """Makes transports of one client."""

    @asynccontextmanager
    async def make(policy: EgressPolicy = POLICY, resolver: AbstractResolver | None = None) -> AsyncIterator[Transport]:
        made = open_transport(upstream_client, policy, resolver=resolver)
        try:
            yield made
        finally:
            await made.close()

    return make


async def post(client: Transport, url: str) -> int:
    """Send a small document; returns the status."""
    deadline = asyncio.get_running_loop().time() + 5
    answer = await client.post(PROVIDER, yarl.URL(url), {}, b"{}", deadline)
    try:
        await answer.read_body()
        return answer.status
    finally:
        answer.close()


async def refusal(client: Transport, url: str, address: str) -> str:
    """Why a request was refused, as the log says it; the caller must be told no address, and nothing of the policy."""
    with capture_logs() as lines, pytest.raises(GatewayError) as caught:
        await post(client, url)
    assert caught.value.code == "provider_unavailable"
    assert address not in repr(caught.value)
    assert "egress" not in repr(caught.value)
    assert caught.value.__cause__ is None
    (line,) = lines
    assert (line["event"], line["log_level"], line["provider"]) == ("egress_refused", "warning", "acme")
    return str(line["why"])


def forget_names(client: Transport) -> None:
    """As if the time had passed that resolved names are kept for."""
    if isinstance(client, LeanTransport):
        client._dialer.forget_names()
        return
    assert isinstance(client, AiohttpTransport)
    for session in client._sessions.values():
        connector = session.connector
        assert isinstance(connector, GuardedConnector)
        connector.clear_dns_cache()


async def test_an_address_as_host_is_checked(transport: MakeTransport) -> None:
    """The client asks no resolver about it, so the check is where its socket is opened."""
    async with upstream(GOOD) as good, upstream(BAD, good.port) as bad, transport() as client:
        assert await post(client, f"http://{GOOD}:{good.port}/") == 200
        assert BAD in await refusal(client, f"http://{BAD}:{bad.port}/", BAD)
        assert (good.connections, bad.connections) == (1, 0)


async def test_an_ipv6_address_as_host_is_checked(transport: MakeTransport) -> None:
    """Loopback's is refused unless it is open."""
    async with upstream("::1") as seen:
        url = f"http://[::1]:{seen.port}/"
        async with transport() as client:
            assert "::1 is a loopback address" in await refusal(client, url, "::1")
        assert seen.connections == 0
        async with transport(EgressPolicy(allow_loopback=True)) as client:
            assert await post(client, url) == 200


@pytest.mark.parametrize(
    "host",
    ["127.3", "2130706435", "0x7f000003", "0177.0.0.3", "0x7f.3", "127.0.0.3.", "[::ffff:127.0.0.3]", "[::7f00:3]"],
)
async def test_a_disguised_address_opens_no_connection(transport: MakeTransport, host: str) -> None:
    """Even if it came past the check of URLs, and the C library took the name for the address that it hides."""
    async with upstream(BAD) as seen, transport(resolver=StubResolver([BAD])) as client:
        with pytest.raises(GatewayError) as caught:
            await post(client, f"http://{host}:{seen.port}/")
        assert caught.value.code in ("provider_unavailable", "provider_error")
        assert seen.connections == 0


async def test_loopback_is_reached_where_it_is_open(transport: MakeTransport) -> None:
    """By address, and by the name that the system resolves."""
    async with upstream("127.0.0.1") as seen, transport(EgressPolicy(allow_loopback=True)) as client:
        assert await post(client, f"http://127.0.0.1:{seen.port}/") == 200
        assert await post(client, f"http://localhost:{seen.port}/") == 200


async def test_loopback_is_refused_by_the_name_that_the_system_resolves(transport: MakeTransport) -> None:
    """Without a word of the operator."""
    async with upstream("127.0.0.1") as seen, transport(EgressPolicy()) as client:
        assert "loopback" in await refusal(client, f"http://localhost:{seen.port}/", "127.0.0.1")
        assert seen.connections == 0


async def test_a_name_is_resolved_once_and_its_answer_used(transport: MakeTransport) -> None:
    """Nobody asks again between the check and the connection, nor for the next call soon after."""
    resolver = StubResolver([GOOD], [BAD])
    async with upstream(GOOD) as good, upstream(BAD, good.port) as bad, transport(resolver=resolver) as client:
        for _ in range(3):
            assert await post(client, f"http://rebind.example:{good.port}/") == 200
        assert resolver.asked == ["rebind.example"]
        assert (good.connections, bad.connections) == (3, 0)


async def test_a_rebinding_name_is_refused_when_it_turns(transport: MakeTransport) -> None:
    """A good answer first buys nothing for the second one."""
    resolver = StubResolver([GOOD], [BAD], [GOOD])
    async with upstream(GOOD) as good, upstream(BAD, good.port) as bad, transport(resolver=resolver) as client:
        url = f"http://rebind.example:{good.port}/"
        assert await post(client, url) == 200
        forget_names(client)
        assert BAD in await refusal(client, url, BAD)
        assert await post(client, url) == 200
        assert (good.connections, bad.connections) == (2, 0)
        assert len(resolver.asked) == 3


@pytest.mark.parametrize("answer", [[GOOD, BAD], [BAD, GOOD], [GOOD, GOOD, "::1"], ["8.8.8.8", "169.254.169.254"]])
async def test_an_answer_with_one_refused_address_is_refused_whole(transport: MakeTransport, answer: list[str]) -> None:
    """In any order; no connection is tried."""
    async with upstream(GOOD) as good, upstream(BAD, good.port) as bad:
        async with transport(resolver=StubResolver(answer)) as client:
            await refusal(client, f"http://mixed.example:{good.port}/", BAD)
        assert (good.connections, bad.connections) == (0, 0)


@pytest.mark.parametrize("address", CLOSED)
async def test_a_resolver_gives_no_closed_address(address: str) -> None:
    """Public first, then closed, then both."""
    resolver = GuardedResolver(EgressPolicy(), StubResolver(["8.8.8.8"], [address], ["8.8.8.8", address]))
    assert [one["host"] for one in await resolver.resolve("rebind.example", 443)] == ["8.8.8.8"]
    for _ in range(2):
        with pytest.raises(EgressRefusedError):
            await resolver.resolve("rebind.example", 443)


@pytest.mark.parametrize("address", CLOSED)
async def test_no_socket_is_opened_for_a_closed_address(address: str) -> None:
    """Also where no resolver was asked."""
    connector = GuardedConnector(EgressPolicy(), StubResolver([]))
    try:
        with pytest.raises(EgressRefusedError):
            connector._open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443)))
    finally:
        await connector.close()


async def test_a_name_without_addresses_is_unavailable_and_no_refusal(transport: MakeTransport) -> None:
    """An empty answer is the resolver's failure, not the policy's."""
    async with transport(resolver=StubResolver([])) as client:
        with capture_logs() as lines, pytest.raises(GatewayError) as caught:
            await post(client, "http://empty.example/")
        assert caught.value.code == "provider_unavailable"
        assert lines == []


async def test_a_refused_connection_is_no_refusal_of_the_policy(transport: MakeTransport) -> None:
    """Where nobody listens, nothing is logged as refused."""
    async with upstream(GOOD) as seen:
        port = seen.port
    async with transport() as client:
        with capture_logs() as lines, pytest.raises(GatewayError) as caught:
            await post(client, f"http://{GOOD}:{port}/")
        assert caught.value.code == "provider_unavailable"
        assert lines == []


async def test_the_peer_of_the_open_socket_is_checked(transport: MakeTransport) -> None:
    """Third of three checks, before the first byte goes out; the connection is closed."""
    async with upstream(GOOD) as seen:
        async with transport(CountingPolicy(3), StubResolver([GOOD])) as client:
            assert await post(client, f"http://peer.example:{seen.port}/") == 200
        async with transport(CountingPolicy(2), StubResolver([GOOD])) as client:
            assert "refused now" in await refusal(client, f"http://peer.example:{seen.port}/", GOOD)
        await asyncio.sleep(0.05)
        assert len(seen.requests) == 1


async def test_no_redirect_is_followed(transport: MakeTransport) -> None:
    """Not even to where it may lead."""
    async with upstream(BAD) as bad, upstream(GOOD) as other:
        for target in (f"http://{BAD}:{bad.port}/", f"http://{GOOD}:{other.port}/"):
            head = f"HTTP/1.1 307 Away\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n".encode()
            async with upstream(GOOD, answer=head) as good, transport() as client:
                assert await post(client, f"http://{GOOD}:{good.port}/") == 307
        assert (bad.connections, other.connections) == (0, 0)


async def test_a_proxy_is_checked_like_any_host() -> None:
    """By address and by name; one that may be reached is used, unless what lies beyond it is refused by its name."""
    resolver = StubResolver([GOOD], [GOOD], [BAD], [GOOD], [GOOD], [BAD])
    async with upstream(GOOD) as good, upstream(BAD, good.port) as bad:
        connector = GuardedConnector(POLICY, resolver)
        async with aiohttp.ClientSession(connector=connector) as session:
            for proxy in (f"http://{BAD}:{bad.port}", f"http://proxy.example:{bad.port}"):
                with pytest.raises(aiohttp.ClientConnectorError) as caught:
                    await session.get("http://upstream.example/", proxy=proxy)
                assert isinstance(caught.value.os_error, EgressRefusedError)
            async with session.get("http://upstream.example/", proxy=f"http://proxy.example:{good.port}") as answer:
                assert answer.status == 200
            with pytest.raises(aiohttp.ClientConnectorError) as caught:
                await session.get("http://trap.example/", proxy=f"http://proxy.example:{good.port}")
            assert isinstance(caught.value.os_error, EgressRefusedError)
        assert bad.connections == 0
        assert good.requests[0].startswith(b"GET http://upstream.example/ ")
        assert len(good.requests) == 1


async def test_no_proxy_of_the_environment_is_used(transport: MakeTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of other programs do not move our calls."""
    async with upstream(GOOD) as good, upstream(GOOD) as proxy, transport() as client:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{GOOD}:{proxy.port}")
        assert await post(client, f"http://{GOOD}:{good.port}/") == 200
        assert (good.connections, proxy.connections) == (1, 0)


def test_it_holds_on_the_other_event_loop_too(transport: MakeTransport) -> None:
    """Nodes run on uvloop, which connects and names peers by code of its own."""

    async def check() -> None:
        resolver = StubResolver([GOOD], [BAD])
        async with upstream(GOOD) as good, upstream(BAD, good.port) as bad, transport(resolver=resolver) as client:
            url = f"http://rebind.example:{good.port}/"
            assert await post(client, url) == 200
            forget_names(client)
            assert BAD in await refusal(client, url, BAD)
            assert BAD in await refusal(client, f"http://{BAD}:{bad.port}/", BAD)
            async with transport(CountingPolicy(2), StubResolver([GOOD])) as other:
                assert "refused now" in await refusal(other, url, GOOD)
            assert bad.connections == 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check())
