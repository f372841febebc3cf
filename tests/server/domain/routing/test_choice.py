"""The choice among routes of one priority: weights share calls, and latency and load shift them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from tokendance_server.domain.routing.choice import choose


@dataclass
class Route:
    """Satisfies Candidate with what a test states."""

    weight: int = 1
    running: int = 0
    probes: bool = False
    seconds: float | None = None

    def latency(self, now: float, *, streamed: bool) -> float | None:
        return self.seconds


def shares(*routes: Route, calls: int = 4000) -> list[float]:
    """How calls are shared, with a die that is always the same."""
    die = random.Random(7).random
    counted = Counter(choose(routes, die, 0.0, streamed=False) for _ in range(calls))
    return [counted[place] / calls for place in range(len(routes))]


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (1, 2, 7)])
def test_equals_are_chosen_by_weight(weights: tuple[int, ...]) -> None:
    """As long as neither is faster or busier, whether or not anything is known of them."""
    for seconds in (None, 0.2):
        got = shares(*(Route(weight, seconds=seconds) for weight in weights))
        assert got == pytest.approx([weight / sum(weights) for weight in weights], abs=0.03)


def test_small_differences_of_latency_change_nothing() -> None:
    """A tenth is noise."""
    assert shares(Route(seconds=0.20), Route(seconds=0.22)) == pytest.approx([0.5, 0.5], abs=0.03)


def test_of_two_the_much_faster_one_is_taken() -> None:
    """Until it is so busy that it is no longer."""
    assert shares(Route(seconds=0.2), Route(seconds=1.0)) == [1, 0]
    assert shares(Route(seconds=0.2, running=9), Route(seconds=1.0)) == [0, 1]


def test_the_slowest_of_three_is_never_taken() -> None:
    """Two are drawn, and of two it always loses; the others share."""
    fast, fine, slow = shares(Route(seconds=0.2), Route(seconds=0.2), Route(seconds=5.0))
    assert slow == 0
    assert fast == pytest.approx(fine, abs=0.05)


def test_load_is_measured_by_weight() -> None:
    """Nine calls on a route of weight nine are as much as one on a route of weight one."""
    assert shares(Route(9, running=9), Route(1, running=1)) == pytest.approx([0.9, 0.1], abs=0.03)


def test_who_is_to_be_probed_comes_first() -> None:
    """Otherwise it would never be found to work again."""
    assert shares(Route(seconds=0.1), Route(seconds=9.0, probes=True)) == [0, 1]
