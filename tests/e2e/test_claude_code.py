"""Claude Code through the gateway: a call that writes a file, and a turn that edits it, over both kinds of upstream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.e2e.claude_code import run_claude
from tests.e2e.nodes import Node
from tests.e2e.upstream import Upstream


@pytest.mark.parametrize("model", ["claude/sim-agent", "sim-agent"])
def test_an_agent_writes_and_edits_a_file(node: Node, upstream: Upstream, tmp_path: Path, model: str) -> None:
    """The model says what to call in streamed arguments; the agent does it, tells the result, and ends its turn."""
    upstream.forget()
    file = tmp_path / "work" / "hello.txt"
    write = json.dumps({"file_path": str(file), "content": "hi\n"})
    first = run_claude(tmp_path, node.origin, node.api_key, f"CALL Write {write}", "--model", model)
    assert (first.code, first.text, first.result["is_error"]) == (0, "done", False), first.errors
    assert file.read_text() == "hi\n"
    edit = json.dumps({"file_path": str(file), "old_string": "hi", "new_string": "bye"})
    second = run_claude(tmp_path, node.origin, node.api_key, f"CALL Edit {edit}", "--continue", "--model", model)
    assert (second.code, second.text) == (0, "done"), second.errors
    assert file.read_text() == "bye\n"
    records = upstream.log("sim-agent")
    assert [record["path"] for record in records] == [
        "/v1/messages" if model.startswith("claude/") else "/v1/chat/completions"
    ] * 4
    if model.startswith("claude/"):
        assert "claude-code-" in records[0]["headers"]["anthropic-beta"]
    assert "claude-code" in node.text


def test_a_bad_key_ends_the_turn_at_once(node: Node, tmp_path: Path) -> None:
    """Without a word of ours it would be asked again for minutes."""
    key = node.api_key[:-8] + ("A" * 8 if not node.api_key.endswith("A" * 8) else "B" * 8)
    run = run_claude(tmp_path, node.origin, key, "Hello", "--model", "claude/sim")
    assert run.code == 1
    assert "API Error: 401" in run.text
    assert run.result["duration_ms"] < 5000
