"""The transport by itself: connections, what it refuses by the head, and what it never does."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import yarl

from dev.simulator import Simulator
from tokendance.errors import GatewayError
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.providers.transport import Answer, Client, Transport, open_transport

PROVIDER = ProviderConfig(id="p", kind="openai", first_byte_timeout_s=2, idle_timeout_s=2)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@pytest.fixture
async def transport(upstream_client: Client) -> AsyncIterator[Transport]:
    """A transport with a limit of 64 KiB."""
    transport = open_transport(upstream_client, EgressPolicy(allow_loopback=True), answer_bytes=64 * 1024)
    yield transport
    await transport.close()


async def post(transport: Transport, url: str, provider: ProviderConfig = PROVIDER) -> Answer:
    """Send a small document."""
    deadline = asyncio.get_running_loop().time() + 10
    return await transport.post(provider, yarl.URL(url), {"content-type": "application/json"}, b"{}", deadline)


async def body(transport: Transport, url: str) -> bytes:
    """The whole body of an answer."""
    answer = await post(transport, url)
    try:
        return await answer.read_body()
    finally:
        answer.close()


async def failure(transport: Transport, url: str, provider: ProviderConfig = PROVIDER) -> str:
    """The code of a request that fails before its head is accepted."""
    with pytest.raises(GatewayError) as caught:
        await post(transport, url, provider)
    assert "127.0.0.1" not in str(caught.value)
    return caught.value.code


class Count:
    """How many connections and requests a server saw, and what was in them."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []


@asynccontextmanager
async def server(*answers: bytes | list[bytes] | None) -> AsyncIterator[tuple[str, Count]]:
    """A server with one answer for each request; None closes the connection, and a list does so after its bytes."""
    count = Count()
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count.connections += 1
        try:
            while True:
                request = await reader.readuntil(b"{}")
                count.requests.append(request)
                answer = left.pop(0)
                writer.writelines(answer if isinstance(answer, list) else [answer or b""])
                if not isinstance(answer, bytes):
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}/v1/x", count


def good(text: bytes = b"ok", extra: bytes = b"") -> bytes:
    """A good answer on a connection that is kept."""
    return b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n%b" % (extra, len(text), text)


async def test_a_dead_kept_connection_is_replaced_once(transport: Transport) -> None:
    """Nothing of the answer has come, so the request is sent again, on a new connection."""
    async with server(good(), None, good(b"again")) as (url, count):
        assert await body(transport, url) == b"ok"
        assert await body(transport, url) == b"again"
        assert (count.connections, len(count.requests)) == (2, 3)


async def test_the_replacement_is_not_replaced(transport: Transport) -> None:
    """A server that is closing everything is not asked a third time."""
    async with server(good(), None, None, good()) as (url, count):
        assert await body(transport, url) == b"ok"
        assert await failure(transport, url) == "provider_error"
        assert len(count.requests) == 3


async def test_a_new_connection_that_dies_is_not_replaced(transport: Transport) -> None:
    """The request may have been served, and must not be paid for twice."""
    async with server(None, good()) as (url, count):
        assert await failure(transport, url) == "provider_error"
        assert len(count.requests) == 1


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\ncontent-len", b"HTTP/1.1 200 OK\r\na: b\r\n"])
async def test_a_begun_answer_is_not_asked_for_again(transport: Transport, begun: bytes) -> None:
    """Not even on a kept connection, and not even where the head was not whole: it was served, and is paid for."""
    async with server(good(), [begun], good(b"again")) as (url, count):
        assert await body(transport, url) == b"ok"
        assert await failure(transport, url) == "provider_error"
        assert len(count.requests) == 2


async def test_nobody_there_is_unavailable(transport: Transport) -> None:
    """A closed port, and a name that does not exist."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert await failure(transport, f"http://127.0.0.1:{port}/v1") == "provider_unavailable"


async def test_a_connection_that_does_not_come_about_is_unavailable(transport: Transport) -> None:
    """Within the time for connecting: the backlog of this socket is full and never served."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(busy.getsockname())
        try:
            hasty = replace(PROVIDER, connect_timeout_s=0.2)
            assert (
                await failure(transport, f"http://127.0.0.1:{busy.getsockname()[1]}/", hasty) == "provider_unavailable"
            )
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 65537\r\n\r\n",
        good(extra=b"content-encoding: gzip\r\n"),
        good(extra=b"content-encoding: identity, br\r\n"),
        good(extra=b"".join(b"x-%d: %b\r\n" % (at, b"a" * 1000) for at in range(40))),
    ],
)
async def test_a_bad_head_is_an_error(transport: Transport, answer: bytes) -> None:
    """No HTTP, sizes that are none or too large, a body that is packed, and a head without measure."""
    async with server(answer) as (url, count):
        assert await failure(transport, url) == "provider_error"
        assert len(count.requests) == 1


