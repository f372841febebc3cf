"""The audit trail of a running node: what the operator does is told, checked and exported, and holds no secret."""

from __future__ import annotations

import base64
import json
import sqlite3
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance

from tokendance import Client
from tokendance.gateway.v1 import models_service_pb2 as models_pb

CANARY = 'canary-7b1f"+/=<&>'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node of this test alone."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as opened:
        yield opened


def _audit(node: Node, *words: str) -> Any:
    return documents(node.data_dir, "audit", *words)


def _organization(node: Node) -> str:
    name: str = documents(node.data_dir, "keys", "list")[0]["name"]
    return name.split("/")[1]


def test_the_life_of_a_key_is_told(node: Node) -> None:
    """Each step with actor, source, request and reason; a refused one not at all; what is read not either."""
    organization = _organization(node)
    key, _ = create_key(node.data_dir, "Reports")
    key_id = key["name"].rpartition("/")[2]
    for words in (
        ("update", key_id, "--purpose", "Other reports"),
        ("rotate", key_id),
        ("suspend", key_id, "--reason", "looks odd"),
        ("resume", key_id),
        ("revoke", key_id, "--reason", "leaked"),
    ):
        assert tokendance("--data-dir", str(node.data_dir), "keys", *words).returncode == 0
    assert tokendance("--data-dir", str(node.data_dir), "keys", "resume", key_id).returncode == 1
    documents(node.data_dir, "keys", "show", key_id)
    told = _audit(node, "list", "--resource", key["name"])[::-1]
    steps = ["create", "update", "rotate", "suspend", "resume", "revoke"]
    assert [one["action"] for one in told] == [f"key.{step}" for step in steps]
    assert [one.get("reason", "") for one in told] == ["", "", "", "looks odd", "", "leaked"]
    assert {(one["actor"]["name"], one["source"]) for one in told} == {("local-operator", "AUDIT_SOURCE_LOCAL")}
    assert len({one["request_id"] for one in told}) == len(steps)
    assert (told[1]["before"]["purpose"], told[1]["after"]["purpose"]) == ("Reports", "Other reports")
    assert told[-1]["after"]["state"] == "revoked"
    by_request = _audit(node, "list", "--request", told[2]["request_id"])
    assert by_request == [told[2]]
    # The first key was made by the gateway's first start, in the same chain.
    first = _audit(node, "list", "--organization", organization)[-1]
    assert (first["sequence"], first["action"], first["source"]) == (1, "key.create", "AUDIT_SOURCE_AUTOMATIC")


def test_no_secret_is_in_any_event(node: Node) -> None:
    """Neither those of keys nor what a provider is given, in no form in which they could be written."""
    marked = [create_key(node.data_dir, "Reports")[1], CANARY]
    key = documents(node.data_dir, "keys", "list")[0]["name"]
    marked.append(documents(node.data_dir, "keys", "rotate", key)["secret"])
    provider = models_pb.Provider(name="providers/p", kind="openai", base_url="https://example.com/v1")
    provider.extra_headers["x-upstream-key"] = CANARY
    with Client(f"unix:{node.data_dir / 'admin.sock'}", api_key="") as client:
        client.stubs.models.CreateProvider(models_pb.CreateProviderRequest(provider=provider))
        client.stubs.models.DeleteProvider(models_pb.DeleteProviderRequest(name="providers/p"))
    told = _audit(node, "list", "--platform")
    assert [one["action"] for one in told] == ["provider.delete", "provider.create"]
    assert told[0]["before"]["base_url"] == "https://example.com/v1"
    with sqlite3.connect(node.data_dir / "gateway.db") as database:
        kept = repr(
            [[*row] for table in ("events", "personal") for row in database.execute(f"SELECT * FROM audit_{table}")]
        )
    for secret in marked:
        forms = [
            secret,
            base64.b64encode(secret.encode()).decode(),
            urllib.parse.quote(secret),
            json.dumps(secret)[1:-1],
        ]
        assert not [form for form in forms if form in kept]


def test_verify_names_what_was_touched(node: Node) -> None:
    """A whole chain ends with 0; a row that somebody edits in the database ends with 1 and its place."""
    organization = _organization(node)
    for number in range(3):
        create_key(node.data_dir, f"Reports {number}")
    verdict = _audit(node, "verify", "--organization", organization)
    assert (verdict["valid"], verdict["checked_count"]) == (True, "4")
    assert _audit(node, "verify")["valid"]
    with sqlite3.connect(node.data_dir / "gateway.db") as database:
        database.execute("UPDATE audit_events SET actor = 'somebody' WHERE sequence = 3")
    broken = tokendance("--data-dir", str(node.data_dir), "audit", "verify", "--organization", organization)
    assert broken.returncode == 1
    assert "at place 3 was changed" in broken.stdout


def test_an_export_is_json_lines_and_an_event_itself(node: Node, tmp_path: Path) -> None:
    """All events up to its own, into a private new file; it goes on where it ended."""
    organization = _organization(node)
    create_key(node.data_dir, "Reports")
    file = tmp_path / "events.jsonl"
    words = ("--data-dir", str(node.data_dir), "audit", "export", "--organization", organization)
    assert tokendance(*words, "--output", str(file)).returncode == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["sequence"], one["action"]) for one in lines] == [
        (1, "key.create"),
        (2, "key.create"),
        (3, "audit.export"),
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert tokendance(*words, "--output", str(file)).returncode == 2
    more = tokendance(*words, "--after", "3", "--action", "audit.")
    rest = [json.loads(line) for line in more.stdout.splitlines()]
    assert rest[-1]["after"] == {"action": "audit.", "after_sequence": 3}
    assert f"ended at {rest[-1]['sequence']}" in more.stderr
