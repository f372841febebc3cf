"""The history of states: slots of five minutes, judged once they are over and added to their days. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from tokendance.status_words import USUAL_DAYS, State
from tokendance_server.domain.status.tally import Counts
from tokendance_server.domain.status.verdicts import WHOLE, Verdict

SLOT = timedelta(minutes=5)
"""What is judged at once: a state of the history lasted at least so long."""
SETTLED = timedelta(minutes=5)
"""How long a slot waits for the counts of every node after it is over."""
KEPT_DAYS = 90
DAY_S = 86_400


@dataclass(slots=True)
class Day:
    """One day of one model, or of WHOLE, in UTC, as far as it was judged. Durations are in seconds.

    `worst` is None where no slot was judged. What was not known is kept for WHOLE alone: it is the same for all.
    """

    model: str
    day: date
    worst: State | None = None
    degraded_s: int = 0
    outage_s: int = 0
    maintenance_s: int = 0
    unknown_s: int = 0
    counts: Counts = field(default_factory=Counts)

    def add(self, other: Day) -> None:
        """Add what was judged later."""
        self.degraded_s += other.degraded_s
        self.outage_s += other.outage_s
        self.maintenance_s += other.maintenance_s
        self.unknown_s += other.unknown_s
        self.counts.add(other.counts)
        if other.worst is not None and (self.worst is None or other.worst.severity > self.worst.severity):
            self.worst = other.worst

    def add_slot(self, state: State) -> None:
        """Add one slot in a state."""
        seconds = int(SLOT.total_seconds())
        if state is State.DEGRADED:
            self.degraded_s += seconds
        elif state is State.MAINTENANCE:
            self.maintenance_s += seconds
        elif state is not State.OPERATIONAL:
            self.outage_s += seconds
        if self.worst is None or state.severity > self.worst.severity:
            self.worst = state


@dataclass(frozen=True, slots=True)
class MinuteRow:
    """What one run of a node counted in one minute, by model. A row without counts says that the node ran."""

    minute: datetime
    run_id: str
    counts: Mapping[str, Counts]


Judge = Callable[[Mapping[str, Counts], datetime], Mapping[str, Verdict]]


def slot_of(time: datetime) -> datetime:
    """Return when the slot of a time began."""
    return datetime.fromtimestamp(time.timestamp() // SLOT.total_seconds() * SLOT.total_seconds(), UTC)


def fold(start: datetime, end: datetime, rows: Iterable[MinuteRow], judge: Judge) -> list[Day]:
    """Judge every slot from `start` to `end` (both begin one), and return what is to be added to their days.

    `judge` gets the counts of a slot and a time in it. A slot of which no node left a row is not known.
    """
    slots: dict[datetime, dict[str, Counts]] = {}
    for row in rows:
        sums = slots.setdefault(slot_of(row.minute), {})
        for model, counts in row.counts.items():
            sums.setdefault(model, Counts()).add(counts)
    days: dict[tuple[str, date], Day] = {}
    at = start
    while at < end:
        known = slots.get(at)
        day = at.date()
        if known is None:
            _day(days, WHOLE, day).unknown_s += int(SLOT.total_seconds())
        else:
            for model, verdict in judge(known, at + SLOT / 2).items():
                seen = known.get(model)
                # A model that works and is not called leaves no row.
                if model == WHOLE or seen is not None or verdict.state is not State.OPERATIONAL:
                    one = _day(days, model, day)
                    one.add_slot(verdict.state)
                    if seen is not None:
                        one.counts.add(seen)
        at += SLOT
    return list(days.values())


def _day(days: dict[tuple[str, date], Day], model: str, day: date) -> Day:
    return days.setdefault((model, day), Day(model, day))


class History:
    """The days that are kept, by model."""

    def __init__(self) -> None:
        self._days: dict[tuple[str, date], Day] = {}

    def put(self, days: Iterable[Day]) -> None:
        """Take days in place of what was known of them."""
        for day in days:
            self._days[day.model, day.day] = day

    def forget(self, before: date) -> None:
        """Forget the days before one."""
        self._days = {key: day for key, day in self._days.items() if day.day >= before}

    def days(self, model: str, today: date, count: int) -> Sequence[Day]:
        """Return so many days of a model up to today, the oldest first, each with how long nothing was known."""
        found = []
        for back in range(count - 1, -1, -1):
            day = today - timedelta(days=back)
            kept = self._days.get((model, day)) or Day(model, day)
            whole = self._days.get((WHOLE, day))
            # A day without a row of the whole was before the first start, or is too young to be judged.
            unknown = whole.unknown_s if whole is not None else 0 if not back else DAY_S
            worst = kept.worst or (whole.worst and State.OPERATIONAL if whole is not None else None)
            found.append(
                Day(model, day, worst, kept.degraded_s, kept.outage_s, kept.maintenance_s, unknown, kept.counts)
            )
        return found

    def usual_s(self, today: date) -> dict[str, float]:
        """Return the usual median time to the first byte of each model that has one, in seconds."""
        first = today - timedelta(days=USUAL_DAYS)
        sums: dict[str, Counts] = {}
        for (model, day), kept in self._days.items():
            if first <= day < today:
                sums.setdefault(model, Counts()).add(kept.counts)
        medians = {model: counts.median_s() for model, counts in sums.items()}
        return {model: median for model, median in medians.items() if median is not None}
