"""Nodes on a PostgreSQL that they share: refused before it is migrated, one without Redis, two with it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.nodes import Process, await_file, clean_environment, free_ports, start, stopping, wait_ready
from tests.e2e.operator_cli import tokendance
from tests.servers import PostgresServer

PEPPER = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"


class Nodes:
    """Starts nodes on one database, each with a data directory of its own."""

    def __init__(self, folder: Path, url: str, processes: list[Process]) -> None:
        self._folder = folder
        self._processes = processes
        self.environment = clean_environment(
            TOKENDANCE_GATEWAY_SERVER__DATABASE_URL=url,
            TOKENDANCE_GATEWAY_SERVER__PEPPER="env:TOKENDANCE_GATEWAY_PEPPER",
            TOKENDANCE_GATEWAY_PEPPER=PEPPER,
        )

    def start(self, name: str, **more: str) -> tuple[Process, str, str]:
        """Start one; gives the process and the URLs of its REST and its internal listener."""
        http, internal = free_ports(2)
        arguments = ["serve", "--data-dir", f"data-{name}", "--grpc", "", "--key-file", f"key-{name}"]
        arguments += ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}"]
        process = start(f"node-{name}-{len(self._processes)}", arguments, self._folder, self.environment | more)
        self._processes.append(process)
        return process, f"http://127.0.0.1:{http}", f"http://127.0.0.1:{internal}"

    def serve(self, name: str, **more: str) -> tuple[Process, str]:
        """Start one and wait until it is ready; gives the process and the URL of its REST listener."""
        process, http, internal = self.start(name, **more)
        wait_ready(process, internal)
        return process, http

    def refusal(self, name: str, **more: str) -> str:
        """Start one that must not come up; gives what it says."""
        process, _, _ = self.start(name, **more)
        assert process.popen.wait(20) == 1, process.text
        assert "Traceback" not in process.text
        (line,) = process.text.splitlines()
        return line


@pytest.fixture
def nodes(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Nodes]:
    """An empty database, without a schema, and nodes for it."""
    processes: list[Process] = []
    with postgres_server.database() as url, stopping(processes):
        yield Nodes(tmp_path, url, processes)


def _models(origin: str, key: str) -> list[str]:
    request = urllib.request.Request(f"{origin}/v1/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return [model["id"] for model in json.load(response)["data"]]


def test_one_node_serves_a_database_without_redis(nodes: Nodes, tmp_path: Path) -> None:
    """After its operator migrated it. A second one is refused; a killed one is back at once on its own data."""
    assert "run `tokendance migrate apply`" in nodes.refusal("a")
    applied = tokendance("migrate", "apply", **nodes.environment)
    assert applied.returncode == 0, applied.stderr
    first, origin = nodes.serve("a")
    await_file(tmp_path / "key-a")
    key = (tmp_path / "key-a").read_text().strip()
    assert "demo-echo" in _models(origin, key)
    assert "without Redis one node serves a database" in nodes.refusal("b")
    status = json.loads(tokendance("migrate", "status", "--format", "json", **nodes.environment).stdout)
    assert [node["shared"] for node in status["nodes"]] == [False]
    first.popen.kill()
    first.popen.wait()
    again, origin = nodes.serve("a")
    assert "demo-echo" in _models(origin, key)
    assert again.stop() == 0
    status = json.loads(tokendance("migrate", "status", "--format", "json", **nodes.environment).stdout)
    assert status["nodes"] == []


def test_two_nodes_serve_a_database_with_redis(nodes: Nodes, tmp_path: Path, redis_server: str) -> None:
    """A key of one works on the other; a node with another pepper is refused before it refuses every key."""
    nodes.environment["TOKENDANCE_GATEWAY_SERVER__REDIS_URL"] = redis_server
    assert tokendance("migrate", "apply", **nodes.environment).returncode == 0
    first, _ = nodes.serve("a")
    await_file(tmp_path / "key-a")
    key = (tmp_path / "key-a").read_text().strip()
    second, origin = nodes.serve("b")
    assert "demo-echo" in _models(origin, key)
    assert not (tmp_path / "key-b").exists()
    assert "server.pepper" in nodes.refusal("c", TOKENDANCE_GATEWAY_PEPPER=PEPPER[::-1])
    with pytest.raises(urllib.error.HTTPError) as unknown:
        _models(origin, key[:-1])
    assert unknown.value.code == 401
    unknown.value.close()
    assert [first.stop(), second.stop()] == [0, 0]
    for process in (first, second):
        assert PEPPER not in process.text
        assert key not in process.text
