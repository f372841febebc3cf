"""G1, G2 and G6 over REST: what is too large, too slow, packed, or meant to be read in two ways."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from tests.e2e.nodes import BODY_LIMIT_BYTES, Node
from tests.faults.probes import MiB, Probe
from tests.faults.wire import CHAT, GOOD, STREAMED, Reply, connect, exchange, head, posted

CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
GOOD_CHUNK = b"%x\r\n%b\r\n" % (len(GOOD), GOOD)
LENGTH = f"Content-Length: {len(GOOD)}"
LONG = STREAMED % b"sim:tokens=400:rate=20"
CHUNKED = "Transfer-Encoding: chunked"
OVER = BODY_LIMIT_BYTES + 1


def chunks(megabytes: int) -> Iterator[bytes]:
    """A body of so many megabytes, in chunks."""
    for _ in range(megabytes * 16):
        yield CHUNK


def request(*lines: str, body: bytes = GOOD, host: str = "Host: a") -> Callable[[Node], Reply]:
    """An attack that is one request."""
    return lambda node: exchange(node, [head(node, *lines, "Connection: close", host=host), body])


def raw(text: bytes) -> Callable[[Node], Reply]:
    """An attack that is bytes without any help."""
    return lambda node: exchange(node, [text])


Row = tuple[Callable[[Node], Reply], int, str]

LARGE: dict[str, Row] = {
    "a body one byte over the limit": (request(f"Content-Length: {OVER}", body=b" " * OVER), 413, "request_too_large"),
    "a length far over the limit": (request("Content-Length: 1073741824"), 413, "request_too_large"),
    "a length that no number holds": (request("Content-Length: " + "9" * 400), 400, "invalid_request"),
    "a gigabyte in chunks": (
        lambda node: exchange(node, [head(node, CHUNKED), *[CHUNK] * 20, *chunks(1024)]), 413, "request_too_large"
    ),
    "a header of 33 kB": (request("X: " + "x" * 33_000, LENGTH), 413, "request_too_large"),
    "headers of 33 kB together": (
        request(*[f"X-{n}: {'x' * 500}" for n in range(66)], LENGTH), 413, "request_too_large"
    ),
    "four thousand headers": (request(*[f"X-{n}: 1" for n in range(4000)], LENGTH), 400, "invalid_request"),
    "a path of 33 kB": (raw(b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"), 413, "request_too_large"),
    "a chunk size without end": (request(CHUNKED, body=b"0" * 100_000), 400, "invalid_request"),
    "a chunk extension of a megabyte": (
        request(CHUNKED, body=b"1;" + b"x" * MiB + b"\r\n \r\n0\r\n\r\n"), 400, "invalid_json"
    ),
}  # fmt: skip

PACKED: dict[str, Row] = {
    name: (
        lambda node, name=name, body=body: posted(node, body, f"Content-Encoding: {name}"),  # type: ignore[misc]
        415,
        "unsupported_media_type",
    )
    for name, body in {
        "gzip": gzip.compress(b"\0" * 50_000_000),
        "deflate": zlib.compress(b"\0" * 50_000_000),
        "br": GOOD,
        "zstd": GOOD,
        "gzip, gzip": gzip.compress(gzip.compress(b"\0" * 1_000_000)),
        "x-unknown": GOOD,
        "": GOOD,
    }.items()
}
PACKED["gzip as a transfer encoding"] = (
    request("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 400, "invalid_request"
)  # fmt: skip

AMBIGUOUS: dict[str, Row] = {
    "length and chunks": (request(LENGTH, CHUNKED), 400, "invalid_request"),
    "chunks and length": (request(CHUNKED, "Content-Length: 0", body=b"0\r\n\r\n"), 400, "invalid_request"),
    "two lengths": (request(LENGTH, "Content-Length: 1"), 400, "invalid_request"),
    "two lengths in one line": (request(f"{LENGTH}, 1"), 400, "invalid_request"),
    "a negative length": (request("Content-Length: -1"), 400, "invalid_request"),
    "a signed length": (request(f"Content-Length: +{len(GOOD)}"), 400, "invalid_request"),
    "a hexadecimal length": (request("Content-Length: 0x10"), 400, "invalid_request"),
    "another transfer encoding": (request("Transfer-Encoding: xchunked"), 400, "invalid_request"),
    "chunks not last": (request("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400, "invalid_request"),
    "space before a colon": (request("Content-Length : 1"), 400, "invalid_request"),
    "a folded header": (request(LENGTH, "X: a\r\n b"), 400, "invalid_request"),
    "bare line feeds": (raw(b"POST /v1/models HTTP/1.1\nHost: a\nContent-Length: 0\n\n"), 400, "invalid_request"),
    "a null byte": (request(LENGTH, "X: a\0b"), 400, "invalid_request"),
    "a bare carriage return": (request(LENGTH, "X: a\rY: b"), 400, "invalid_request"),
    "no hexadecimal chunk size": (request(CHUNKED, body=b"xyz\r\n"), 400, "invalid_request"),
    "a negative chunk size": (request(CHUNKED, body=b"-1\r\n"), 400, "invalid_request"),
    "a chunk longer than it says": (request(CHUNKED, body=b"1\r\nabc\r\n0\r\n\r\n"), 400, "invalid_request"),
    "two hosts": (request(LENGTH, "Host: b"), 400, "invalid_request"),
    "no host": (request(LENGTH, host=""), 400, "invalid_request"),
    "an empty host": (request(LENGTH, host="Host:"), 400, "invalid_request"),
    "a host with a path": (request(LENGTH, host="Host: a/#@b"), 400, "invalid_request"),
    "two credentials": (request(LENGTH, "Authorization: Bearer tdk_other"), 401, "credentials_conflict"),
    "another protocol": (raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), 400, "invalid_request"),
    "the preface of HTTP/2": (raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400, "invalid_request"),
    "an unknown expectation": (request(LENGTH, "Expect: 200-maybe"), 400, "invalid_request"),
}


@pytest.mark.parametrize("name", [*LARGE, *PACKED, *AMBIGUOUS])
def test_refused_in_our_own_form(node: Node, name: str) -> None:
    """Exactly one answer, with our error, and the end of the connection: nothing behind it is a request."""
    attack, status, code = (LARGE | PACKED | AMBIGUOUS)[name]
    reply = attack(node)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.closed
    assert reply.took_s < 4


def test_nothing_is_left_of_large_and_packed_requests(node: Node, probe: Probe) -> None:
    """Several times over, with somebody else calling: no memory, no descriptor, nobody waits."""
    for attack, status, _ in [*LARGE.values(), *PACKED.values()]:
        assert attack(node).status == status


def slowly(*lines: str, pieces: int, piece: bytes) -> Callable[[Node], Reply]:
    """An attack that sends a good head, and its body in pieces with pauses."""
    return lambda node: exchange(node, [head(node, *lines), *[piece] * pieces], gap_s=0.3)


# name -> (attack, whether it is answered: without a whole head there is no request to answer)
SLOW: dict[str, tuple[Callable[[Node], Reply], bool]] = {
    "no byte": (lambda node: exchange(node, []), False),
    "half a head": (lambda node: exchange(node, [b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX: "]), False),
    "a head byte by byte": (
        lambda node: exchange(node, (bytes([byte]) for byte in head(node, LENGTH)), gap_s=0.05),
        False,
    ),
    "a body that stalls": (slowly(LENGTH, pieces=1, piece=b" "), True),
    "chunks that stall": (slowly(CHUNKED, pieces=1, piece=b"1\r\n \r\n"), True),
    "a body that drips": (slowly(LENGTH, pieces=10, piece=b" "), True),
    "chunks that drip": (slowly(CHUNKED, pieces=10, piece=b"1\r\n \r\n"), True),
    "a chunk that stalls in its size": (slowly(CHUNKED, pieces=1, piece=b"1"), True),
    "an expectation without a body": (slowly(LENGTH, "Expect: 100-continue", pieces=0, piece=b""), True),
}


def test_slow_requests_end(node: Node, probe: Probe) -> None:
    """All of them at once: a slow head is cut off, a slow body is refused, and nobody else waits."""
    with ThreadPoolExecutor(len(SLOW)) as pool:
        replies = dict(zip(SLOW, pool.map(lambda row: row[0](node), SLOW.values()), strict=True))
    for name, reply in replies.items():
        answered = SLOW[name][1]
        assert reply.closed, name
        assert reply.took_s < 6, name
        assert reply.status == (400 if answered else 0), name
        if answered:
            assert reply.error["code"] == "invalid_request", name


def test_many_slow_connections_hold_nothing_up(node: Node, probe: Probe) -> None:
    """Three hundred at once: others are served, and all of them are gone after the time for a head."""
    opened = [connect(node.origin) for _ in range(300)]
    try:
        for one in opened:
            one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX: ")
        for one in opened:
            one.settimeout(8)
            with suppress(ConnectionError):
                assert one.recv(1) == b""
    finally:
        for one in opened:
            one.close()


LINES = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
# name -> (lines of the first request, method, path, what follows it without end)
FOLLOWED: dict[str, tuple[list[str], str, str, bytes]] = {
    "requests behind a request": ([LENGTH], "POST", CHAT, LINES),
    "requests behind a stream": ([f"Content-Length: {len(LONG)}"], "POST", CHAT, LINES),
    "bytes behind an upgrade": ([LENGTH, "Connection: Upgrade", "Upgrade: websocket"], "POST", CHAT, b"x" * 60_000),
    "bytes behind an upgrade to HTTP/2": (
        [LENGTH, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: "], "POST", CHAT, b"x" * 60_000
    ),
    "bytes behind an upgrade of a stream": (
        [f"Content-Length: {len(LONG)}", "Connection: Upgrade", "Upgrade: websocket"], "POST", CHAT, b"x" * 60_000
    ),
    "bytes behind a tunnel": ([], "CONNECT", "a:443", b"x" * 60_000),
    "bytes behind a request without a body": ([], "GET", "/v1/models", b"x" * 60_000),
    "a body that nobody asked for": (["Content-Length: 1073741824"], "GET", "/v1/models", b"x" * 60_000),
    "empty lines": ([], "", "", b"\r\n" * 30_000),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_not_read_yet_does_not_pile_up(node: Node, name: str, probe: Probe) -> None:
    """Of a sender that never reads, only so much is taken as a few buffers hold; then it waits, or is cut off."""
    lines, method, path, follows = FOLLOWED[name]
    body = LONG if f"Content-Length: {len(LONG)}" in lines else GOOD if LENGTH in lines else b""
    for _ in range(2):
        probe.begin_again()
        with connect(node.origin) as opened:
            if method:
                opened.sendall(head(node, *lines, method=method, path=path) + body)
            opened.settimeout(0.7)
            with suppress(OSError):
                for _ in range(100 * MiB // len(follows)):
                    opened.sendall(follows)
            assert probe.node.processes[0].popen.poll() is None
            grown = probe.memory() - probe.before
            assert grown < 12 * MiB, f"{grown / MiB:.1f} MiB while it lasts"
    assert posted(node, GOOD).status == 200


def test_trailers_change_nothing(node: Node) -> None:
    """A header behind the body is no header: the credential is not taken from there."""
    lines = f"Host: a\r\nContent-Type: application/json\r\nConnection: close\r\n{CHUNKED}"
    without = f"POST {CHAT} HTTP/1.1\r\n{lines}\r\n\r\n".encode()
    body = GOOD_CHUNK + f"0\r\nAuthorization: Bearer {node.api_key}\r\n\r\n".encode()
    assert exchange(node, [without, body]).error["code"] in ("missing_api_key", "invalid_request")


def test_trailers_without_end_are_refused(node: Node, probe: Probe) -> None:
    """As too large, or as a body that does not end, whichever is noticed first."""
    for _ in range(4):
        probe.begin_again()
        reply = request(CHUNKED, body=GOOD_CHUNK + b"0\r\nX: " + b"x" * MiB + b"\r\n\r\n")(node)
        assert (reply.status, reply.error["code"]) in ((413, "request_too_large"), (400, "invalid_request"))
        assert reply.closed


def test_a_smuggled_request_is_not_answered(node: Node) -> None:
    """Whatever stands behind a request that two readers could end in two places."""
    inner = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + node.api_key.encode() + b"\r\n\r\n"
    for lines in (
        ["Content-Length: 4", CHUNKED],
        [CHUNKED, "Transfer-Encoding: identity"],
        ["Content-Length: 4", LENGTH],
    ):
        reply = exchange(node, [head(node, *lines), b"0\r\n\r\n" + inner])
        assert reply.status == 400
        assert b'"object":"list"' not in reply.body
