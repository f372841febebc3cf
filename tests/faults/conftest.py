"""What the tests of attacks share: a node with short patience, and one upstream."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.upstream import Upstream, running_upstream
from tests.faults.probes import Probe

MODELS = ["sim", "sim-echo", "sim:tokens=400:rate=20", "sim:tokens=3000", "fault:huge-body:mb=3"]
MESSAGE_LIMIT_BYTES = 4 * 1024 * 1024
# What a node takes where nobody says another limit.
BODY_LIMIT_BYTES = 32 * 1024 * 1024

IMPATIENT = {
    "FACADE__HEAD_TIMEOUT_S": "1",
    "FACADE__BODY_IDLE_TIMEOUT_S": "1",
    "FACADE__BODY_TIMEOUT_S": "2",
    "FACADE__WRITE_TIMEOUT_S": "1",
    "FACADE__LINGER_S": "0.3",
    "SERVER__DEADLINES__WRITE_STALL_S": "1",
    "SERVER__LIMITS__GRPC_MESSAGE_BYTES": str(MESSAGE_LIMIT_BYTES),
}

# What is freed goes back to the system at once, so that what a process holds is what it uses.
TIDY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "65536"}


@pytest.fixture(scope="session")
def tidy() -> Iterator[None]:
    """Nodes that are started meanwhile keep no memory that they do not use."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in TIDY.items():
            environment.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The simulator, in a process of its own."""
    with running_upstream() as simulator:
        yield simulator


@pytest.fixture(scope="session")
def node(upstream: Upstream, tidy: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that has answered a few hundred calls, so that what it grows by afterwards is the attack's doing."""
    folder = tmp_path_factory.mktemp("attacked")
    with running("one", folder, upstream.base_url, MODELS, settings=IMPATIENT) as started:
        Probe(started).warm_up()
        yield started
        exits = {process.name: process.stop() for process in started.processes}
        assert set(exits.values()) == {0}, f"{exits}\n{started.text[-8000:]}"
        assert [line for line in started.text.splitlines() if "Traceback" in line] == []
        assert '"level":"error"' not in started.text


@pytest.fixture(scope="module")
def roomy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with the limits of bodies and messages that it has where nobody says others."""
    settings = {name: value for name, value in IMPATIENT.items() if "BYTES" not in name}
    settings |= {"FACADE__MAX_BODY_BYTES": str(BODY_LIMIT_BYTES), "FACADE__BODY_TIMEOUT_S": "30"}
    with running("one", tmp_path_factory.mktemp("roomy"), upstream.base_url, MODELS, settings=settings) as started:
        Probe(started).warm_up()
        yield started
        assert "Traceback" not in started.text, started.text[-8000:]
        assert '"level":"error"' not in started.text


@pytest.fixture
def probe(node: Node) -> Iterator[Probe]:
    """Watches the node during a test: it lives, answers others meanwhile, and is as large afterwards as before."""
    watching = Probe(node)
    with watching.unharmed():
        yield watching
