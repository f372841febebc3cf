"""Claude Code as people run it without a terminal: its own folders, nothing but loopback, and what it said."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 50


@dataclass(frozen=True)
class Run:
    """One run: its exit code, the document that it printed, and what it wrote beside."""

    code: int
    result: dict[str, Any]
    errors: str

    @property
    def text(self) -> str:
        """What the person reads."""
        return str(self.result.get("result", ""))


def program() -> Path:
    """The program of this platform, which a package of its own brings; raises AssertionError where `npm ci` did not."""
    found = sorted((ROOT / "node_modules" / "@anthropic-ai").glob("claude-code-*/claude"))
    assert found, "Claude Code is not installed; run `npm ci`"
    return found[0]


def run_claude(folder: Path, origin: str, key: str, prompt: str, *arguments: str, **more: str) -> Run:
    """Run `claude -p` in `folder` against the gateway at `origin`, with Claude's own folders beside it."""
    home = folder / ".home"
    work = folder / "work"
    for one in (home, work):
        one.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "claude"),
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_BASE_URL": origin,
        "ANTHROPIC_AUTH_TOKEN": key,
        **more,
    }
    command = [str(program()), "-p", "--output-format", "json", "--allowedTools", "Write,Edit", *arguments, prompt]
    done = subprocess.run(
        command,
        env=environment,
        cwd=work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = {"result": done.stdout.strip()}
    return Run(done.returncode, result, done.stderr)
