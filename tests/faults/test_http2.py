"""G5: what can be done with frames alone, while somebody else is served."""

from __future__ import annotations

import struct
import time
import urllib.request
from collections.abc import Iterator

import pytest
from tests.e2e.nodes import Node
from tests.e2e.upstream import Upstream, until
from tests.faults.frames import Attacker
from tests.faults.probes import MiB, Probe
from tests.faults.test_grpc import PATHS, good
from tests.faults.wire import connect

RESETS = 3_000
STALLED = 20
ENDLESS = "sim:tokens=400:rate=20"
HANDSHAKE_S = 3.0
NO_ERROR, CANCEL = 0, 8


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame, whatever its kind allows."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


@pytest.fixture
def attacker(node: Node) -> Iterator[Attacker]:
    """A connection whose handshake is done."""
    with Attacker(node.grpc) as opened:
        for _ in range(3):
            opened.read()
        yield opened


def test_half_a_preface_ends(node: Node, probe: Probe) -> None:
    """Connections that say nothing, or not enough, are closed after the time for a handshake."""
    opened = [connect(node.grpc) for _ in range(50)]
    try:
        for number, one in enumerate(opened):
            one.sendall(b"PRI * HTTP/2.0\r\n"[: number % 17])
        began = time.monotonic()
        for one in opened:
            one.settimeout(HANDSHAKE_S + 3)
            try:
                while one.recv(1024):
                    pass
            except ConnectionError:
                continue
        assert time.monotonic() - began < HANDSHAKE_S + 2
    finally:
        for one in opened:
            one.close()


def test_rapid_reset(node: Node, probe: Probe, upstream: Upstream) -> None:
    """Calls that are begun and reset at once reach no upstream in their thousands, and pile up nowhere."""
    for _ in range(2):
        probe.begin_again()
        upstream.forget()
        before = upstream.stats()["requests_total"]
        with Attacker(node.grpc) as attacker:
            for number in range(RESETS):
                stream = attacker.call(node, good(ENDLESS))
                attacker.http2.reset_stream(stream, CANCEL)
                if number % 200 == 0:
                    attacker.read(0.001)
                if attacker.closed or attacker.gone is not None:
                    break
            attacker.flush()
        until(lambda: all(one["peer_left"] for one in upstream.log(ENDLESS)), 10)
        assert upstream.stats()["requests_total"] - before < RESETS


@pytest.mark.parametrize(
    ("kind", "payload"), [(6, b"12345678"), (4, b""), (4, b"\0\4\0\1\0\0" * 100), (8, b"\0\0\0\1")]
)
def test_control_frames_without_end(attacker: Attacker, probe: Probe, kind: int, payload: bytes) -> None:
    """Pings, settings and windows by the ten thousand: answered or cut off, and nothing else."""
    for _ in range(100):
        attacker.send(frame(kind, 0, 0, payload) * 100)
        attacker.socket.settimeout(0.001)
        try:
            attacker.socket.recv(1 << 20)
        except TimeoutError:
            pass
        except OSError:
            attacker.closed = True
        if attacker.closed:
            break
    if kind == 6:
        assert attacker.closed, "a flood of pings was taken"


def test_headers_without_end(node: Node, attacker: Attacker, probe: Probe) -> None:
    """A hundred megabytes of CONTINUATION, and a hundred thousand empty ones."""
    # What C allocates it gives back in pieces; a hundred megabytes that stayed would be seen all the same.
    probe.grown_bytes = 40 * MiB
    start = attacker.http2.encoder.encode([(":method", "POST"), (":scheme", "http"), (":path", PATHS[0])])
    header = b"\x00\x04x-ab" + bytes([100]) + b"v" * 100
    flood, empty = [frame(9, 0, 1, header * 150)] * 6_000, [frame(9, 0, 1, b"") * 100] * 1_000
    for pieces in (flood, empty, flood):
        probe.begin_again()
        with Attacker(node.grpc) as other:
            other.send(frame(1, 0, 1, start))
            for piece in pieces:
                other.send(piece)
                if other.closed:
                    break


def test_frames_that_break_the_rules(node: Node, probe: Probe) -> None:
    """Each ends its own connection, or is ignored; none ends anything else."""
    for broken in (
        frame(0, 0, 0, b"data on stream zero"),
        frame(0, 0, 1, b"data on no stream"),
        frame(1, 4, 2, b"\x82"),
        frame(1, 4, 1, b"\xff" * 1000),
        frame(1, 4, 1, b"\x82\xbf\xff\xff\xff\xff\xff\xff\xff\x7f"),
        frame(9, 4, 1, b"\x82"),
        frame(3, 0, 0, b"\0\0\0\0"),
        frame(4, 0, 1, b""),
        frame(4, 0, 0, b"odd"),
        frame(4, 0, 0, b"\0\5\0\0\0\1"),
        frame(5, 4, 1, b"\0\0\0\2\x82"),
        frame(6, 0, 0, b"short"),
        frame(8, 0, 0, b"\0\0\0\0"),
        frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
        frame(99, 255, 7, b"unknown"),
        b"\xff\xff\xff" + frame(0, 0, 1, b"")[3:],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        with Attacker(node.grpc) as opened:
            opened.send(broken * 3)
            for _ in range(2):
                opened.socket.settimeout(0.02)
                try:
                    if not opened.socket.recv(1 << 16):
                        break
                except OSError:
                    break


def test_thousands_of_open_streams(node: Node, probe: Probe, upstream: Upstream) -> None:
    """As many as one connection may have, none of them with a message: others are served, and nothing stays."""
    headers = [(":method", "POST"), (":scheme", "http"), (":path", PATHS[0]), (":authority", "a")]
    for _ in range(2):
        probe.begin_again()
        with Attacker(node.grpc) as attacker:
            for _ in range(3):
                attacker.read()
            allowed = attacker.http2.remote_settings.max_concurrent_streams
            assert allowed <= 1_000
            for _ in range(allowed):
                stream = attacker.http2.get_next_available_stream_id()
                attacker.http2.send_headers(
                    stream, [*headers, ("content-type", "application/grpc"), ("te", "trailers")]
                )
            attacker.flush()
        until(lambda: upstream.busy() <= 1, 10)


@pytest.mark.parametrize("path", PATHS)
def test_a_reader_without_a_window_is_let_go(node: Node, path: str, probe: Probe, upstream: Upstream) -> None:
    """One that asks and takes no byte loses its calls, their places and their upstreams, though it stays connected."""
    upstream.forget()
    with Attacker(node.grpc, window=0) as stalled:
        for _ in range(3):
            stalled.read()
        for _ in range(STALLED):
            stalled.call(node, good("sim:tokens=3000"), path=path)
        until(lambda: len(upstream.log("sim:tokens=3000")) == STALLED, 5)
        until(lambda: in_flight(node) < STALLED / 2, 6)
        until(lambda: in_flight(node) <= 1, 2)
        until(lambda: upstream.busy() <= 1, 2)
        stalled.read()
        assert not stalled.closed
        assert not stalled.received


def in_flight(node: Node) -> float:
    """How many calls the node counts as running, somebody else's short one included."""
    total = 0.0
    for internal in node.internal:
        with urllib.request.urlopen(f"{internal}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("tokendance_requests_in_flight{"):
                    total += float(line.rpartition(" ")[2])
    return total
