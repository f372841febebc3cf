"""Thresholds of limits: told once for each window, and only when reached."""

from __future__ import annotations

from tests.server.domain.meters import NOW, StatedLimits

from tokendance.gateway.v1 import quota_pb2
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import CONCURRENT, OUTPUT, REQUESTS, Standing, Used, row_of
from tokendance_server.domain.quota.limits import Limits, Subjects
from tokendance_server.domain.quota.reservations import Reservations
from tokendance_server.domain.quota.thresholds import Crossing, Thresholds, soft_warnings
from tokendance_server.domain.quota.windows import DAY, MINUTE
from tokendance_server.stores.memory_counters import MemoryCounters

SUBJECT = "organizations/o"


def standing(
    spent: int,
    *,
    window: int = 7,
    limit: int = 100,
    metric: quota_pb2.LimitMetric.ValueType = REQUESTS,
    of: quota_pb2.LimitWindow.ValueType = DAY,
    soft: bool = True,
    held: int = 0,
) -> Standing:
    """Return how a limit stands, by default a soft one of requests in a day."""
    rule = LimitRule(metric=metric, window=of, limit=limit, soft=soft)
    return Standing(row_of(SUBJECT, rule), window, spent, held)


def told(*standings: Standing) -> list[int]:
    """Return the thresholds told of standings, one call after the other."""
    crossings: list[Crossing] = []
    thresholds = Thresholds(crossings.append)
    for one in standings:
        thresholds.held([one])
    return [one.percent for one in crossings]


def test_each_threshold_is_told_once_for_a_window() -> None:
    """80 % and 100 % go out when they are reached, never before and never again."""
    assert told(standing(79)) == []
    assert told(standing(80), standing(81), standing(99)) == [80]
    assert told(standing(80), standing(100), standing(130)) == [80, 100]


def test_a_jump_over_both_tells_both() -> None:
    """One dear call may pass two thresholds."""
    assert told(standing(150)) == [80, 100]


def test_a_new_window_is_told_anew_and_an_old_one_is_not() -> None:
    """A call of yesterday that comes late says nothing new."""
    assert told(standing(80, window=7), standing(90, window=8), standing(95, window=7)) == [80, 80]


def test_a_changed_limit_is_told_anew() -> None:
    """Whoever raised a total limit is warned before the new one ends too."""
    assert told(standing(80), standing(800, limit=1000)) == [80, 80]


def test_a_minute_is_told_once_in_60_seconds() -> None:
    """Its buckets of 5 seconds are no windows of their own."""
    assert told(standing(80, window=24, of=MINUTE), standing(80, window=35, of=MINUTE)) == [80]
    assert told(standing(80, window=24, of=MINUTE), standing(80, window=36, of=MINUTE)) == [80, 80]


def test_calls_at_once_are_not_told() -> None:
    """They fill and empty all the time."""
    assert told(standing(100, metric=CONCURRENT)) == []


def test_what_a_call_used_counts_when_it_settles() -> None:
    """The last call before a threshold tells it, and does not leave it to the next."""
    crossings: list[Crossing] = []
    thresholds = Thresholds(crossings.append)
    before = standing(70, metric=OUTPUT)
    thresholds.settled([before], Used(output_tokens=9))
    assert crossings == []
    thresholds.settled([before], Used(output_tokens=10))
    assert crossings == [Crossing(before.row, 7, 80, 80)]


def test_only_soft_limits_near_their_end_are_warned_of() -> None:
    """A hard limit has headers of its own; what is held counts."""
    near = standing(70, held=10)
    assert soft_warnings([standing(79), near, standing(99, soft=False)]) == [near]


async def test_reservations_tell_at_the_end_of_the_call_that_reaches_a_threshold() -> None:
    """A call that is released reaches nothing, and a repeated settle tells nothing more."""
    crossings: list[Crossing] = []
    clock = ManualClock(NOW)
    limits = Limits(StatedLimits({SUBJECT: [LimitRule(metric=OUTPUT, window=DAY, limit=10, soft=True)]}))
    reservations = Reservations(
        limits, MemoryCounters(clock), clock, lambda error: None, thresholds=Thresholds(crossings.append)
    )
    subjects = Subjects("k", "m", "t", SUBJECT)
    released = await reservations.reserve(subjects, "m", identity="1", input_tokens=1, output_tokens=9)
    await released.release()
    assert crossings == []
    settled = await reservations.reserve(subjects, "m", identity="2", input_tokens=1, output_tokens=9)
    await settled.settle(Used(output_tokens=8))
    await settled.settle(Used(output_tokens=100))
    assert [(one.percent, one.spent) for one in crossings] == [(80, 8)]
    await reservations.reserve(subjects, "m", identity="3", input_tokens=1, output_tokens=1)
    assert len(crossings) == 1


def test_other_thresholds_can_be_watched_beside_those_of_always() -> None:
    """Those below what was told of a window are not told of it any more; without them all is as before."""
    crossings: list[Crossing] = []
    thresholds = Thresholds(crossings.append)
    thresholds.held([standing(85)])
    thresholds.watch(frozenset({50, 90}))
    thresholds.held([standing(95)])
    thresholds.held([standing(55, window=8)])
    thresholds.watch(frozenset())
    thresholds.held([standing(95, window=9)])
    assert [(one.window, one.percent) for one in crossings] == [(7, 80), (7, 90), (8, 50), (9, 80)]
