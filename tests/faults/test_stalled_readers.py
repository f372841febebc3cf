"""Callers over REST that stop reading: their streams are cut, and their upstreams cancelled, whoever serves them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.e2e.nodes import running
from tests.e2e.upstream import Upstream, until
from tests.faults.conftest import IMPATIENT
from tests.faults.probes import Probe
from tests.faults.wire import STREAMED, connect, head

BIG = "fault:huge-body:mb=25"
READERS = 6


@pytest.mark.parametrize("topology", ["one", "split"])
def test_stalled_streams_are_cut(topology: str, upstream: Upstream, tmp_path: Path) -> None:
    """With more to read than the buffers in between take, the caller's silence ends the call within seconds."""
    model = BIG
    settings = IMPATIENT | {"SERVER__LIMITS__UPSTREAM_ANSWER_BYTES": str(100 * 1024 * 1024)}
    with running(topology, tmp_path, upstream.base_url, ["sim-echo", model], settings=settings) as node:
        probe = Probe(node)
        probe.warm_up()
        probe.grown_bytes = 48 * 1024 * 1024
        body = STREAMED % model.encode()
        with probe.unharmed():
            upstream.forget()
            opened = [connect(node.origin, receive_bytes=4096) for _ in range(READERS)]
            for one in opened:
                one.sendall(head(node, f"Content-Length: {len(body)}") + body)
            until(lambda: len(upstream.log(model)) == READERS, 10)
            began = time.monotonic()
            until(lambda: all(record["peer_left"] for record in upstream.log(model)), 15)
            assert time.monotonic() - began < 10
            for one in opened:
                one.close()
