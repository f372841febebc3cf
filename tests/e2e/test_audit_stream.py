"""The trail on its way out of a running node: to a file, over a kill, with heads that show what was cut."""

from __future__ import annotations

import json
import sqlite3
import stat
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance

from tokendance.gateway.v1 import keys_service_pb2
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub

SETTINGS = {"SERVER__AUDIT__SINK": "file:audit.jsonl"}
_SOON_S = 10.0


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _wait_for(file: Path, purpose: str) -> list[dict[str, Any]]:
    """Return the lines once one tells of a key of this purpose."""
    end = time.monotonic() + _SOON_S
    found: list[dict[str, Any]] = []
    while time.monotonic() < end:
        found = _lines(file)
        if any(one.get("after", {}).get("purpose") == purpose for one in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing tells of {purpose}: {found}")


def _verify(node: Node, *words: str) -> Any:
    return tokendance("--data-dir", str(node.data_dir), "audit", "verify", *words)


def test_the_sink_goes_on_over_a_kill_and_shows_what_was_cut(tmp_path: Path) -> None:
    """Every event is in the file, privately; a chain whose tail is gone is named by a head in it."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", [], settings=SETTINGS) as node:
        file = node.data_dir / "audit.jsonl"
        create_key(node.data_dir, "before")
        _wait_for(file, "before")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        node.processes[0].popen.kill()
        node.processes[0].popen.wait()
    file.rename(tmp_path / "rotated.jsonl")
    with running("one", tmp_path, "http://127.0.0.1:9/v1", [], settings=SETTINGS) as node:
        create_key(node.data_dir, "after")
        _wait_for(file, "after")
        sent = [*_lines(tmp_path / "rotated.jsonl"), *_lines(file)]
        organization = documents(node.data_dir, "keys", "list")[0]["name"].split("/")[1]
        chain = [one for one in sent if one.get("name", "").startswith(f"organizations/{organization}/")]
        assert sorted({one["sequence"] for one in chain}) == [1, 2, 3]
        shown = documents(node.data_dir, "audit", "list", "--organization", organization)
        assert {one["sequence"]: one for one in chain} == {one["sequence"]: one for one in shown}

        public = tmp_path / "audit.pub"
        told = tokendance("audit", "key", "--data-dir", str(node.data_dir))
        public.write_text(told.stdout)
        assert (told.returncode, stat.S_IMODE((node.data_dir / "audit.pem").stat().st_mode)) == (0, 0o600)
        heads = ("--heads", str(tmp_path / "rotated.jsonl"), "--key", str(public))
        whole = _verify(node, *heads)
        assert (whole.returncode, "checked" in whole.stdout) == (0, True), whole.stdout + whole.stderr
        with sqlite3.connect(node.data_dir / "gateway.db") as database:
            database.execute("DELETE FROM audit_events WHERE organization_id = ?", [organization])
            database.execute("UPDATE audit_heads SET sequence = 0, digest = zeroblob(32)")
        assert _verify(node, "--organization", organization).returncode == 0
        cut = _verify(node, *heads)
        assert cut.returncode == 1
        assert "before the kept head" in cut.stdout
        stranger = tmp_path / "stranger.pub"
        stranger.write_text("no key")
        assert _verify(node, *heads, "--key", str(stranger)).returncode == 2
        assert _verify(node, "--heads", str(public)).returncode == 2


def test_sign_ins_and_refusals_are_told(tmp_path: Path) -> None:
    """Once for each token, however often it comes; a refused change as what it would have been."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as node:
        key, _ = create_key(node.data_dir, "Reports")
        organization = key["name"].split("/")[1]
        made = tokendance(
            "--data-dir", str(node.data_dir), "id", "token", "--role", "auditor", "--organization", organization
        )
        assert made.returncode == 0, made.stderr
        metadata = (("authorization", f"Bearer {made.stdout.strip()}"),)
        with grpc.insecure_channel(node.grpc) as channel:
            stub = KeysServiceStub(channel)
            for _ in range(3):
                stub.ListKeys(keys_service_pb2.ListKeysRequest(parent="organizations/-"), metadata=metadata)
                with pytest.raises(grpc.RpcError):
                    stub.RevokeKey(keys_service_pb2.RevokeKeyRequest(name=key["name"]), metadata=metadata)
        end = time.monotonic() + _SOON_S
        told: list[dict[str, Any]] = []
        while len(told) < 2 and time.monotonic() < end:
            found = documents(node.data_dir, "audit", "list", "--organization", organization)
            told = [one for one in found if one["actor"]["name"] != "local-operator" and one["action"] != "key.create"]
            time.sleep(0.05)
        refused, signed_in = told
        assert (signed_in["action"], signed_in["outcome"]) == ("session.create", "AUDIT_OUTCOME_DONE")
        assert (refused["action"], refused["outcome"]) == ("key.revoke", "AUDIT_OUTCOME_REFUSED")
        assert (refused["code"], refused["resource"]) == ("permission_denied", key["name"])
        assert refused["actor"]["address"] == "127.0.0.1"
        assert documents(node.data_dir, "audit", "verify", "--organization", organization)["valid"]
