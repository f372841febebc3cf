"""Codex as a stranger's agent: a home of its own, this gateway as its only provider, and nobody at its input."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.nodes import ROOT, Node, clean_environment

PROGRAM = ROOT / "node_modules" / ".bin" / "codex"
TIMEOUT_S = 60

_CONFIG = """\
model = "{model}"
model_provider = "gateway"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.gateway]
name = "TokenDance Gateway"
base_url = "{base_url}"
env_key = "TOKENDANCE_API_KEY"
wire_api = "responses"
"""


@dataclass(frozen=True)
class Run:
    """What Codex did: its exit code, its events, and what it wrote for people."""

    exit_code: int
    events: list[dict[str, Any]]
    stderr: str

    @property
    def said(self) -> list[str]:
        """The messages of the model."""
        items = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item["text"] for item in items if item["type"] == "agent_message"]

    @property
    def failure(self) -> str:
        """What the person reads of a turn that failed; empty where none did."""
        failed = [event["error"]["message"] for event in self.events if event["type"] == "turn.failed"]
        return failed[-1] if failed else ""


def run_codex(node: Node, folder: Path, model: str, prompt: str, *, key: str = "", settings: str = "") -> Run:
    """Run one turn, and what follows from its tools, in `folder`, where it may write."""
    home = folder.parent / f"{folder.name}-home"
    home.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    config = _CONFIG.format(model=model, base_url=node.base_url) + settings
    (home / "config.toml").write_text(config)
    environment = clean_environment(
        HOME=str(home),
        CODEX_HOME=str(home),
        TOKENDANCE_API_KEY=key or node.api_key,
        # Whatever else it would call, it does not reach.
        HTTPS_PROXY="http://127.0.0.1:9",
        NO_PROXY="127.0.0.1",
    )
    done = subprocess.run(
        [PROGRAM, "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--json", prompt],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return Run(done.returncode, [json.loads(line) for line in lines], done.stderr)


def calls_of(node: Node, surface: str = "responses") -> int:
    """How many calls of a surface the node has logged so far."""
    return len(re.findall(rf'"surface":"{surface}"[^\n]*"event":"request"', node.text))
