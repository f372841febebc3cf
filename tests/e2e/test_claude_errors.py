"""Claude Code ends or repeats its turn as the page says, error by error, and the person reads what the page says."""

from __future__ import annotations

import pytest
from tests.e2e.claude_errors import CASES, PAGE, page_of, rows_of

SAMPLE = ("`invalid_api_key`", "`model_not_allowed`", "`quota_exceeded`", "`budget_exceeded`", "`provider_unavailable`")
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith(("| `", "| none"))]


def test_the_page_has_a_row_for_each_error_of_the_table() -> None:
    """In the order of the table; a new error is missing here until the page is written anew."""
    assert [row.split("|")[1].strip() for row in ROWS] == [case.what for case in CASES]


async def test_some_errors_are_as_the_page_says() -> None:
    """Those that people meet most."""
    cases = tuple(case for case in CASES if case.what in SAMPLE)
    assert await rows_of(cases) == [row for row in ROWS if row.split("|")[1].strip() in SAMPLE]


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_every_error_is_as_the_page_says() -> None:
    """The page as a whole is what Claude Code does."""
    assert page_of(await rows_of(CASES)) == PAGE.read_text()
