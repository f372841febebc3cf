"""Both clients against hostile and broken upstreams: bytes split anywhere, odd answers, slow readers, silence."""

import asyncio
import random
from contextlib import suppress
from dataclasses import replace

import pytest
import yarl
from tests.server.providers.byte_servers import (
    AHEAD,
    HEAD,
    PROVIDER,
    WHOLE,
    answering,
    ask,
    code,
    serving,
)

from tokendance.errors import GatewayError
from tokendance_server.providers.aiohttp_transport import AiohttpTransport
from tokendance_server.providers.transport import Transport


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
