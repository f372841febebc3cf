"""Codex against a running node: tools that change files, second turns, and every error of its table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.codex import run_codex
from tests.e2e.codex_errors import CASES, MODELS, PAGE, Case, Keys, row_of
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import tokendance
from tests.e2e.upstream import Upstream

_WRITE = 'CALL exec_command {"cmd":"printf hi > hello.txt"}'
_PATCH = r'CALL apply_patch {"input":"*** Begin Patch\n*** Add File: hello.txt\n+hi\n*** End Patch\n"}'
_SCRIPT = '{"input":"const r = await tools.exec_command({cmd:\'printf hi > hello.txt\'}); text(r);"}'


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    with running(
        "one", tmp_path_factory.mktemp("codex"), upstream.base_url, ["sim-agent", "sim:first=3", *MODELS]
    ) as node:
        yield node


@pytest.fixture(scope="module")
def keys(house: Node) -> Keys:
    """The keys that fail."""
    return Keys(house)


@pytest.mark.parametrize(
    ("model", "prompt"),
    [
        pytest.param("sim-agent", _WRITE, id="chat"),
        pytest.param("responses/sim-agent", _WRITE, id="responses"),
        pytest.param("claude/sim-agent", _WRITE, id="messages"),
        # For models that it knows Codex declares other tools: custom ones, and ones in namespaces inside the input.
        pytest.param("gpt-5.5", _PATCH, id="chat, custom tool"),
        pytest.param("gpt-6-sol", f"CALL exec {_SCRIPT}", id="responses, tools in the input"),
        pytest.param("gpt-6-luna", f"CALL functions__exec {_SCRIPT}", id="chat, tools in the input"),
    ],
)
def test_a_tool_changes_a_file_and_a_second_turn_ends_it(house: Node, tmp_path: Path, model: str, prompt: str) -> None:
    """Whatever dialect the model's provider speaks, calls come back in the kind in which their tool was declared."""
    folder = tmp_path / "work"
    run = run_codex(house, folder, model, prompt)
    assert (run.exit_code, run.said) == (0, ["done"]), run
    assert (folder / "hello.txt").read_text().strip() == "hi"
    (usage,) = [event["usage"] for event in run.events if event["type"] == "turn.completed"]
    assert usage["input_tokens"] > 1000
    assert usage["output_tokens"] > 0


def test_reasoning_goes_back_to_the_provider_that_made_it(house: Node, upstream: Upstream, tmp_path: Path) -> None:
    """Sealed as it was, with the second turn."""
    upstream.forget()
    model = "fault:reasoning:base=sim-tools"
    run = run_codex(house, tmp_path / "work", f"responses/{model}", "Look around")
    assert run.exit_code == 0, run
    bodies = [json.loads(record["body"]) for record in upstream.log(model)]
    assert len(bodies) == 2
    assert all(body["store"] is False for body in bodies)
    (thought,) = [item for item in bodies[1]["input"] if item["type"] == "reasoning"]
    assert thought["encrypted_content"] == "sealed-by-the-simulator"


def test_silence_does_not_end_a_turn(house: Node, tmp_path: Path) -> None:
    """Codex counts only data as a sign of life, and here it would give up long before the model begins."""
    settings = "stream_idle_timeout_ms = 1000\nstream_max_retries = 0\n"
    run = run_codex(house, tmp_path / "work", "patient/sim:first=3", "Hello", settings=settings)
    assert run.exit_code == 0, run


def test_a_client_that_tries_a_websocket_turns_to_http(house: Node, tmp_path: Path) -> None:
    """At once, and without a word to its user."""
    began = time.monotonic()
    run = run_codex(house, tmp_path / "work", "sim-agent", "Hello", settings="supports_websockets = true\n")
    assert (run.exit_code, run.said) == (0, ["done"]), run
    assert time.monotonic() - began < 6
    assert "websocket_not_served" in house.text


def test_the_record_of_a_call_names_codex(house: Node, tmp_path: Path) -> None:
    """Client kind and version, from its User-Agent."""
    assert run_codex(house, tmp_path / "work", "sim-agent", "Hello").exit_code == 0
    done = tokendance("--data-dir", str(house.data_dir), "usage", "export")
    record = json.loads(done.stdout.splitlines()[0])
    assert (record["client_kind"], record["surface"]) == ("codex", "SURFACE_RESPONSES")
    assert record["client_version"].startswith("0.")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.what, marks=[pytest.mark.long] if case.repeats else []) for case in CASES],
)
def test_errors_end_as_the_page_says(house: Node, keys: Keys, tmp_path: Path, case: Case) -> None:
    """How many requests are sent, and what the person reads."""
    assert row_of(case, house, keys, tmp_path / "work") in PAGE.read_text().splitlines()


def test_the_page_tells_of_every_case() -> None:
    """And of no other."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [case.what for case in CASES]
