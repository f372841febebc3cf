"""The operator's commands on a node of the tests, run as an operator runs them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.nodes import TOKENDANCE, clean_environment


def tokendance(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [TOKENDANCE, *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def documents(data_dir: Path, *arguments: str) -> Any:
    """What a command on the node of a data directory prints as JSON."""
    done = tokendance("--data-dir", str(data_dir), "--format", "json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def create_key(data_dir: Path, purpose: str, *more: str) -> tuple[dict[str, Any], str]:
    """Make a key like the first one of the node; returns it and its secret."""
    first = documents(data_dir, "keys", "list")[-1]
    created = documents(
        data_dir,
        *("keys", "create", "--purpose", purpose, "--owner", first["owner"], "--team", first["team"]),
        *("--rotated-by", first["owner"], "--rotation-days", "30", "--inherit-quota", "team", *more),
    )
    return created["key"], created["secret"]
