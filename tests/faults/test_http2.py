"""G5: what can be done with frames alone, while somebody else is served."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Self

import pytest
from tests.e2e.nodes import Node
from tests.e2e.upstream import Upstream, until
from tests.faults.frames import Attacker, frame
from tests.faults.probes import NOISE_BYTES, MiB, Probe
from tests.faults.test_grpc import PATHS, good
from tests.faults.wire import connect

WAVE = 100
# As many streams as one connection may have, and a few of others.
AT_ONCE = 1_010
# gRPC itself loses some for each call that is cancelled (grpc#43360).
LOST_BYTES = 400
FLOOD_S = 1.0
STALLED = 20
ENDLESS = "sim:tokens=400:rate=20"
HANDSHAKE_S = 3.0
NO_ERROR, CANCEL = 0, 8


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


class Watched:
    """How many calls the node counted as running, at most, while something went on."""

    def __init__(self, node: Node) -> None:
        self.most = 0.0
        self._node = node
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, in_flight(self._node))


def reset_at_once(attacker: Attacker, node: Node, count: int) -> None:
    """Calls that are reset with the next frame."""
    for number in range(count):
        attacker.http2.reset_stream(attacker.call(node, good(ENDLESS)), CANCEL)
        if number % 200 == 0:
            attacker.read(0.001)
    attacker.flush()


def reset_in_waves(attacker: Attacker, node: Node, count: int) -> None:
    """Calls that are reset as soon as some of them run."""
    for _ in range(count // WAVE):
        streams = [attacker.call(node, good(ENDLESS)) for _ in range(WAVE)]
        attacker.read(0.01)
        for stream in streams:
            if stream not in attacker.status and stream not in attacker.reset:
                attacker.http2.reset_stream(stream, CANCEL)
        attacker.flush()


@pytest.mark.parametrize("count", [3_000, pytest.param(20_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("attack", [reset_at_once, reset_in_waves])
def test_rapid_reset(
    node: Node,
    probe: Probe,
    upstream: Upstream,
    attack: Callable[[Attacker, Node, int], None],
    count: int,
) -> None:
    """Calls that are begun and reset run in bounded number while it goes on, and not at all afterwards.

    Others are answered in a fraction of a second meanwhile; of the calls nothing stays: no place, no upstream, no
    descriptor, and of memory no more than gRPC itself loses for each that is cancelled.
    """
    probe.grown_bytes = 2 * NOISE_BYTES + LOST_BYTES * count
    served = probe.served()
    for _ in range(3):
        probe.begin_again()
        upstream.forget()
        before = upstream.stats()["requests_total"]
        with Attacker(node.grpc) as attacker, Watched(node) as watched:
            attack(attacker, node, count)
        until(lambda: in_flight(node) <= 1, 5)
        until(lambda: all(one["peer_left"] for one in upstream.log(ENDLESS)), 10)
        assert watched.most <= AT_ONCE
        assert upstream.stats()["requests_total"] - before < count
    assert probe.served() > served + 3
    assert probe.others is not None
    assert probe.others.longest_s < 1.0


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        pytest.param(6, b"12345678", id="pings"),
        pytest.param(4, b"", id="empty settings"),
        pytest.param(4, b"\0\4\0\1\0\0" * 100, id="settings"),
        pytest.param(4, b"\0\1\0\0\0\0\0\1\0\1\0\0" * 50, id="settings of the table of headers"),
        pytest.param(8, b"\0\0\0\1", id="windows"),
        pytest.param(2, b"\0\0\0\0\0", id="priorities"),
        pytest.param(99, b"x" * 100, id="frames of no kind"),
    ],
)
def test_control_frames_without_end(attacker: Attacker, probe: Probe, kind: int, payload: bytes) -> None:
    """For a second: answered, ignored or cut off, while others are served in a fraction of that."""
    stream = 1 if kind == 2 else 0
    flood = frame(kind, 0, stream, payload) * 100
    until_s = time.monotonic() + FLOOD_S
    while time.monotonic() < until_s and not attacker.closed:
        attacker.send(flood)
        attacker.socket.settimeout(0.001)
        try:
            if not attacker.socket.recv(1 << 20):
                attacker.closed = True
        except TimeoutError:
            pass
        except OSError:
            attacker.closed = True
        attacker.socket.settimeout(5)
    if kind == 6:
        assert attacker.closed, "a flood of pings was taken"
    served = probe.served()
    until(lambda: probe.served() > served, 1)
    assert probe.others is not None
    assert probe.others.longest_s < 1.0


def test_a_client_that_does_not_read_is_not_answered_for_ever(node: Node, probe: Probe) -> None:
    """Settings and pings ask for an answer each: where nobody takes them, they do not pile up."""
    for kind, payload in ((4, b""), (6, b"12345678")) * 2:
        probe.begin_again()
        with Attacker(node.grpc) as attacker:
            flood = frame(kind, 0, 0, payload) * 1000
            attacker.socket.settimeout(0.5)
            for _ in range(2_000):
                attacker.send(flood)
                if attacker.closed:
                    break


def test_headers_without_end(node: Node, attacker: Attacker, probe: Probe) -> None:
    """A hundred megabytes of CONTINUATION, and a hundred thousand empty ones."""
    # What C allocates it gives back in pieces; a hundred megabytes that stayed would be seen all the same.
    probe.grown_bytes = 20 * MiB
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


def test_a_bomb_of_headers_is_not_unpacked(node: Node, probe: Probe) -> None:
    """Twenty kilobytes that stand for sixty-four megabytes, one byte for each time that one header is named again."""
    bomb = [("x", "v" * 4000)] * 16_000
    for _ in range(5):
        probe.begin_again()
        with Attacker(node.grpc) as attacker:
            stream = attacker.call(node, good("sim"), headers=bomb)
            assert attacker.status_of(stream) in ("8", "reset", "closed")
    assert probe.others is not None
    assert probe.others.longest_s < 1.0


def test_a_bomb_that_goes_on_is_cut_off(node: Node, probe: Probe) -> None:
    """The same with sixteen megabytes, which stand for sixty-four gigabytes."""
    # A literal that is kept in the table: from then on 0xbe stands for all of it.
    large = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"v" * 4000
    for _ in range(3):
        probe.begin_again()
        with Attacker(node.grpc) as attacker:
            start = attacker.http2.encoder.encode([(":method", "POST"), (":scheme", "http"), (":path", PATHS[0])])
            attacker.send(frame(1, 0, 1, start) + frame(9, 0, 1, large))
            for _ in range(1_000):
                attacker.send(frame(9, 0, 1, b"\xbe" * 16_000))
                if attacker.closed:
                    break
    assert probe.others is not None
    assert probe.others.longest_s < 1.0


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
