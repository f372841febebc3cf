"""A key from its creation to its end, by the operator's commands and a caller's HTTP requests on one running node."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node of this test alone; its models are the demo's."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as opened:
        yield opened


def _use(node: Node, secret: str) -> str:
    """Call the demo model; return `ok`, or the code of the refusal."""
    body = {"model": "demo-echo", "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        f"{node.base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            assert "hello" in response.read().decode()
            return "ok"
    except urllib.error.HTTPError as error:
        code: str = json.load(error)["error"]["code"]
        return code


def test_a_key_lives_from_creation_to_revocation(node: Node) -> None:
    """Made, used, updated, rotated with both secrets working, suspended, resumed, revoked: each step counts at once."""

    def keys(*words: str) -> Any:
        return documents(node.data_dir, "keys", *words)

    created, old = create_key(node.data_dir, "Nightly reports")
    key_id, owner = created["name"].rpartition("/")[2], created["owner"]
    assert _use(node, old) == "ok"

    updated = keys("update", key_id, "--purpose", "Weekly reports", "--allow-model", "other", "--label", "a=b")
    assert (updated["purpose"], updated["labels"], updated["owner"]) == ("Weekly reports", {"a": "b"}, owner)
    assert _use(node, old) == "model_not_allowed"
    stale = tokendance(
        *("--data-dir", str(node.data_dir), "keys", "update", key_id, "--clear", "labels"),
        *("--etag", created["etag"]),
    )
    assert stale.returncode == 1
    assert "version_conflict" in stale.stderr
    current = keys("update", key_id, "--clear", "models", "--etag", updated["etag"])
    assert "allowed_models" not in current
    assert _use(node, old) == "ok"

    rotated = keys("rotate", key_id, "--overlap", "3s", "--request-id", "once")
    rotated_at = time.monotonic()
    new = rotated["secret"]
    assert [_use(node, secret) for secret in (old, new)] == ["ok", "ok"]
    again = keys("rotate", key_id, "--overlap", "3s", "--request-id", "once")
    assert (again["secret"], again["key"]["etag"]) == ("", rotated["key"]["etag"])
    while time.monotonic() - rotated_at < 5 and _use(node, old) == "ok":
        time.sleep(0.05)
    assert [_use(node, secret) for secret in (old, new)] == ["key_expired", "ok"]

    assert keys("suspend", key_id, "--reason", "Odd traffic")["state"] == "KEY_STATE_SUSPENDED"
    assert _use(node, new) == "key_suspended"
    assert keys("resume", key_id)["state"] == "KEY_STATE_ACTIVE"
    assert _use(node, new) == "ok"

    assert keys("revoke", key_id, "--reason", "Leaked")["state"] == "KEY_STATE_REVOKED"
    assert _use(node, new) == "key_revoked"
    refused = tokendance("--data-dir", str(node.data_dir), "keys", "resume", key_id)
    assert refused.returncode == 1
    assert "failed_precondition" in refused.stderr
    assert [_use(node, node.api_key), keys("show", key_id)["state"]] == ["ok", "KEY_STATE_REVOKED"]
    for secret in (old, new):
        assert secret not in node.text


def test_a_leaked_key_is_rotated_at_once_and_its_trail_told(node: Node, tmp_path: Path) -> None:
    """The old secret stops, the new one works, and what was done is listed with what is left to do."""

    def keys(*words: str) -> Any:
        return documents(node.data_dir, "keys", *words)

    created, old = create_key(node.data_dir, "Nightly reports")
    rotated = keys("rotate", created["name"], "--overlap", "24h")
    assert [_use(node, secret) for secret in (old, rotated["secret"])] == ["ok", "ok"]
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "settings.py").write_text(f'KEY = "{old}"\n')
    scan = ("--data-dir", str(node.data_dir), "keys", "scan", str(tmp_path / "source"))
    found = tokendance(*scan)
    assert (found.returncode, "works" in found.stdout, old in found.stdout) == (1, True, False)
    told = keys("leaked", created["name"].rpartition("/")[2])
    codes = [_use(node, secret) for secret in (old, rotated["secret"], told["secret"])]
    assert codes == ["key_expired", "key_expired", "ok"]
    assert [event["action"] for event in told["events"]] == ["key.rotate", "key.rotate"]
    assert any("keys scan" in sentence for sentence in told["to_do"])
    assert tokendance(*scan).returncode == 0
    keys("revoke", created["name"])
    again = tokendance("--data-dir", str(node.data_dir), "keys", "leaked", created["name"])
    assert (again.returncode, "nothing to rotate" in again.stderr) == (0, True)
    assert "What is left to do:" in again.stdout


def test_a_used_key_says_when(node: Node) -> None:
    """To the minute, some seconds after the use, and after a stop at the latest."""
    created, secret = create_key(node.data_dir, "Reports")
    assert "last_used_time" not in documents(node.data_dir, "keys", "show", created["name"])
    assert _use(node, secret) == "ok"
    assert [process.stop() for process in node.processes] == [0]
    with sqlite3.connect(node.data_dir / "gateway.db") as database:
        query = "SELECT last_used_time FROM keys WHERE id = ?"
        (used,) = database.execute(query, (created["name"].rpartition("/")[2],)).fetchone()
    database.close()
    assert used.endswith(":00.000000")
