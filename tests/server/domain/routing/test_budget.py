"""The budget of retries: never more than its share, and never none for a few calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokendance_server.domain.routing.budget import RetryBudget


def test_a_few_calls_may_all_be_tried_again() -> None:
    """The share of little is nothing, so the first ten are free in any ten seconds."""
    budget = RetryBudget()
    for _ in range(10):
        budget.called(0.0)
    assert [budget.take(1.0) for _ in range(11)] == [True] * 10 + [False]
    assert budget.refused == 1
    assert budget.take(21.0)


def test_of_many_calls_a_fifth_may_be_tried_again() -> None:
    """However many of them fail."""
    budget = RetryBudget()
    taken = 0
    for number in range(20_000):
        now = number / 1000
        budget.called(now)
        taken += budget.take(now)
    assert 0.15 * 20_000 <= taken <= 0.2 * 20_000 + 10


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50), st.integers(0, 50)), max_size=40))
def test_no_window_has_more_than_its_share(steps: list[tuple[float, int, int]]) -> None:
    """In any ten seconds: at most what the calls of twenty allow, however they come."""
    budget = RetryBudget()
    now = 0.0
    calls: list[float] = []
    retries: list[float] = []
    for wait, called, wanted in steps:
        now += wait
        for _ in range(called):
            budget.called(now)
            calls.append(now)
        retries += [now for _ in range(wanted) if budget.take(now)]
        recent = sum(one > now - 10 for one in retries)
        assert recent <= 2 * max(10, 0.2 * sum(one > now - 20 for one in calls)) + 1
