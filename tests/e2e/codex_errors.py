"""What Codex does with each error of the gateway, as a table: `python -m tests.e2e.codex_errors` writes the page.

Codex is told to repeat failed requests and broken streams once each, and not four and five times as by default, so
that the table takes a minute: "repeats" in it means that it would go on.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from openai import OpenAI
from tests.e2e.codex import Run, calls_of, run_codex
from tests.e2e.nodes import ROOT, Node, running
from tests.e2e.operator_cli import create_key, tokendance
from tests.e2e.upstream import running_upstream

PAGE = ROOT / "docs" / "clients" / "agents-and-errors-codex.md"
_ONCE = "request_max_retries = 1\nstream_max_retries = 1\n"

_HEAD = """\
# Codex and the errors of the gateway

What `codex exec` does when a turn fails, and what the person reads. A test runs Codex against a gateway and simulated
models, writes this table, and fails where a later version behaves otherwise: do not edit it by hand
(`.venv/bin/python -m tests.e2e.codex_errors`).

"Requests" counts what reached the gateway, with `request_max_retries` and `stream_max_retries` both set to 1. One
request means that Codex takes the error as final; more mean that it repeats, by default up to four times before an
answer has begun, and up to five times where a stream breaks. It ends with exit code 1 each time.

| what went wrong | the gateway answers | requests | what the person reads |
|---|---|---|---|
"""
_TAIL = """
- A spent quota or budget is a 429 of the type `usage_limit_reached` here, not the 402 of chat completions: Codex shows
  when it resets, and does not repeat. How much is used comes with every answer, as `x-codex-primary-used-percent`.
- A key that is refused is repeated before Codex says so. Its message is ours.
- After a failure midway Codex sends the whole turn again. What had come is lost to the person.
"""


@dataclass(frozen=True)
class Case:
    """One way to fail: what it is called, what the gateway answers, and how it is brought about."""

    what: str
    answer: str
    model: str
    key: str = ""
    """Empty for the node's own; else `wrong`, `narrow` (it may call one model), `spent` or `spent-today`."""
    repeats: bool = False
    """Whether Codex tries again, which takes it longer."""


CASES = (
    Case("The key is not one of the gateway's", "401 `invalid_api_key`", "sim", "wrong", repeats=True),
    Case("The key may not call the model", "403 `model_not_found`", "sim-echo", "narrow"),
    Case("No model has this name", "404 `model_not_found`", "no-such-model"),
    Case("A quota is spent, for good", "429 `usage_limit_reached`", "sim", "spent"),
    Case("A quota is spent, until midnight", "429 `usage_limit_reached`, `resets_at`", "sim", "spent-today"),
    Case("The provider refuses the request", "400 `invalid_prompt`", "fault:status:code=400"),
    Case(
        "The conversation is too long for the model",
        "400 `context_length_exceeded`",
        "fault:status:code=400:reason=context_length_exceeded",
    ),
    Case(
        "The provider refuses by its content policy",
        "400 `invalid_prompt`",
        "fault:status:code=400:reason=content_filter",
    ),
    Case("The provider is at its own limit", "429 with Retry-After", "fault:status:retry-after=1", repeats=True),
    Case("The provider cannot be reached", "503 with Retry-After", "refused", repeats=True),
    Case("The provider fails", "502 `provider_error`", "fault:status:code=500", repeats=True),
    Case("The provider does not begin in time", "504 `provider_timeout`", "fault:stall", repeats=True),
    Case("The stream breaks midway", "`response.failed`, `server_error`", "fault:cut", repeats=True),
    Case("The provider fails midway", "`response.failed`, `server_error`", "fault:error-event", repeats=True),
    Case("The answer meets its cap", "`response.incomplete`, `max_output_tokens`", "fault:finish:reason=length"),
    Case(
        "The content policy ends the answer",
        "`response.incomplete`, `content_filter`",
        "fault:finish:reason=content_filter",
        repeats=True,
    ),
)
MODELS = sorted({case.model for case in CASES if case.model.startswith(("fault:", "sim"))})


class Keys:
    """The keys that fail, made once for a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._made: dict[str, str] = {"": node.api_key, "wrong": f"tdk_{'0' * 49}"}

    def __getitem__(self, name: str) -> str:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> str:
        more = ("--allow-model", "sim") if name == "narrow" else ()
        key, secret = create_key(self._node.data_dir, f"Codex and errors, {name}", *more)
        if name.startswith("spent"):
            words = ["quota", "set", str(key["name"]), "--metric", "requests", "--limit", "1"]
            window = ["--window", "day" if name == "spent-today" else "total"]
            done = tokendance("--data-dir", str(self._node.data_dir), *words, *window)
            assert done.returncode == 0, done.stderr
            with OpenAI(api_key=secret, base_url=self._node.base_url) as sdk:
                sdk.responses.create(model="sim", input="The one request that the limit lets through.")
        return secret


def row_of(case: Case, node: Node, keys: Keys, folder: Path) -> str:
    """Run Codex into an error; return the line of the table that tells what it did."""
    key = keys[case.key]
    before = calls_of(node)
    run = run_codex(node, folder, case.model, "Hello", key=key, settings=_ONCE)
    assert run.exit_code == 1, f"{case.what}: {run}"
    assert run.said == [] or run.failure, f"{case.what}: {run}"
    count = calls_of(node) - before
    assert (count > 1) is case.repeats, f"{case.what}: {count} requests"
    return f"| {case.what} | {case.answer} | {count} | {read_by_person(run)} |"


def read_by_person(run: Run) -> str:
    """The message of a failed turn, without what differs from run to run."""
    text = re.sub(r"req_[0-9a-z]{26}", "req_…", run.failure)
    text = re.sub(r"http://127\.0\.0\.1:\d+", "https://gateway.example.com", text)
    text = re.sub(r"organizations/\S+?(?=[ :,.])", "organizations/…", text)
    text = re.sub(r"\b\d{1,3}(?:,\d{3})* asked for", "… asked for", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "(the time)", text)
    text = re.sub(r"Try again at [^.]*(?:\.|$)", "Try again at (the time).", text)
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as place, running_upstream() as upstream:
        folder = Path(place)
        with running("one", folder, upstream.base_url, MODELS) as node:
            keys = Keys(node)
            rows = [row_of(case, node, keys, folder / f"work-{at}") for at, case in enumerate(CASES)]
    PAGE.write_text(_HEAD + "\n".join(rows) + "\n" + _TAIL)


if __name__ == "__main__":
    main()
