"""The ledger checker finds every way in which the books can be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dev.ledger_check import FAILED, SUCCEEDED, UNKNOWN, Asked, Attempt, Balance, Books, Row, Seen, check
from tokendance.gateway.v1 import usage_pb2

SEEN = [Seen("a", 200, True, (10, 5)), Seen("b", 0, False), Seen("c", 429, True)]
ASKED = [Asked("a", (10, 5)), Asked("b", (10, 9))]
ROWS = [
    Row("rec_a", "a", SUCCEEDED, (10, 5), 7, 1),
    Row("rec_b", "b", UNKNOWN, (12, 64), 9, 1),
    Row("rec_c", "c", usage_pb2.REQUEST_OUTCOME_REFUSED, (0, 0), 0, 0),
]
ATTEMPTS = [
    Attempt("rec_a", "a", SUCCEEDED, (10, 5), False, 7),
    Attempt("rec_b", "b", UNKNOWN, (12, 64), True, 9),
]
BOOKS = Books(ROWS, ATTEMPTS, [(3, 22, 69, 16)] * 2)
BALANCES = [Balance("requests", 2, 0), Balance("total_tokens", 91, 0), Balance("cost_micros", 16, 0)]


def faults(**changes: Any) -> list[str]:
    """What is found once something was changed."""
    books = replace(BOOKS, **{name: changes[name] for name in ("rows", "attempts", "sums") if name in changes})
    return check(changes.get("seen", SEEN), changes.get("asked", ASKED), books, changes.get("balances", BALANCES))


def test_books_that_agree() -> None:
    """Nothing is found; the numbers are those of the schema."""
    assert faults() == []
    assert SUCCEEDED == usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    assert FAILED == usage_pb2.REQUEST_OUTCOME_FAILED
    assert UNKNOWN == usage_pb2.REQUEST_OUTCOME_UNKNOWN
    # Opened in the journal, and killed before the upstream was called.
    assert faults(asked=ASKED[:1]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": [*ROWS, replace(ROWS[0])]},
        {"rows": ROWS[1:]},
        {"rows": [replace(ROWS[0], tokens=(10, 6)), *ROWS[1:]]},
        {"rows": [replace(ROWS[0], outcome=3), *ROWS[1:]]},
        {"rows": [replace(ROWS[0], attempts=2), *ROWS[1:]]},
        {"attempts": ATTEMPTS[:1]},
        {"attempts": [*ATTEMPTS, replace(ATTEMPTS[0])]},
        {"attempts": [replace(ATTEMPTS[0], tokens=(10, 4)), ATTEMPTS[1]]},
        {"attempts": [ATTEMPTS[0], replace(ATTEMPTS[1], estimated=False)]},
        {"attempts": [replace(ATTEMPTS[0], cost=8), ATTEMPTS[1]]},
        {"asked": [*ASKED, Asked("d", (1, 1))]},
        {"asked": [*ASKED, ASKED[0]]},
        {"seen": [*SEEN, Seen("e", 200, True, (1, 1))]},
        {"sums": [(3, 22, 69, 16), (4, 22, 69, 16)]},
        {"balances": [Balance("requests", 2, 1)]},
        {"balances": [Balance("requests", 3, 0)]},
    ],
    ids=[
        "a row twice", "a row lost", "an answer charged else than told", "an answer whose row failed",
        "an attempt's row lost by count", "an attempt lost", "an attempt twice", "the provider's word changed",
        "an unknown one not flagged", "a cost that does not add up", "an upstream call without a row",
        "an upstream call too many", "an answer without a row", "sums that count twice", "a hold that stays",
        "a limit that counts twice",
    ],
)  # fmt: skip
def test_each_fault_is_found(changes: dict[str, Any]) -> None:
    """Alone."""
    assert faults(**changes)
