"""What is no well-formed request, too large or too slow, as bytes on a socket."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from tests.facade.rig import KEY, Rig, open_rig

from tokendance.gateway.v1 import completion_pb2 as pb

AUTHORIZATION = f"Authorization: Bearer {KEY}\r\n"
JSON = "Content-Type: application/json\r\n"
POST = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n{AUTHORIZATION}"
BODY = '{"model":"m","messages":[{"role":"user","content":"Hi"}]}'


async def talk(rig: Rig, data: str | bytes, url: str = "", *, timeout_s: float = 3) -> bytes:
    """Send bytes to the public listener or to `url`, and return all that comes until nothing more does."""
    host, _, port = (url or rig.facade.http_url).removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data.encode() if isinstance(data, str) else data)
    try:
        async with asyncio.timeout(timeout_s):
            return await reader.read()
    finally:
        writer.close()


def split(answer: bytes) -> tuple[int, str, dict[str, str]]:
    """Return status, lower-case head and error of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[9:12]), head.decode().lower(), json.loads(body)["error"]


MALFORMED = {
    "not http": "\x16\x03\x01\x02\x00\r\n\r\n",
    "no host": "GET /v1/models HTTP/1.1\r\n\r\n",
    "two hosts": "GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "space before the colon": "GET /v1/models HTTP/1.1\r\nHost : a\r\n\r\n",
    "two lengths": f"{POST}{JSON}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}",
    "length and chunks": f"{POST}{JSON}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "null byte": "GET /v1/models HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "folded header": "GET /v1/models HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_http_is_answered_in_our_form(rig: Rig, name: str) -> None:
    """400, our envelope, a request id, nothing of the parser's words, and the connection ends."""
    status, head, error = split(await talk(rig, MALFORMED[name]))
    assert status == 400
    assert error["code"] == "invalid_request"
    assert error["request_id"] in head
    assert "server: tokendance gateway" in head
    assert "python" not in head
    assert not rig.upstream.requests


@pytest.mark.parametrize("host", ["", "a/#@b", "a b", "a@b", "<script>", "a:99999", "a:b"])
async def test_a_host_that_is_none_is_refused(rig: Rig, host: str) -> None:
    """Nobody may take another decision than the router by looking at such a Host."""
    answer = await talk(rig, f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{AUTHORIZATION}\r\n")
    assert split(answer)[0] == 400
    assert not rig.upstream.requests
    for path in ("/livez", "/metrics", "/admin/v1/organizations"):
        asked = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert split(await talk(rig, asked, rig.facade.internal_url))[0] == 400


async def test_headers_beyond_the_limit_are_refused(rig: Rig) -> None:
    """One that is too long, and many that are too much; what is usual for agents passes."""
    long = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: {'x' * 33_000}\r\n\r\n"
    many = "".join(f"X-{index}: {'x' * 500}\r\n" for index in range(90))
    assert split(await talk(rig, long))[0] in {400, 413}
    answer = await talk(rig, f"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{many}\r\n")
    assert (split(answer)[0], split(answer)[2]["code"]) == (413, "request_too_large")
    usual = "".join(f"X-{index}: {'x' * 500}\r\n" for index in range(30))
    answer = await talk(rig, f"GET /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{AUTHORIZATION}{usual}\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_slow_head_ends_the_connection() -> None:
    """Half a head, or none at all, holds a connection only so long."""
    async with open_rig(head_timeout_s=0.3) as rig:
        for half in ("", "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX: "):
            started = time.monotonic()
            assert await talk(rig, half) == b""
            assert time.monotonic() - started < 2


async def test_a_second_slow_head_ends_the_connection_too() -> None:
    """The limit holds for each request of a connection."""
    async with open_rig(head_timeout_s=0.3) as rig:
        host, _, port = rig.facade.http_url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{AUTHORIZATION}\r\n".encode())
        await reader.readuntil(b'has_more":false}')
        await asyncio.sleep(0.5)
        writer.write(b"GET /v1/mod")
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()


async def test_a_slow_body_is_refused() -> None:
    """A body that stalls is answered with 400, and its connection ends."""
    async with open_rig(body_idle_timeout_s=0.2, linger_s=0.2) as rig:
        answer = await talk(rig, f"{POST}{JSON}Content-Length: 100\r\n\r\n{{", timeout_s=15)
        assert split(answer)[0] == 400
        assert b"connection: close" in answer


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_refused(chunked: bool) -> None:
    """One byte too much is 413, told or not; the limit itself passes."""
    async with open_rig(max_body_bytes=2000) as rig:
        for size, status in ((2000, 200), (2001, 413)):
            body = BODY.ljust(size)
            sent = f"{size:x}\r\n{body}\r\n0\r\n\r\n" if chunked else body
            framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
            answer = await talk(rig, f"{POST}{JSON}{framing}\r\nConnection: close\r\n\r\n{sent}")
            assert int(answer[9:12]) == status


async def test_expect_continue_is_answered(rig: Rig) -> None:
    """The caller that waits for it sends its body, and gets one answer."""
    answer = await talk(
        rig, f"{POST}{JSON}Expect: 100-continue\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}"
    )
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("Content-Type: application/json; charset=UTF-8", True),
        ("Content-Type: application/vnd.api+json", True),
        ("Content-Type: application/json; charset=latin-1", False),
        ("Content-Type: text/plain", False),
        ("X: y", False),
        ("Content-Type: application/json\r\nContent-Encoding: gzip", False),
    ],
)
async def test_only_plain_json_is_taken(rig: Rig, header: str, accepted: bool) -> None:
    """Other types and all encodings are 415."""
    answer = await talk(rig, f"{POST}{header}\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}")
    assert answer.startswith(b"HTTP/1.1 200" if accepted else b"HTTP/1.1 415")


async def test_http_1_0_gets_its_answers(rig: Rig) -> None:
    """A stream without chunks, ended by the end of the connection."""
    body = BODY.replace("{", '{"stream":true,', 1)
    head = f"POST /v1/chat/completions HTTP/1.0\r\n{AUTHORIZATION}{JSON}Content-Length: {len(body)}\r\n\r\n"
    answer = await talk(rig, head + body)
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


async def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    """Two requests in one packet, two answers."""
    one = f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{AUTHORIZATION}\r\n"
    last = one.replace("Host: a\r\n", "Host: a\r\nConnection: close\r\n")
    assert (await talk(rig, one + last)).count(b"HTTP/1.1 200 OK") == 2


async def test_a_reader_that_stalls_is_given_up() -> None:
    """A stream is not kept in memory for a caller that reads nothing."""
    async with open_rig(write_timeout_s=0.3) as rig:
        piece = pb.CompletionEvent(text=pb.TextDelta(text="x" * 100_000))
        rig.upstream.steps = [*([piece] * 400), 30.0]
        host, _, port = rig.facade.http_url.removeprefix("http://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        body = BODY.replace("{", '{"stream":true,', 1)
        writer.write(f"{POST}{JSON}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        async with asyncio.timeout(10):
            await rig.upstream.cancelled.wait()
        writer.close()


async def test_a_large_answer_that_nobody_reads_is_given_up() -> None:
    """Not only streams: what is left of the answer is freed with its connection."""
    async with open_rig(write_timeout_s=0.3) as rig:
        rig.upstream.completion.choices[0].message.parts[0].text.text = "x" * 30_000_000
        host, _, port = rig.facade.http_url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(f"{POST}{JSON}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
        connections = rig.facade._public._connections
        assert connections is not None
        await reader.readexactly(1)
        assert len(connections.connections) == 1
        async with asyncio.timeout(10):
            while connections.connections:
                await asyncio.sleep(0.05)
        writer.close()


async def test_a_slow_reader_gets_its_whole_answer() -> None:
    """As long as something is taken within the limit, however long the whole of it takes."""
    async with open_rig(write_timeout_s=0.3) as rig:
        rig.upstream.completion.choices[0].message.parts[0].text.text = "x" * 12_000_000
        host, _, port = rig.facade.http_url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{POST}{JSON}Connection: close\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode())
        started = time.monotonic()
        size = 0
        async with asyncio.timeout(10):
            while piece := await reader.read(200_000):
                size += len(piece)
                await asyncio.sleep(0.01)
        assert size > 12_000_000
        assert time.monotonic() - started > 0.4
        writer.close()
