"""Limits that near their end: each threshold is told once for a limit and a window, and costs nothing until then."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokendance_server.domain.quota.claims import CONCURRENT, Row, Standing, Used
from tokendance_server.domain.quota.windows import BUCKET_S, MINUTE

PERCENTS = (80, 100)
"""The shares of a limit at which a warning goes out, in percent, ascending."""

_MOST_TOLD = 100_000
_BUCKETS_OF_A_MINUTE = 60 // BUCKET_S


class Crossing(NamedTuple):
    """A limit of which so much is spent that a threshold is reached, in the window with this id."""

    row: Row
    window: int
    percent: int
    spent: int


class Thresholds:
    """Tells crossings to `tell`, each once in this process. A minute's limit is told at most once in 60 seconds.

    Limits of calls at once are not watched: they fill and empty all the time, and have no window to be told once in.
    `percents` are ascending, 1 or more.
    """

    def __init__(self, tell: Callable[[Crossing], None], percents: Sequence[int] = PERCENTS) -> None:
        self._tell = tell
        self._always = tuple(percents)
        self._percents = self._always
        self._lowest = self._percents[0]
        # The window and the highest threshold told of it, by counter and limit: a changed limit is told anew.
        self._told: OrderedDict[tuple[str, int], tuple[int, int]] = OrderedDict()

    def watch(self, percents: frozenset[int]) -> None:
        """Tell these, too, each 1 or more; one below what was told of a window is not told of it any more."""
        self._percents = tuple(sorted(percents.union(self._always)))
        self._lowest = self._percents[0]

    def held(self, standings: Sequence[Standing]) -> None:
        """Look at how limits stood when a call began."""
        lowest = self._lowest
        for standing in standings:
            if standing.spent * 100 >= standing.row.rule.limit * lowest:
                self._reached(standing, standing.spent)

    def settled(self, standings: Sequence[Standing], used: Used) -> None:
        """Look at what a call added to limits that stood so when it began.

        What others added meanwhile is seen by the next call. Limits of a minute are left out: it may be over.
        """
        lowest = self._lowest
        for standing in standings:
            rule = standing.row.rule
            spent = standing.spent + used.of(rule.metric)
            if spent * 100 >= rule.limit * lowest and rule.window != MINUTE:
                self._reached(standing, spent)

    def _reached(self, standing: Standing, spent: int) -> None:
        rule = standing.row.rule
        if rule.metric == CONCURRENT:
            return
        window = standing.window // _BUCKETS_OF_A_MINUTE if rule.window == MINUTE else standing.window
        place = (standing.row.counter, rule.limit)
        told_window, told_percent = self._told.get(place, (window, 0))
        if window < told_window:
            return
        if window > told_window:
            told_percent = 0
        for percent in self._percents:
            if percent > told_percent and spent * 100 >= rule.limit * percent:
                told_percent = percent
                self._tell(Crossing(standing.row, standing.window, percent, spent))
        self._told[place] = (window, told_percent)
        self._told.move_to_end(place)
        if len(self._told) > _MOST_TOLD:
            self._told.popitem(last=False)


def soft_warnings(standings: Sequence[Standing], percent: int = PERCENTS[0]) -> list[Standing]:
    """Return the soft limits of which `percent` or more is spent or held, in the order given."""
    return [
        one for one in standings if one.row.rule.soft and (one.spent + one.held) * 100 >= one.row.rule.limit * percent
    ]
