"""Organizations, teams, members and policies governed by the operator's commands on a running node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.nodes import running
from tests.e2e.operator_cli import documents, tokendance


def test_an_operator_governs_people_by_commands(tmp_path: Path) -> None:
    """Made, changed under the version that was read, stopped and taken out; what destroys asks first."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as node:

        def told(*words: str) -> Any:
            return documents(node.data_dir, *words)

        def code(*words: str) -> tuple[int, str]:
            done = tokendance("--data-dir", str(node.data_dir), *words)
            return done.returncode, done.stderr

        made = told("organizations", "create", "--display-name", "Labs", "--label", "tier=a", "--request-id", "r1")
        assert (
            told("organizations", "create", "--display-name", "Labs", "--label", "tier=a", "--request-id", "r1") == made
        )
        own = made["name"]
        team = told("teams", "create", "--organization", own, "--display-name", "Core")
        team_id = team["name"].rpartition("/")[2]
        words = ("members", "invite", "--organization", own, "--email", "admin@example.com", "--role", "admin")
        admin = told(*words, "--team", team_id)
        assert (admin["roles"], admin["teams"]) == (["MEMBER_ROLE_ADMIN"], [team["name"]])
        member = told("members", "invite", "--organization", own, "--subject", "s-1")["name"]

        changed = told("teams", "update", team_id, "--description", "Builds", "--label", "a=b")
        assert (changed["description"], changed["display_name"]) == ("Builds", "Core")
        returned, error = code("teams", "update", team_id, "--description", "Lost", "--etag", team["etag"])
        assert (returned, "changed since" in error) == (1, True)
        assert told("teams", "show", team_id)["description"] == "Builds"

        policy = told("policies", "set", own, "--orphaned-keys", "revoke", "--self-approval", "--reveal-days", "2")
        assert (policy["orphaned_keys"], policy["self_approval"]) == ("ORPHANED_KEYS_REVOKE", True)
        policy = told("policies", "set", own, "--no-self-approval", "--clear", "reveal")
        assert (policy.get("self_approval"), policy.get("reveal_period")) == (None, None)
        assert told("policies", "show", own) == policy

        stopped = told("members", "suspend", member, "--reason", "away")
        assert (stopped["member"]["state"], stopped["changed_keys"]) == ("MEMBER_STATE_SUSPENDED", [])
        assert told("members", "resume", member)["state"] == "MEMBER_STATE_ACTIVE"
        returned, error = code("members", "remove", member, "--reason", "left")
        assert (returned, "--yes" in error) == (2, True)
        gone = told("members", "remove", member, "--reason", "left", "--yes")
        assert gone["member"]["state"] == "MEMBER_STATE_REMOVED"
        returned, error = code("members", "suspend", admin["name"], "--reason", "x")
        assert (returned, "last administrator" in error) == (1, True)

        told("members", "update", admin["name"], "--clear", "teams")
        assert code("teams", "delete", team_id, "--yes")[0] == 0
        assert code("teams", "show", team_id)[0] == 1
        suspended = told("organizations", "suspend", own, "--reason", "unpaid")
        assert suspended["state"] == "ORGANIZATION_STATE_SUSPENDED"
        assert told("organizations", "resume", own)["state"] == "ORGANIZATION_STATE_ACTIVE"
        actions = [json.dumps(one["action"]) for one in told("audit", "list", "--organization", own)]
        assert '"member.delete"' in actions
        assert '"policy.update"' in actions
