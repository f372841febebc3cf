"""`tokendance doctor` against real nodes of both topologies: all is well, and what a real gateway refuses."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from tests.e2e.nodes import TOKENDANCE, Node

from tokendance.credentials import base62, checksum


def _examine(node: Node, **changes: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [TOKENDANCE, "doctor", "--format", "json"],
        env=node.environment() | changes,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)["checks"]}


def test_a_caller_of_a_healthy_node_is_well(node: Node) -> None:
    """Every check passes, and the request ids are the gateway's."""
    exit_code, checks = _examine(node)
    assert exit_code == 0
    assert {one["state"] for one in checks.values()} == {"ok"}, checks
    assert checks["streaming"]["request_id"].startswith("req_")


def test_a_key_that_the_node_does_not_know_is_told(node: Node) -> None:
    """Its form is right, so only the gateway can tell."""
    body = "tdk_" + base62(0x1234567890ABCDEF, 43)
    exit_code, checks = _examine(node, TOKENDANCE_API_KEY=body + checksum(body))
    assert (exit_code, checks["credential"]["state"], checks["key"]["code"]) == (1, "ok", "invalid_api_key")


@pytest.mark.parametrize("which", ["grpc", "internal"])
def test_the_wrong_listener_is_recognised(node: Node, which: str) -> None:
    """Two doors of the same house that call no model over REST."""
    url = f"http://{node.grpc}" if which == "grpc" else node.internal[0]
    exit_code, checks = _examine(node, TOKENDANCE_BASE_URL=f"{url}/v1")
    assert exit_code == (3 if which == "grpc" else 2)
    told = checks["gateway"]
    assert ("gRPC" if which == "grpc" else "internal listener") in told["told"] + " ".join(told["do"])
    assert checks["key"]["state"] == "skipped"


def test_a_provider_that_is_gone_is_told_of_the_completion(node: Node) -> None:
    """The key and its models are well; the call is not, and has a request id for support."""
    exit_code, checks = _examine(node, TOKENDANCE_MODEL="refused")
    assert (exit_code, checks["models"]["state"]) == (1, "ok")
    assert checks["completion"]["code"] == "provider_unavailable"
    assert checks["completion"]["request_id"].startswith("req_")