async def test_a_body_is_read_up_to_the_limit(transport: Transport) -> None:
    """And not a byte further, where its size was not announced."""
    fits = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000\r\n" + b"a" * 65536 + b"\r\n"
    async with server(fits + b"0\r\n\r\n", fits + b"1\r\na\r\n0\r\n\r\n") as (url, _):
        assert len(await body(transport, url)) == 65536
        with pytest.raises(GatewayError) as caught:
            await body(transport, url)
        assert caught.value.code == "provider_error"


async def test_a_redirect_is_an_answer_like_any_other(transport: Transport) -> None:
    """It is not followed, so nobody is asked a second time."""
    redirect = good(extra=b"location: http://127.0.0.1:1/elsewhere\r\n").replace(b"200 OK", b"302 Found")
    async with server(redirect) as (url, count):
        answer = await post(transport, url)
        answer.close()
        assert answer.status == 302
        assert len(count.requests) == 1


async def test_a_packed_refusal_is_still_told_by_its_status(transport: Transport) -> None:
    """Proxies in between pack what they like."""
    packed = good(b"\x1f\x8b", b"content-encoding: gzip\r\n").replace(b"200 OK", b"429 Too Many Requests")
    async with server(packed) as (url, _):
        answer = await post(transport, url)
        assert (answer.status, await answer.read_beginning(100)) == (429, b"\x1f\x8b")
        answer.close()


async def test_cookies_are_forgotten(transport: Transport) -> None:
    """One caller's must not reach the next one's call."""
    async with server(good(extra=b"set-cookie: a=b; path=/\r\n"), good()) as (url, count):
        await body(transport, url)
        await body(transport, url)
        assert b"cookie" not in count.requests[1].lower()


async def test_proxies_of_the_environment_are_not_believed(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sets a variable must not see the calls."""
    async with server(good(b"direct")) as (url, _), server(good(b"proxied")) as (proxy, count):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        assert await body(transport, url) == b"direct"
        assert count.requests == []


async def test_a_header_with_a_line_feed_is_never_sent(transport: Transport) -> None:
    """It would be two headers, or two requests."""
    async with server(good()) as (url, count):
        deadline = asyncio.get_running_loop().time() + 5
        with pytest.raises(GatewayError):
            await transport.post(PROVIDER, yarl.URL(url), {"x-a": "b\r\nx-c: d"}, b"{}", deadline)
        assert count.requests == []


async def test_a_lost_caller_leaves_no_connection(transport: Transport) -> None:
    """A thousandfold, this would be a leak."""
    async with Simulator() as sim:
        for _ in range(20):
            answer = await post(transport, f"{sim.base_url}/chat/completions")
            answer.close()
        await sim.idle()
        assert sim.open_connections <= 1


@pytest.mark.parametrize("times", [1, 2])
async def test_a_transport_may_be_closed_more_than_once(transport: Transport, times: int) -> None:
    """And before it was ever used."""
    for _ in range(times):
        await transport.close()


async def test_an_answer_tells_its_connection_and_the_upstreams_own_id(transport: Transport) -> None:
    """How long a new connection took; of a kept one there is nothing to tell."""
    named = b"HTTP/1.1 200 OK\r\nX-Request-Id: up_1\r\ncontent-length: 2\r\n\r\n{}"
    other = b"HTTP/1.1 200 OK\r\nrequest-id: up_2\r\ncontent-length: 2\r\n\r\n{}"
    nameless = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    async with server(named, other, nameless) as (url, count):
        seen = []
        for _ in range(3):
            answer = await post(transport, url)
            await answer.read_body()
            answer.close()
            seen.append((answer.request_id, answer.connect_us is None))
    assert count.connections == 1
    assert seen == [("up_1", False), ("up_2", True), ("", True)]
