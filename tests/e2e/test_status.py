"""The status of a node as it runs: read without a key, moved by failing calls, spoken over by its operator."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.nodes import TOKENDANCE, Node, clean_environment, running
from tests.e2e.operator_cli import documents, tokendance
from tests.e2e.upstream import Upstream

BROKEN = "fault:status:code=503"


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    with running("one", tmp_path_factory.mktemp("status"), upstream.base_url, ["sim", BROKEN]) as node:
        yield node


def get(node: Node, path: str, **headers: str) -> tuple[int, dict[str, Any], Any]:
    """Answer of a path of the public listener."""
    request = urllib.request.Request(f"{node.base_url}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.load(error)


def call(node: Node, model: str) -> int:
    """Status of a model call."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello."}]}).encode()
    headers = {"authorization": f"Bearer {node.api_key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{node.base_url}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def states(told: dict[str, Any]) -> dict[str, str]:
    """State of each model."""
    return {one["id"]: one["state"] for one in told["models"]}


def test_everybody_reads_what_works(house: Node) -> None:
    """Without a key and shareable; with a key for its holder alone; a wrong question is refused by its name."""
    status, headers, told = get(house, "/status?history_days=3")
    assert (status, headers["cache-control"], told["object"]) == (200, "public, max-age=5", "status")
    assert headers["x-request-id"].startswith("req_")
    assert states(told)["sim"] == "operational"
    assert [len(one["history"]) for one in (told, *told["models"])] == [3] * (1 + len(told["models"]))
    assert told["history"][0] | {"day": ""} == {
        "day": "", "worst_state": None, "degraded_s": 0, "outage_s": 0, "maintenance_s": 0, "unknown_s": 86_400
    }  # fmt: skip
    status, headers, own = get(house, "/status", authorization=f"Bearer {house.api_key}")
    assert (status, headers["cache-control"], "history" in own) == (200, "no-store", False)
    for query, param in (("history_days=91", "history_days"), ("days=1", "days")):
        status, _, refused = get(house, f"/status?{query}")
        assert (status, refused["error"]["param"]) == (400, param)


def test_failing_calls_and_an_operators_words_are_shown(house: Node) -> None:
    """The measured state of one model, the stated one of another, and everything again when it is over."""
    assert min(call(house, BROKEN) for _ in range(6)) >= 500
    made = documents(
        house.data_dir,
        *("incidents", "create", "--title", "Late answers", "--state", "degraded", "--model", "sim"),
        *("--message", "We look into it."),
    )
    _, _, told = get(house, "/status")
    assert (states(told)[BROKEN], states(told)["sim"]) == ("major_outage", "degraded")
    (shown,) = told["incidents"]
    assert (shown["name"], shown["models"], shown["resolved_at"]) == (made["name"], ["sim"], None)
    assert [one["message"] for one in shown["updates"]] == ["We look into it."]
    broken = next(one for one in told["models"] if one["id"] == BROKEN)
    assert (broken["success_rate"], broken["reason"], broken["providers"]) == (0.0, "Most requests fail.", ["sim"])

    environment = clean_environment()
    command = [str(TOKENDANCE), "--data-dir", str(house.data_dir), "--format", "json", "status", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert [one["name"] for one in first["snapshot"]["incidents"]] == [made["name"]]
        done = tokendance(
            *("--data-dir", str(house.data_dir), "incidents", "resolve", made["name"], "--message", "It is over.")
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(watching.stdout.readline())
        assert seen["change"]["incident"]["phase"] == "INCIDENT_PHASE_RESOLVED"
        watching.terminate()
    _, _, told = get(house, "/status")
    assert (states(told)["sim"], told["incidents"]) == ("operational", [])
    assert documents(house.data_dir, "incidents", "list", "--open") == []


def test_operator_sees_nodes_and_routes(house: Node) -> None:
    """One node that serves, with nothing left behind, and the routes of a model."""
    (node,) = documents(house.data_dir, "nodes")
    assert (node["state"], node["roles"]) == ("NODE_STATE_READY", ["NODE_ROLE_SERVER", "NODE_ROLE_FACADE"])
    assert int(node["resident_bytes"]) > 10_000_000
    (route,) = documents(house.data_dir, "routes", "--model", "sim")
    assert (route["provider"], route["upstream_model"]) == ("providers/sim", "sim")
    table = tokendance("--data-dir", str(house.data_dir), "nodes")
    assert "ready" in table.stdout, table.stderr


def test_maintenance_is_announced_and_cancelled(house: Node) -> None:
    """Until then everybody reads of it."""
    announced = documents(
        house.data_dir,
        *("maintenance", "announce", "--title", "Upgrade", "--begins", "2040-01-01T00:00Z"),
        *("--ends", "2040-01-01T01:00Z", "--description", "Answers come late."),
    )
    _, _, told = get(house, "/status")
    assert [(one["title"], one["description"]) for one in told["maintenances"]] == [("Upgrade", "Answers come late.")]
    folder = str(house.data_dir)
    assert tokendance("--data-dir", folder, "maintenance", "cancel", announced["name"]).returncode == 2
    moved = tokendance("--data-dir", folder, "maintenance", "move", announced["name"], "--ends", "2040-01-01T02:00Z")
    assert moved.returncode == 0, moved.stderr
    cancelled = tokendance("--data-dir", folder, "maintenance", "cancel", announced["name"], "--yes")
    assert cancelled.returncode == 0, cancelled.stderr
    assert get(house, "/status")[2]["maintenances"] == []
    assert documents(house.data_dir, "maintenance", "list", "--upcoming") == []


def test_status_is_shown_in_words(house: Node) -> None:
    """To the operator as a table; as everybody sees it over REST; and wrong usage says so."""
    shown = tokendance("--data-dir", str(house.data_dir), "status")
    assert shown.returncode == 0, shown.stderr
    assert "SUCCESS" not in shown.stdout
    assert "MODEL" in shown.stdout
    public = tokendance("status", "--base-url", house.base_url)
    assert public.returncode == 0, public.stderr
    assert "sim" in public.stdout
    own = tokendance("status", TOKENDANCE_BASE_URL=house.base_url, TOKENDANCE_API_KEY=house.api_key)
    assert own.stdout == public.stdout, own.stderr
    assert tokendance("--data-dir", str(house.data_dir), "incidents", "update", "incidents/x").returncode == 2
