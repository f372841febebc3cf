"""The catalogue of two nodes on one PostgreSQL: what one is brought to, the other serves within a second."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

from tests.e2e.nodes import Process, await_file, stopping
from tests.e2e.operator_cli import tokendance
from tests.e2e.test_postgresql import Nodes
from tests.servers import PostgresServer

FILE = """\
providers:
  - {name: echo, kind: demo}
models:
  - {name: fast, aliases: [swift], routes: [{provider: echo, upstream_model: demo-echo}]}
"""


def _models(origin: str, key: str) -> dict[str, list[str]]:
    """The models that a caller of a node sees, with their aliases."""
    request = urllib.request.Request(f"{origin}/v1/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return {model["id"]: model.get("aliases", []) for model in json.load(response)["data"]}


def _serves_within_a_second(origin: str, key: str, served: dict[str, list[str]]) -> None:
    began = time.monotonic()
    while _models(origin, key) != served:
        assert time.monotonic() - began < 1
        time.sleep(0.01)


def test_what_is_applied_to_one_node_is_served_by_the_other(
    postgres_server: PostgresServer, redis_server: str, tmp_path: Path
) -> None:
    """Created, changed and pruned, without a restart; at once on the one that was asked."""
    processes: list[Process] = []
    with postgres_server.database() as url, stopping(processes):
        nodes = Nodes(tmp_path, url, processes)
        nodes.environment["TOKENDANCE_GATEWAY_SERVER__REDIS_URL"] = redis_server
        assert tokendance("migrate", "apply", **nodes.environment).returncode == 0
        mine, other = (nodes.serve(name)[1] for name in ("a", "b"))
        await_file(tmp_path / "key-a")
        key = (tmp_path / "key-a").read_text().strip()
        assert [*_models(other, key)] == ["demo-echo"]
        file = tmp_path / "gateway.yaml"
        steps = [
            (FILE, {"fast": ["swift"]}),
            (FILE.replace("swift", "quick"), {"fast": ["quick"]}),
            (FILE.replace("name: fast, ", "name: slow, ").replace("swift", "fast"), {"slow": ["fast"]}),
        ]
        for text, served in steps:
            file.write_text(text)
            arguments = ("apply", "-f", str(file), "--prune", "--yes")
            done = tokendance("--data-dir", str(tmp_path / "data-a"), *arguments)
            assert done.returncode == 0, done.stderr
            assert _models(mine, key) == served
            _serves_within_a_second(other, key, served)
        shown = tokendance("--data-dir", str(tmp_path / "data-b"), "diff", "-f", str(file))
        assert (shown.returncode, shown.stdout) == (0, "Nothing to change.\n")
