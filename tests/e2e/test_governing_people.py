"""Organizations, teams and members governed by the operator's commands on a running node, and erased for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.nodes import running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.test_organizations import _code


def test_an_operator_governs_people_by_commands(tmp_path: Path) -> None:
    """Made, changed under the version that was read, and stopped."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as node:

        def told(*words: str) -> Any:
            return documents(node.data_dir, *words)

        own = told("organizations", "create", "--display-name", "Labs", "--label", "tier=a")["name"]
        team = told("teams", "create", "--organization", own, "--display-name", "Core")
        words = ("members", "invite", "--organization", own, "--email", "admin@example.com")
        admin = told(*words, "--role", "admin", "--team", team["name"])
        assert (admin["roles"], admin["teams"]) == (["MEMBER_ROLE_ADMIN"], [team["name"]])
        changed = told("teams", "update", team["name"], "--description", "Builds")
        assert (changed["description"], changed["display_name"]) == ("Builds", "Core")
        lost = ("teams", "update", team["name"], "--description", "Lost", "--etag", team["etag"])
        refused = tokendance("--data-dir", str(node.data_dir), *lost)
        assert (refused.returncode, "changed since" in refused.stderr) == (1, True)
        policy = told("policies", "set", own, "--orphaned-keys", "revoke", "--self-approval")
        assert (policy["orphaned_keys"], policy["self_approval"]) == ("ORPHANED_KEYS_REVOKE", True)
        refused = tokendance("--data-dir", str(node.data_dir), "members", "suspend", admin["name"], "--reason", "x")
        assert (refused.returncode, "last administrator" in refused.stderr) == (1, True)


def test_an_erased_member_is_nobody_anywhere(tmp_path: Path) -> None:
    """Its key is refused at once, the trail is whole, and no file of the stopped node knows the address."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as node:
        words = ("members", "invite", "--email", "forget.me@example.com", "--display-name", "Forget Me")
        member = documents(node.data_dir, *words)["name"]
        _, secret = create_key(node.data_dir, "Reports", "--owner", member)
        assert _code(node.base_url, secret) == "ok"
        erase = ("members", "erase", member, "--reason", "request 17", "--yes")
        summary = documents(node.data_dir, *erase)
        assert (summary["members"], summary["keys"]) == ("1", "1")
        assert _code(node.base_url, secret) == "key_revoked"
        home = "/".join(member.split("/")[:2])
        assert documents(node.data_dir, "audit", "verify", "--organization", home)["valid"] is True
        assert "forget.me" not in tokendance("--data-dir", str(node.data_dir), "audit", "list").stdout
        data = node.data_dir
    files = [path for path in data.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert b"forget.me" not in content, path
        assert b"Forget Me" not in content, path
