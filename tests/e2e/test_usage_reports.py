"""What was used, over REST with a key and by the operator's command: the numbers agree with what was asked."""

from __future__ import annotations

import csv
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.upstream import Upstream

ASKED = 3


def get(node: Node, secret: str, path: str) -> Any:
    """What a path answers a key's holder."""
    asked = urllib.request.Request(f"{node.base_url}{path}", headers={"authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.load(answer)


def chat(node: Node, secret: str, model: str, **more: Any) -> str:
    """Ask something; return the request id that the caller saw."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "A secret plan"}], **more}).encode()
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    asked = urllib.request.Request(f"{node.base_url}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return str(answer.headers["x-request-id"])
    except urllib.error.HTTPError as refused:
        with refused:
            return str(refused.headers["x-request-id"])


@pytest.fixture(scope="module")
def asked(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, str, list[str]]]:
    """Give a node, a key that asked three times and once in vain, and the request ids."""
    with running("one", tmp_path_factory.mktemp("usage"), upstream.base_url, ["sim"]) as node:
        _, secret = create_key(node.data_dir, "Asks")
        _, other = create_key(node.data_dir, "Asks as well")
        ids = [chat(node, secret, "sim", user=f"user {number % 2}") for number in range(ASKED)]
        ids.append(chat(node, secret, "no-such-model"))
        chat(node, other, "sim")
        yield node, secret, ids


def test_key_s_holder_reads_its_usage_over_rest(asked: tuple[Node, str, list[str]]) -> None:
    """Its own requests only, grouped and cut as asked; totals are the rows' sum."""
    node, secret, _ = asked
    report = get(node, secret, "/usage?by=model,outcome&by=day&since=1d")
    rows = {(row["model"], row["outcome"]): row for row in report["rows"]}
    assert {name: row["requests"] for name, row in rows.items()} == {("sim", "succeeded"): ASKED, ("", "refused"): 1}
    assert report["totals"]["requests"] == ASKED + 1
    assert report["totals"]["input_tokens"] == rows["sim", "succeeded"]["input_tokens"] > 0
    assert all(row["start_at"].endswith("T00:00:00Z") for row in report["rows"])
    users = get(node, secret, "/usage?by=user&since=1h")
    assert {row["user"]: row["requests"] for row in users["rows"]} == {"user 0": 2, "user 1": 1, "": 1}


@pytest.mark.parametrize(
    ("query", "param"),
    [("by=nothing", "by"), ("since=yesterday", "since"), ("page_size=x", "page_size"), ("sinse=1d", "sinse")],
)
def test_question_that_makes_no_sense_is_refused(asked: tuple[Node, str, list[str]], query: str, param: str) -> None:
    """With the parameter's name, and no answer that looks like one."""
    node, secret, _ = asked
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(node, secret, f"/usage?{query}")
    with refused.value as answer:
        error = json.load(answer)["error"]
    assert (answer.status, error["code"], error["param"]) == (400, "invalid_request", param)


def test_request_is_looked_up_over_rest(asked: tuple[Node, str, list[str]]) -> None:
    """Answered or refused; no prompt is in it and nothing of the provider, and what is not its own is not there."""
    node, secret, ids = asked
    found = get(node, secret, f"/requests/{ids[0]}")
    assert (found["id"], found["outcome"], found["status"], found["served_model"]) == (ids[0], "succeeded", 200, "sim")
    assert len(found["attempts"]) == 1
    assert "secret plan" not in json.dumps(found)
    assert not {"node", "address"} & set(found)
    assert not {"provider_name", "upstream_model", "upstream_request_id"} & set(found["attempts"][0])
    refused = get(node, secret, f"/requests/{ids[-1]}")
    assert (refused["outcome"], refused["code"], refused["attempts"]) == ("refused", "model_not_found", [])
    with pytest.raises(urllib.error.HTTPError) as hidden:
        get(node, secret, "/requests/req_01ARZ3NDEKTSV4RRFFQ69G5FAV")
    hidden.value.close()
    assert hidden.value.code == 404


def test_operator_sums_up_by_any_dimension(asked: tuple[Node, str, list[str]]) -> None:
    """As a table with a total, as JSON, as CSV."""
    node, _, _ = asked
    report = documents(node.data_dir, "usage", "--by", "key", "--since", "1d")
    assert [row["requests"] for row in report["rows"]] == [ASKED + 1, 1]
    assert all(row["key"].startswith("organizations/") for row in report["rows"])
    table = tokendance("--data-dir", str(node.data_dir), "usage", "--by", "model,day")
    assert table.returncode == 0, table.stderr
    assert table.stdout.splitlines()[-1].split()[:2] == ["total", str(ASKED + 2)]
    text = tokendance("--data-dir", str(node.data_dir), "usage", "--by", "code", "--format", "csv").stdout
    assert {row["code"]: row["requests"] for row in csv.DictReader(io.StringIO(text))} == {
        "": str(ASKED + 1),
        "model_not_found": "1",
    }
    wrong = tokendance("--data-dir", str(node.data_dir), "usage", "--by", "colour")
    assert (wrong.returncode, "label:NAME" in wrong.stderr) == (2, True)


def test_export_writes_every_request_once(asked: tuple[Node, str, list[str]], tmp_path: Path) -> None:
    """As lines of JSON in a file of one's own, never over another."""
    node, _, ids = asked
    path = tmp_path / "usage.jsonl"
    done = tokendance("--data-dir", str(node.data_dir), "usage", "export", "--output", str(path))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == ASKED + 2
    assert set(ids) <= {line["request_id"] for line in lines}
    assert path.stat().st_mode & 0o777 == 0o600
    again = tokendance("--data-dir", str(node.data_dir), "usage", "export", "--output", str(path))
    assert again.returncode == 2


def test_requests_show_speaks_to_people_and_to_support(asked: tuple[Node, str, list[str]]) -> None:
    """With the environment of a key's holder; support gets neither key nor prompt, and room for the task."""
    node, secret, ids = asked
    holder = {
        "TOKENDANCE_BASE_URL": node.base_url,
        "TOKENDANCE_API_KEY": secret,
        "TOKENDANCE_REQUEST_ID": ids[0],
    }
    shown = tokendance("requests", "show", **holder)
    assert shown.returncode == 0, shown.stderr
    assert ids[0] in shown.stdout
    support = tokendance("requests", "show", ids[-1], "--support", **holder)
    assert support.returncode == 0, support.stderr
    lines = support.stdout.splitlines()
    assert f"Request id: {ids[-1]}" in lines
    assert "Code: model_not_found" in lines
    assert "Status: 404" in lines
    assert lines[-1].rstrip() == "Task:"
    assert not any(word in support.stdout for word in (secret, "secret plan", "keys/", "user 0"))
    operator = documents(node.data_dir, "requests", "show", ids[0])
    assert operator["node"].startswith("nodes/")
    assert operator["attempts"][0]["provider_name"].startswith("providers/")
    nothing = tokendance("requests", "show", TOKENDANCE_API_KEY=secret, TOKENDANCE_BASE_URL=node.base_url)
    assert nothing.returncode == 2
