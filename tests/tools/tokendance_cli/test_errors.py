"""`tokendance errors`: the table as the schema has it."""

import json

import pytest
from tests.tools.tokendance_cli.conftest import Run

from tokendance.errors import table


def test_table_has_one_line_for_each_code(run: Run) -> None:
    """In a pipe every row stays on its line, whatever its length."""
    lines = run("errors").stdout.splitlines()
    assert lines[0].split() == ["CODE", "FAMILY", "HTTP", "GRPC", "RETRYABLE", "CHECK_FIRST"]
    assert [line.split()[0] for line in lines[1:]] == [spec.code for _, spec in table()]
    assert all(line.endswith(spec.check_first) for line, (_, spec) in zip(lines[1:], table(), strict=True))


@pytest.mark.parametrize("arguments", [["errors", "--format", "json"], ["--format", "json", "errors"]])
def test_json_holds_the_whole_table(run: Run, arguments: list[str]) -> None:
    """Programs get every row with its overrides; the option may stand before or behind the command."""
    rows = json.loads(run(*arguments).stdout)
    assert [row["code"] for row in rows] == [spec.code for _, spec in table()]
    budget = next(row for row in rows if row["code"] == "budget_exceeded")
    assert (budget["http_status"], budget["grpc_status"]) == (402, "RESOURCE_EXHAUSTED")


def test_one_code_is_explained(run: Run) -> None:
    """A code alone shows its row, in lines for people and as one object for programs."""
    told = run("errors", "model_not_found")
    assert "NOT_FOUND" in told.stdout
    assert "check first" in told.stdout
    assert json.loads(run("errors", "MODEL_NOT_FOUND", "--format", "json").stdout)["code"] == "model_not_found"


def test_unknown_code_is_wrong_usage(run: Run) -> None:
    """A code that is not in the table is told as such."""
    told = run("errors", "no_such_code")
    assert (told.returncode, told.stdout) == (2, "")
    assert "no_such_code" in told.stderr
