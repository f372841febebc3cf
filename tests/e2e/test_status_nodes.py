"""The status of two nodes on one PostgreSQL: what is said or measured on one is shown by the other."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.e2e.nodes import Process, stopping
from tests.e2e.operator_cli import documents, tokendance
from tests.e2e.test_postgresql import Nodes
from tests.servers import PostgresServer


def _status(origin: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{origin}/v1/status", timeout=10) as response:
        told: dict[str, Any] = json.load(response)
        return told


def test_two_nodes_say_the_same(postgres_server: PostgresServer, redis_server: str, tmp_path: Path) -> None:
    """An incident within a second, and both in the list of nodes; one that is stopped well is in it no more."""
    processes: list[Process] = []
    with postgres_server.database() as url, stopping(processes):
        nodes = Nodes(tmp_path, url, processes)
        nodes.environment["TOKENDANCE_GATEWAY_SERVER__REDIS_URL"] = redis_server
        assert tokendance("migrate", "apply", **nodes.environment).returncode == 0
        mine, other = (nodes.serve(name)[1] for name in ("a", "b"))
        here = tmp_path / "data-a"
        made = documents(
            here,
            *("incidents", "create", "--title", "Late answers", "--state", "degraded", "--message", "We look into it."),
        )
        began = time.monotonic()
        assert [one["name"] for one in _status(mine)["incidents"]] == [made["name"]]
        while not _status(other)["incidents"]:
            assert time.monotonic() - began < 1
            time.sleep(0.01)
        told = [_status(origin) for origin in (mine, other)]
        for one in told:
            one.pop("time")
        assert told[0] == told[1]
        assert told[0]["state"] == "degraded"
        listed = documents(here, "nodes")
        assert [node["state"] for node in listed] == ["NODE_STATE_READY"] * 2
        assert {node["quota_store"] for node in listed} == {"shared"}
        assert processes[-1].stop() == 0
        assert len(documents(here, "nodes")) == 1
