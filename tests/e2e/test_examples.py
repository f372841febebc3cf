"""The examples of the public page, unchanged but for base URL, key and model, and those of the README."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.e2e.nodes import ROOT, Node
from tests.e2e.programs import run_javascript, run_powershell, run_python, run_shell, run_typescript

Run = Callable[[str, Mapping[str, str], Path], str]

PAGE = Path(__file__).with_name("examples")
PUBLIC_BASE_URL = "https://api.vectorcontrol.tech/v1"
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"<!-- example: ([\w-]+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str, node: Node) -> str:
    """An example of the public page, with the node's base URL and a model that it has."""
    text = (PAGE / f"{name}.txt").read_text()
    assert PUBLIC_BASE_URL in text
    return text.replace(PUBLIC_BASE_URL, node.base_url).replace("your-model", "demo-echo")


def readme(name: str, node: Node) -> str:
    """A block of the README, with the node's addresses where they are written out."""
    blocks = dict(BLOCK.findall(README))
    text: str = blocks[name]
    return text.replace("http://127.0.0.1:8080", node.origin).replace("127.0.0.1:50051", node.grpc)


def test_readme_marks_only_blocks_that_are_run_here() -> None:
    """A new example of the README needs a test; a mark without a block marks nothing."""
    marks = re.findall(r"<!-- example: ([\w-]+) -->", README)
    assert marks == [name for name, _ in BLOCK.findall(README)]
    assert set(marks) == {"curl", "powershell", "python", "node", "grpcurl"}


@pytest.mark.parametrize("source", [page, readme])
def test_curl(node: Node, tmp_path: Path, source: Callable[[str, Node], str]) -> None:
    """The curl line gets a chat completion from the demo, which says that it is one."""
    answer = json.loads(run_shell(source("curl", node), node.environment(), tmp_path))
    assert answer["object"] == "chat.completion"
    content = answer["choices"][0]["message"]["content"]
    assert "Hello" in content
    assert "demo" in content.lower()


@pytest.mark.parametrize("source", [page, readme])
def test_powershell(node: Node, tmp_path: Path, source: Callable[[str, Node], str]) -> None:
    """The line for curl.exe lists the models."""
    answer = json.loads(run_powershell(source("powershell", node), node.environment(), tmp_path))
    assert answer["object"] == "list"
    assert "demo-echo" in [model["id"] for model in answer["data"]]


@pytest.mark.parametrize(
    ("source", "name", "run"),
    [
        (page, "typescript", run_typescript),
        (page, "python", run_python),
        (readme, "python", run_python),
        (readme, "node", run_javascript),
    ],
)
def test_sdk(node: Node, tmp_path: Path, source: Callable[[str, Node], str], name: str, run: Run) -> None:
    """The snippet prints the demo's answer to its own words."""
    told = run(source(name, node), node.environment(), tmp_path)
    assert "Hello" in told
    assert "demo" in told.lower()


def test_first_start_environment_of_the_readme() -> None:
    """The README names the three variables that its examples read."""
    assert re.findall(r"^export (\w+)=", README, re.MULTILINE) == [
        "TOKENDANCE_API_KEY",
        "TOKENDANCE_BASE_URL",
        "TOKENDANCE_MODEL",
    ]
