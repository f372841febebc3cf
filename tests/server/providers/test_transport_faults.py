"""Both clients against hostile and broken upstreams: bytes split anywhere, callers that leave, TLS, slow readers."""

import asyncio
import random
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
import yarl
from tests.certificates import SERVER_NAMES, Authority

from tokendance.errors import GatewayError
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.providers.aiohttp_transport import AiohttpTransport
from tokendance_server.providers.transport import Client, Transport, open_transport

PROVIDER = ProviderConfig(id="p", kind="openai", connect_timeout_s=2, first_byte_timeout_s=5, idle_timeout_s=5)
LOOPBACK = EgressPolicy(allow_loopback=True)
HEAD = b"HTTP/1.1 200 OK\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def transport(upstream_client: Client) -> AsyncIterator[Transport]:
    """A transport that is closed afterwards."""
    made = open_transport(upstream_client, LOOPBACK)
    yield made
    await made.close()


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


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("ahead", [b"", AHEAD])
async def test_a_split_at_any_byte_changes_nothing(transport: Transport, form: str, ahead: bytes) -> None:
    """However the packets fall, and whatever words come ahead of the answer."""
    answer = ahead + HEAD + WHOLE[form]
    for at in range(1, len(answer)):
        async with serving(answering([answer[:at], answer[at:]])) as url:
            assert await ask(transport, url) == b"hello world"


@pytest.mark.parametrize("form", WHOLE)
async def test_one_byte_a_packet_changes_nothing(transport: Transport, form: str) -> None:
    """Slower it cannot come."""
    answer = AHEAD + HEAD + WHOLE[form]
    async with serving(answering([answer[at : at + 1] for at in range(len(answer))])) as url:
        assert await ask(transport, url) == b"hello world"


@pytest.mark.parametrize("form", ["length", "chunked"])
async def test_an_answer_cut_at_any_byte_is_an_error(transport: Transport, form: str) -> None:
    """Half an answer is never taken for a whole one, and nothing that had begun is asked for again."""
    answer = HEAD + WHOLE[form]
    for at in range(1, len(answer)):
        seen: list[int] = []
        async with serving(answering([answer[:at]], seen=seen)) as url:
            assert await code(ask(transport, url)) == "provider_error"
        assert seen == [1]


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
        HEAD + b"content-length: +2\r\n\r\nok",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\nok",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nok",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
        HEAD + b"a\x00b: c\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"no colon\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/9.9 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"a: " + b"a" * 200_000,
        b"HTTP/1.1 100 Continue\r\na: b\r\n\r\n" * 10_000,
        b"\x16\x03\x01\x00\xa5\x01\x00",
    ],
)
async def test_what_has_two_readings_or_none_is_an_error(transport: Transport, answer: bytes) -> None:
    """And the next call meets nothing of it."""
    async with serving(answering([answer])) as url:
        assert await code(ask(transport, url)) == "provider_error"
    async with serving(answering([HEAD + b"content-length: 4\r\n\r\nnext"])) as url:
        assert await ask(transport, url) == b"next"


