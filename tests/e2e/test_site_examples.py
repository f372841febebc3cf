"""The examples of the quickstart page, as the page has them: files that run unchanged against a node."""

from __future__ import annotations

import html
import json
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.e2e.nodes import ROOT, Node, running
from tests.e2e.programs import run_javascript, run_powershell, run_python, run_shell
from tests.e2e.upstream import Upstream

Run = Callable[[str, Mapping[str, str], Path], str]

FOLDER = ROOT / "facade" / "tokendance_facade" / "pages" / "examples"
RUN: dict[str, Run] = {"sh": run_shell, "ps1": run_powershell, "py": run_python, "mjs": run_javascript}
MODELS = {"plain": "sim", "stream": "sim", "tools": "sim-tools", "schema": "sim-json"}


@pytest.fixture(scope="module")
def node(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node in one process."""
    with running(
        "one", tmp_path_factory.mktemp("site-examples"), upstream.base_url, sorted(set(MODELS.values()))
    ) as started:
        yield started


def shown(language: str, variant: str, printed: str) -> None:
    """Check what an example printed: the answer in the form that its variant asks for."""
    if language in {"py", "mjs"}:
        assert printed.strip()
        if variant == "tools":
            assert printed.startswith("weather {")
            assert len(printed.strip().splitlines()) > 1
        return
    if variant == "stream":
        assert printed.rstrip().endswith("data: [DONE]")
        assert '"usage":{' in printed
        return
    choice = json.loads(printed)["choices"][0]
    if variant == "tools":
        (call,) = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
    elif variant == "schema":
        assert set(json.loads(choice["message"]["content"])) == {"city", "country"}
    else:
        assert choice["message"]["content"]


@pytest.mark.parametrize("variant", list(MODELS))
@pytest.mark.parametrize("language", list(RUN))
def test_an_example_runs_as_it_stands(node: Node, tmp_path: Path, language: str, variant: str) -> None:
    """Four languages, each plain, streamed, with a tool and with a JSON schema."""
    text = (FOLDER / f"{variant}.{language}").read_text()
    shown(language, variant, RUN[language](text, node.environment(MODELS[variant]), tmp_path))


@pytest.mark.parametrize("language", ["sh", "ps1"])
def test_the_first_request_lists_the_models_of_the_key(node: Node, tmp_path: Path, language: str) -> None:
    """It is read-only, and tells whether key, address and network are right."""
    text = (FOLDER / f"verify.{language}").read_text()
    models = json.loads(RUN[language](text, node.environment(), tmp_path))
    assert "sim" in [model["id"] for model in models["data"]]


def test_the_quickstart_has_every_example_as_its_file_has_it(node: Node) -> None:
    """What readers copy is what was run here; the base URL is this node's."""
    with urllib.request.urlopen(f"{node.origin}/", timeout=10) as answer:
        page = answer.read().decode()
    for name in [f"{variant}.{language}" for variant in MODELS for language in RUN] + ["verify.sh", "verify.ps1"]:
        variant, language = name.split(".")
        label = f"verify-{language}" if variant == "verify" else f"example-{variant}-{language}"
        found = re.search(rf'<code id="{label}">(.*?)</code>', page, re.DOTALL)
        assert found is not None, name
        text = html.unescape(re.sub(r"</?span[^>]*>", "", found[1]))
        assert text == (FOLDER / name).read_text().rstrip("\n")
    assert f'<code id="base-url">{node.base_url}</code>' in page
