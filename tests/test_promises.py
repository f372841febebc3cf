"""Every promise of docs/promises.md stands on tests that are there and are not left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "promises.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str]]:
    """Return each promise with the cell that names its tests."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and cells != ["Promise", "Shown by"]:
            assert len(cells) == 2, line
            found.append((cells[0], cells[1]))
    return found


@cache
def declared_in(path: str) -> dict[str, list[str]]:
    """Return the tests of a file with the text of their marks; none where there is no such file."""
    file = ROOT / path
    if not file.exists():
        return {}
    return {
        node.name: [ast.unparse(mark) for mark in node.decorator_list]
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("promise", "shown_by"), rows())
def test_a_promise_stands_on_tests(promise: str, shown_by: str) -> None:
    """At least one, each of them there, and none of them skipped, expected to fail or left for the long run."""
    named = _TEST.findall(shown_by)
    assert named, f"{promise}: no test is named"
    assert re.sub(_TEST, "", shown_by).strip(" ,") == "", f"{promise}: {shown_by}"
    for path, name in named:
        marks = declared_in(path).get(name)
        assert marks is not None, f"{promise}: there is no {path}::{name}"
        assert not [mark for mark in marks if re.search(r"skip|xfail|mark\.long|mark\.bench", mark)], name


def test_no_promise_stands_there_twice() -> None:
    """Sections differ, promises too."""
    promises = [promise for promise, _ in rows()]
    assert len(promises) == len(set(promises))
    assert len(promises) > 60
