"""Which of several routes of one priority a call takes: by weight, and of two by latency and load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

MUCH_BETTER = 1.25
"""Routes whose scores differ by less are equals: their weights decide."""


class Candidate(Protocol):
    """A route that may be taken now."""

    @property
    def weight(self) -> int:
        """Its share among equals, 1 or more."""

    @property
    def running(self) -> int:
        """The calls under way there."""

    @property
    def probes(self) -> bool:
        """True where a call would be the one probe of it."""

    def latency(self, now: float, *, streamed: bool) -> float | None:
        """The decaying mean of its latency in seconds; None where nothing is known."""


def choose(candidates: Sequence[Candidate], random: Callable[[], float], now: float, *, streamed: bool) -> int:
    """Return the place of the candidate to take: one to be probed, or else the better of two drawn by weight.

    `random` returns numbers from 0 up to but not including 1.
    """
    for place, one in enumerate(candidates):
        if one.probes:
            return place
    if len(candidates) == 1:
        return 0
    first = _draw(candidates, random, -1)
    second = _draw(candidates, random, first)
    known = candidates[first].latency(now, streamed=streamed), candidates[second].latency(now, streamed=streamed)
    mean = sum(one.weight for one in candidates) / len(candidates)
    here = _score(candidates[first], known[0], known[1], mean)
    there = _score(candidates[second], known[1], known[0], mean)
    return second if there * MUCH_BETTER < here else first


def _draw(candidates: Sequence[Candidate], random: Callable[[], float], without: int) -> int:
    weights = [0 if place == without else one.weight for place, one in enumerate(candidates)]
    drawn = random() * sum(weights)
    for place, reached in enumerate(accumulate(weights)):
        if drawn < reached:
            return place
    return max(place for place in range(len(weights)) if place != without)


def _score(one: Candidate, latency: float | None, other: float | None, mean_weight: float) -> float:
    """Return what a call costs there; the smaller the better. Who is not known is taken to be as fast as the other."""
    expected = latency if latency is not None else other if other is not None else 1.0
    # A route of twice the weight carries twice the load before it is as busy.
    load = 1.0 + one.running * mean_weight / one.weight
    return max(expected, 1e-6) * load