# aiohttp warns of bodies over 1 MiB, that copying them takes its time.
LARGE = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
BEHIND = [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", b"HTTP/1.1 2", b"x", b"\x00"]


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("form", ["length", "chunked"])
@pytest.mark.parametrize("late", [False, True])
async def test_bytes_behind_an_answer_are_nobodys(
    transport: Transport, behind: bytes, form: str, *, late: bool
) -> None:
    """The answer counts, its connection is never used again, and no later call sees them.

    aiohttp calls such an answer an error where it sees the bytes in time, and may keep the connection where they are
    the beginning of a head; it forgets them then.
    """
    answer = HEAD + WHOLE[form]
    packets = [answer, behind] if late else [answer + behind]
    seen: list[int] = []
    async with serving(answering(packets, [HEAD + b"content-length: 4\r\n\r\nnext"], seen=seen)) as url:
        if isinstance(transport, AiohttpTransport):
            with suppress(GatewayError):
                assert await ask(transport, url) == b"hello world"
        else:
            assert await ask(transport, url) == b"hello world"
        await asyncio.sleep(0.02)
        assert await ask(transport, url) == b"next"
        assert seen == [1, 2] or isinstance(transport, AiohttpTransport)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_a_status_without_a_body_ends_with_its_head(transport: Transport, status: bytes) -> None:
    """Nothing is waited for."""
    async with serving(answering([b"HTTP/1.1 " + status + b"\r\n\r\n"], [b""])) as url:
        assert await ask(transport, url) == b""


@pytest.mark.parametrize("version", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n"])
async def test_a_connection_that_its_server_closes_is_not_kept(transport: Transport, version: bytes) -> None:
    """It says so in its head, and the next call goes elsewhere at once."""
    seen: list[int] = []
    first = [version + b"content-length: 2\r\n\r\nok"]
    async with serving(answering(first, [HEAD + b"content-length: 2\r\n\r\nok"], seen=seen)) as url:
        for _ in range(2):
            assert await ask(transport, url) == b"ok"
        assert seen == [1, 2]


async def test_calls_one_after_another_share_a_connection(transport: Transport) -> None:
    """In whatever form their answers come."""
    seen: list[int] = []
    answers = [[HEAD + WHOLE[form]] for form in ("length", "chunked", "length", "chunked")]
    async with serving(answering(*answers, seen=seen)) as url:
        for _ in answers:
            assert await ask(transport, url) == b"hello world"
    assert seen == [1, 1, 1, 1]


@LARGE
async def test_an_answer_ahead_of_the_end_of_the_request_counts(transport: Transport) -> None:
    """A server that refuses a large request does not read it; its connection is not used again."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
        await writer.drain()
        await asyncio.sleep(0.2)

    async with serving(serve) as url:
        for _ in range(2):
            assert await ask(transport, url, body=b"x" * 32 * 1024 * 1024) == b"large"
        assert connections == 2


@LARGE
async def test_a_large_request_arrives_whole(transport: Transport) -> None:
    """Through a socket that takes it in pieces."""
    sent = random.Random(1).randbytes(5 * 1024 * 1024)
    got = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        got = await reader.readexactly(len(sent))
        writer.write(HEAD + b"content-length: 2\r\n\r\nok")

    async with serving(serve) as url:
        assert await ask(transport, url, body=sent) == b"ok"
    assert got == sent


async def test_a_slow_reader_holds_the_upstream_up(transport: Transport) -> None:
    """What nobody has read does not fill the memory: the upstream has to wait, and all of it comes in the end."""
    piece, pieces = b"x" * 64 * 1024, 400
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"{}")
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % (len(piece) * pieces))
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
            written += len(piece)

    async with serving(serve) as url:
        deadline = asyncio.get_running_loop().time() + 20
        answer = await transport.post(PROVIDER, yarl.URL(url), {}, b"{}", deadline)
        await answer.read_packet()
        await asyncio.sleep(0.3)
        # Most of what was written lies in the kernel's two buffers.
        assert written < 16 * 1024 * 1024
        read = 0
        while packet := await answer.read_packet():
            read += len(packet)
        answer.close()
        assert read > len(piece) * pieces - 1024 * 1024


@pytest.mark.parametrize("silent", ["before the head", "in the head", "before the body", "in the body"])
async def test_each_silence_has_its_end(transport: Transport, silent: str) -> None:
    """Wherever it sets in; the connection is closed, not kept."""
    sent = {
        "before the head": b"",
        "in the head": HEAD + b"content-le",
        "before the body": HEAD + b"content-length: 5\r\n\r\n",
        "in the body": HEAD + b"content-length: 5\r\n\r\nhe",
    }
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(sent[silent])
        await writer.drain()
        with suppress(OSError):
            await reader.read()
        gone.set()

    hasty = replace(PROVIDER, first_byte_timeout_s=0.2, idle_timeout_s=0.2)
    async with serving(serve) as url:
        begun = asyncio.get_running_loop().time()
        assert await code(ask(transport, url, hasty)) == "provider_timeout"
        assert 0.15 < asyncio.get_running_loop().time() - begun < 1
        await asyncio.wait_for(gone.wait(), 2)


async def test_a_name_in_the_certificate_must_be_the_hosts(upstream_client: Client, tmp_path: Path) -> None:
    """One that is good is talked to, by the name that was asked for; strangers, other names and old ones are not."""
    authority, stranger = Authority(), Authority()
    ours = ssl.create_default_context(cadata=authority.certificate.decode())
    asked: list[str | None] = []
    for name, made, expected in (
        ("good", authority.sign(SERVER_NAMES), ""),
        ("stranger", stranger.sign(SERVER_NAMES), "provider_unavailable"),
        ("other", authority.sign(SERVER_NAMES[1:]), "provider_unavailable"),
    ):
        files = made.write(tmp_path, name)
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(files.certificate, files.key)
        theirs.sni_callback = lambda _, server_name, __: asked.append(server_name)
        answers = [[HEAD + WHOLE["chunked"]], [HEAD + WHOLE["length"]]]
        seen: list[int] = []
        transport = open_transport(upstream_client, LOOPBACK, tls=ours)
        async with serving(answering(*answers, seen=seen), theirs) as address:
            url = address.replace("127.0.0.1", "localhost")
            if expected:
                assert await code(ask(transport, url)) == expected
                assert seen == []
            else:
                assert [await ask(transport, url) for _ in answers] == [b"hello world"] * 2
                assert seen == [1, 1]
        await transport.close()
    assert asked == ["localhost"] * 3


async def test_what_the_system_does_not_trust_is_not_talked_to(transport: Transport, tmp_path: Path) -> None:
    """Where nothing else is said."""
    files = Authority().sign(SERVER_NAMES).write(tmp_path, "unknown")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(files.certificate, files.key)
    async with serving(answering([b""]), theirs) as url:
        assert await code(ask(transport, url)) == "provider_unavailable"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its own number, sometimes late, in pieces, chunked, or with a word ahead of it."""
    dice = random.Random(id(writer))
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        number = await reader.readexactly(int(length[1]))
        text = number + b"x" * dice.choice((0, 10, 5000))
        answer = b"HTTP/1.1 100 Continue\r\n\r\n" if dice.random() < 0.1 else b""
        if dice.random() < 0.5:
            answer += HEAD + b"content-length: %d\r\n\r\n%b" % (len(text), text)
        else:
            answer += HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(text), text)
        cut = dice.randrange(len(answer))
        for piece in (answer[:cut], answer[cut:]):
            writer.write(piece)
            if dice.random() < 0.7:
                await asyncio.sleep(dice.random() * 0.002)


async def leave_at_random(transport: Transport, calls: int) -> tuple[int, int]:
    """Make calls of which many are cancelled; returns how many were answered and how many left."""
    dice = random.Random(7)
    gate = asyncio.Semaphore(16)
    counts = {"answered": 0, "left": 0}

    async def one(number: int, url: str, patience_s: float | None) -> None:
        name = b"call-%08d." % number
        async with gate:
            try:
                async with asyncio.timeout(patience_s):
                    got = await ask(transport, url, body=name)
            except TimeoutError:
                counts["left"] += 1
                return
            assert got.startswith(name), "an answer of another call"
            assert got[len(name) :].strip(b"x") == b""
            counts["answered"] += 1

    async with serving(echo) as url:
        async with asyncio.TaskGroup() as group:
            for number in range(calls):
                group.create_task(one(number, url, dice.random() * 0.003 if dice.random() < 0.6 else None))
        await transport.close()
    return counts["answered"], counts["left"]


@pytest.mark.parametrize("calls", [1000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_nobody_gets_the_answer_of_another(upstream_client: Client, calls: int, loop: str) -> None:
    """However many leave, wherever they leave: a connection is used again only behind a whole answer."""

    async def check() -> tuple[int, int]:
        return await leave_at_random(open_transport(upstream_client, LOOPBACK), calls)

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        answered, left = runner.run(check())
    assert answered + left == calls
    assert min(answered, left) > calls // 10
