"""What a page costs a node: CPU time of its process, under load."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import psutil
import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.upstream import Upstream

MOST_MS = 5.0
ROUNDS = 300


@pytest.fixture(scope="module")
def node(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node in one process."""
    with running("one", tmp_path_factory.mktemp("site-cost"), upstream.base_url, ["sim", "sim-echo"]) as started:
        yield started


@pytest.mark.parametrize("path", ["/", "/status"])
def test_a_page_costs_a_node_at_most_five_milliseconds(node: Node, path: str) -> None:
    """Read again and again over one connection, as a proxy does; it is read anew behind it, every two seconds."""
    process = psutil.Process(node.processes[0].popen.pid)
    connection = http.client.HTTPConnection(node.origin.removeprefix("http://"), timeout=10)

    def read() -> int:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            assert answer.status == 200
            return len(answer.read())

    size = read()
    before = process.cpu_times()
    for _ in range(ROUNDS):
        read()
    after = process.cpu_times()
    connection.close()
    spent_ms = (after.user + after.system - before.user - before.system) / ROUNDS * 1000
    print(f"{path}: {spent_ms:.2f} ms of CPU for {size:,} bytes")
    assert spent_ms <= MOST_MS
