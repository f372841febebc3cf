"""What the end-to-end tests share: one simulated upstream and, one after the other, a node of each topology."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.fault_table import FAULTS, TOOL_FAULTS
from tests.e2e.nodes import PROVIDER_KEY, ROOT, Node, running
from tests.e2e.upstream import Upstream, running_upstream

MODELS = [
    "sim",
    "sim-echo",
    "sim-tools",
    "sim-tools-parallel",
    "sim-json",
    "sim-agent",
    "sim-embed",
    "sim:tokens=400",
    "sim:tokens=400:rate=20",
    "sim:tokens=3:rate=2",
    "sim:first=3",
    *(model for model in FAULTS if model.startswith("fault:")),
    *TOOL_FAULTS,
]
LOG_TAIL = 8000

# What callers see is held over TCP and certificates, too. What else a node does is the same as over the socket file.
TLS_MODULES = frozenset(
    {
        "test_crowd",
        "test_examples",
        "test_faults_elsewhere",
        "test_grpc",
        "test_leaving",
        "test_listeners",
        "test_nothing_left",
        "test_openai_node",
        "test_openai_python",
    }
)
TLS_FAULTS = frozenset(
    {"fault:status:code=503", "fault:reset", "fault:stall-after", "fault:cut", "fault:malformed-json:form=bad-utf8"}
    | {"refused", "nameless", "silent", "fault:status:retry-after=7", "fault:error-body", "fault:redirect"}
    | {"fault:huge-line", "fault:drip", "fault:error-event", "fault:split-utf8", "fault:usage-twice", "fault:crlf"}
)


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The simulator, in a process of its own."""
    with running_upstream() as simulator:
        yield simulator


@pytest.fixture(scope="session", params=["one", "split", "tls"])
def node(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Node]:
    """A node: all in one process, or facade and server in two, joined by a socket file or by TCP and certificates.

    It must end well and have told no secret.
    """
    folder = tmp_path_factory.mktemp(f"node-{request.param}")
    with running(request.param, folder, upstream.base_url, MODELS) as started:
        yield started
        exits = {process.name: process.stop() for process in started.processes}
        assert set(exits.values()) == {0}, f"{exits}\n{started.text[-LOG_TAIL:]}"
        assert secrets_told(started) == []


def secrets_told(node: Node) -> list[str]:
    """Where a key, the provider's credential or its words stand in the output or in the data directory."""
    secrets = (node.api_key, PROVIDER_KEY, "upstream-error-canary", "prompt-canary")
    told = [f"{secret} in the output of a process" for secret in secrets if secret in node.text]
    for path in node.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            told += [f"{secret} in {path}" for secret in secrets if secret.encode() in content]
    return told


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the long run what is no part of the sample for the node of TCP and certificates.

    The sample: some of the faults, and of the rest what callers see.
    """
    for item in items:
        if not _is_quick_enough(item):
            item.add_marker(pytest.mark.long)


def _is_quick_enough(item: pytest.Item) -> bool:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if parameters.get("node") != "tls":
        return True
    return item.path.stem in TLS_MODULES or parameters.get("model") in TLS_FAULTS


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the node wrote beside a test that failed."""
    report = yield
    node: Any = getattr(item, "funcargs", {}).get("node")
    if report.failed and isinstance(node, Node):
        report.sections.append(("node", node.text[-LOG_TAIL:]))
    return report


@pytest.fixture
def run_node_script(tmp_path: Path, node: Node) -> Any:
    """Runs a JavaScript file of this folder as a stranger's program; returns the JSON that it prints."""
    import json

    def run(name: str, *arguments: str) -> Any:
        script = ROOT / "tests" / "e2e" / "node" / name
        done = subprocess.run(
            ["node", script, *arguments],
            env=node.environment(),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
