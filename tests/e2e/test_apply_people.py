"""Organizations, teams, members and policies declared in a file, on a running node: shown, made, changed, audited."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import documents, tokendance

FILE = """
organizations:
  - display_name: Acme
    contact: platform@acme.example
    labels: {cost_center: "42"}
    teams:
      - {display_name: Search, description: Finds things}
      - {display_name: Ads}
    members:
      - {email: admin@acme.example, roles: [admin], teams: [Search]}
      - {subject: "oidc|7", display_name: Builder, teams: [Ads, Search]}
    policy:
      reveal_days: 2
      max_rotation_days: 90
      max_key_lifetime_days: 365
      orphaned_keys: reassign
      orphaned_keys_owner: admin@acme.example
      issuance_rules:
        - display_name: Trying things out
          teams: [Search]
          models: [demo-echo]
          quota_ceiling:
            - {metric: requests, window: day, limit: 100}
          max_key_lifetime_days: 30
          max_keys_per_member: 2
"""


class Desk:
    """A file, and the node that it is applied to."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._data = node.data_dir
        self.file = folder / "gateway.yaml"

    def __call__(self, command: str, text: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run `apply` or `diff` with a text."""
        self.file.write_text(text)
        yes = ("--yes",) if command == "apply" else ()
        return tokendance("--data-dir", str(self._data), command, "-f", str(self.file), *yes, *more)

    def list(self, *words: str) -> Any:
        """What a command lists."""
        return documents(self._data, *words)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A node of this test alone."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as node:
        yield Desk(node, tmp_path)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a plan says of whole entries."""
    return [line for line in done.stdout.splitlines() if line[:1] in "+~-"]


def test_a_file_makes_organizations_and_changes_them(desk: Desk) -> None:
    """Once; what the file leaves open stays; each change is told, made and audited."""
    made = desk("apply", FILE)
    assert made.returncode == 0, made.stderr
    assert lines(made) == [
        "+ organization Acme",
        "+ team Acme / Search",
        "+ team Acme / Ads",
        "+ member Acme / admin@acme.example",
        "+ member Acme / oidc|7",
        "+ policy Acme",
    ]
    assert desk("apply", FILE).stdout == "Nothing to change.\n"
    assert desk("diff", FILE).returncode == 0
    changed = FILE.replace("Finds things", "Finds everything").replace("reveal_days: 2", "reveal_days: 3")
    changed = changed.replace("roles: [admin], teams: [Search]", "roles: [admin, auditor], teams: []")
    shown = desk("diff", changed)
    assert shown.returncode == 1
    assert lines(shown) == ["~ team Acme / Search", "~ member Acme / admin@acme.example", "~ policy Acme"]
    assert "  ~ reveal_days: 2 -> 3" in shown.stdout
    assert "  - teams: [Search]" in shown.stdout
    assert desk("apply", changed).returncode == 0
    assert desk("diff", changed).returncode == 0


def test_prune_takes_teams_and_members_only(desk: Desk) -> None:
    """Never an organization, nor anything of one that the file does not name; without --prune nothing goes."""
    assert desk("apply", FILE).returncode == 0
    organizations = len(desk.list("organizations", "list"))
    less = FILE.replace("      - {display_name: Ads}\n", "").replace(
        '      - {subject: "oidc|7", display_name: Builder, teams: [Ads, Search]}\n', ""
    )
    kept = desk("apply", less)
    assert kept.returncode == 0
    assert "team Acme / Ads, member Acme / oidc|7" in kept.stderr
    pruned = desk("apply", less, "--prune")
    assert pruned.returncode == 0, pruned.stderr
    assert lines(pruned) == ["- member Acme / oidc|7", "- team Acme / Ads"]
    assert desk("apply", "organizations: []\n", "--prune").returncode == 0
    assert len(desk.list("organizations", "list")) == organizations


def test_mistakes_have_their_places(desk: Desk) -> None:
    """All at once, before anything is done, and what the node refuses too."""
    wrong = FILE.replace("teams: [Ads, Search]", "teams: [Adz]").replace("reveal_days", "reveal_day")
    told = desk("apply", wrong)
    assert told.returncode == 2
    assert f"{desk.file}:13:7: there is no key reveal_day; did you mean reveal_days?" in told.stderr
    told = desk("diff", FILE.replace("teams: [Ads, Search]", "teams: [Adz]"))
    assert told.returncode == 2
    assert f"{desk.file}:11:" in told.stderr
    assert "there is no team Adz in Acme" in told.stderr
    twice = FILE.replace('subject: "oidc|7"', "email: admin@acme.example")
    assert "the name admin@acme.example is taken in line 10" in desk("diff", twice).stderr
    assert "email or subject is missing" in desk("diff", FILE.replace('subject: "oidc|7", ', "")).stderr
    assert [one["display_name"] for one in desk.list("organizations", "list")].count("Acme") == 0
