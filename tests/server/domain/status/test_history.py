"""Slots of five minutes, judged once and added to their days."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from tokendance.status_words import State
from tokendance_server.domain.status.history import DAY_S, SLOT, Day, History, MinuteRow, fold, slot_of
from tokendance_server.domain.status.tally import Counts
from tokendance_server.domain.status.verdicts import WHOLE, Notices, Verdict, judge

MIDNIGHT = datetime(2026, 6, 2, tzinfo=UTC)
TODAY = MIDNIGHT.date()
MINUTE = timedelta(minutes=1)


def judged(counted: Mapping[str, Counts], time: datetime) -> Mapping[str, Verdict]:
    """Judge the model `a` by traffic alone."""
    return judge(["a"], counted, {}, Notices(), time)


def row(minute: datetime, run: str = "run_1", **counts: Counts) -> MinuteRow:
    """What a node counted."""
    return MinuteRow(minute, run, counts)


def test_slots_go_to_their_days_and_sum_up_nodes() -> None:
    """Across midnight; two nodes are one; a slot without any node is not known."""
    start = MIDNIGHT - 2 * SLOT
    rows = [
        row(start, a=Counts(3)),
        row(start + SLOT, a=Counts(2, 0, 2)),
        row(start + SLOT + MINUTE, "run_2", a=Counts(0, 0, 2)),
        row(start + 3 * SLOT),
    ]
    days = {(day.model, day.day): day for day in fold(start, start + 4 * SLOT, rows, judged)}
    before, after = days["a", TODAY - timedelta(days=1)], days[WHOLE, TODAY]
    assert (before.worst, before.outage_s, before.counts.total) == (State.MAJOR_OUTAGE, 300, 9)
    assert (after.worst, after.unknown_s, after.outage_s) == (State.OPERATIONAL, 300, 0)
    # It works and nobody calls it: there is nothing to keep.
    assert ("a", TODAY) not in days


def test_nothing_is_judged_twice_or_left_out() -> None:
    """Two folds side by side give what one over both does."""
    start = MIDNIGHT
    rows = [row(start + number * MINUTE, a=Counts(number, 0, number)) for number in range(60)]
    middle, end = start + 6 * SLOT, start + 12 * SLOT
    (whole,) = [day for day in fold(start, end, rows, judged) if day.model == "a"]
    parts = [day for day in fold(start, middle, [one for one in rows if one.minute < middle], judged) if day.model]
    parts += [day for day in fold(middle, end, [one for one in rows if one.minute >= middle], judged) if day.model]
    total = Day("a", TODAY)
    for part in parts:
        total.add(part)
    assert (total.outage_s, total.worst, total.counts.document()) == (
        whole.outage_s,
        whole.worst,
        whole.counts.document(),
    )


def test_days_tell_what_is_not_known() -> None:
    """Before the first start nothing is known; a day without troubles of a model is as the whole says."""
    history = History()
    history.put(
        [Day(WHOLE, TODAY - timedelta(days=1), State.OPERATIONAL, unknown_s=600), Day("a", TODAY, State.DEGRADED)]
    )
    oldest, middle, today = history.days("b", TODAY, 3)
    assert (oldest.worst, oldest.unknown_s) == (None, DAY_S)
    assert (middle.worst, middle.unknown_s) == (State.OPERATIONAL, 600)
    assert (today.worst, today.unknown_s) == (None, 0)
    assert history.days("a", TODAY, 1)[0].worst is State.DEGRADED
    history.forget(TODAY)
    assert history.days(WHOLE, TODAY, 2)[0].worst is None


def test_usual_time_is_that_of_the_week_before_today() -> None:
    """Today's slowness is not compared with itself."""
    history = History()
    slow, quick = Counts(9, latencies={92: 9}), Counts(9, latencies={80: 9})
    for back, counts in ((0, slow), (1, quick), (8, slow)):
        history.put([Day("a", TODAY - timedelta(days=back), counts=counts)])
    assert history.usual_s(TODAY)["a"] == quick.median_s()
    assert slot_of(MIDNIGHT + 7 * MINUTE) == MIDNIGHT + SLOT
