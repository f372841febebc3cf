"""The commands `tokendance quota`: what they print, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.upstream import Upstream


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    with running("one", tmp_path_factory.mktemp("commands"), upstream.base_url, ["sim"]) as node:
        yield node


def quota(node: Node, *words: str) -> CompletedProcess[str]:
    """Run a command of `quota`."""
    return tokendance("--data-dir", str(node.data_dir), "quota", *words)


def test_limits_are_set_changed_shown_and_lifted(house: Node) -> None:
    """One of each kind, whichever else there are; money in dollars; a key by its id alone."""
    key = create_key(house.data_dir, "Limited")[0]
    identity = str(key["name"]).rpartition("/")[2]
    daily = ["--metric", "requests", "--window", "day"]
    assert quota(house, "set", identity, *daily, "--limit", "5").returncode == 0
    assert quota(house, "set", identity, "--metric", "cost", "--window", "month", "--limit", "2.50").returncode == 0
    changed = quota(house, "set", identity, *daily, "--limit", "7", "--reason", "More work")
    assert (changed.returncode, "requests/day=7" in changed.stdout, "=5" in changed.stdout) == (0, True, False)
    shown = quota(house, "show", identity)
    assert "cost/month=2.5" in shown.stdout
    (found,) = documents(house.data_dir, "quota", "show", identity)
    assert [int(one["rule"]["limit"]) for one in found["limits"]] == [2_500_000, 7]
    assert quota(house, "unset", identity, *daily).returncode == 0
    again = quota(house, "unset", identity, *daily)
    assert (again.returncode, "has no limit requests/day" in again.stderr) == (1, True)
    listed = documents(house.data_dir, "quota", "list")
    assert [one["subject"] for one in listed if one["limits"]] == [key["name"]]
    assert documents(house.data_dir, "quota", "list", "--used", "1") == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["set", "nobody", "--metric", "requests", "--window", "day", "--limit", "5"], 1),
        (["set", "org_01h455vb4pex5vsknk084sn02q", "--metric", "requests", "--window", "day", "--limit", "5"], 1),
        (["set", "org_01h455vb4pex5vsknk084sn02q", "--metric", "requests", "--window", "day", "--limit", "-5"], 2),
        (
            [
                "set",
                "org_01h455vb4pex5vsknk084sn02q",
                "--metric",
                "concurrent-requests",
                "--window",
                "day",
                "--limit",
                "1",
            ],
            2,
        ),
        (["show", "key_01h455vb4pex5vsknk084sn02q"], 1),
    ],
    ids=["no subject", "not there", "below nothing", "a window that it has not", "no such key"],
)
def test_what_cannot_be_is_one_sentence(house: Node, words: list[str], code: int) -> None:
    """On the standard error, with its exit code, and nothing else."""
    done = quota(house, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("tokendance: ")
    assert "Traceback" not in done.stderr
