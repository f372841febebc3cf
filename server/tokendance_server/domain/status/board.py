"""The state of now, as every node shows it: what all nodes counted, judged anew every few seconds.

Whoever watches is told each change; changes of one node are numbered, so that a watcher that was cut off can go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from tokendance.status_words import LEAST_REQUESTS, WINDOW_S, State
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.changes import Change
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.status.history import KEPT_DAYS, SETTLED, Day, History, MinuteRow, fold, slot_of
from tokendance_server.domain.status.incidents import Incident, Maintenance, NoticeStore
from tokendance_server.domain.status.store import StatusStore
from tokendance_server.domain.status.tally import Counts, Tally
from tokendance_server.domain.status.verdicts import WHOLE, WORKS, Notices, Verdict, judge

EVERY_S = 5.0
"""How often a node writes what it counted, and reads what the others did."""

_MINUTE = timedelta(minutes=1)
_KEPT_CHANGES = 1000
_FOLD_EVERY = timedelta(minutes=1)
# Where the database is gone for longer, the history has a gap; the memory of a node has none.
_MOST_MINUTES = 60


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model now. `success_permille` and `median_s` are None where there were too few requests to tell."""

    model: str
    verdict: Verdict
    since: datetime
    labels: tuple[str, ...] = ()
    success_permille: int | None = None
    median_s: float | None = None

    def differs(self, other: ModelView | None) -> bool:
        """Tell whether a watcher should hear of it; figures move all the time, and do not count."""
        return other is None or (self.verdict, self.labels) != (other.verdict, other.labels)


@dataclass(frozen=True, slots=True)
class Everything:
    """So much changed that watchers get all of it again."""


News = State | ModelView | Incident | Maintenance | Everything


@dataclass(frozen=True, slots=True)
class Numbered:
    """One change, in its place."""

    number: int
    time: datetime
    news: News


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything as of one moment. Incidents are those that are open, newest first; maintenance what runs or comes."""

    time: datetime
    whole: Verdict = WORKS
    whole_since: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    models: Mapping[str, ModelView] = field(default_factory=dict)
    incidents: Sequence[Incident] = ()
    maintenances: Sequence[Maintenance] = ()


class Board:
    """Holds the picture of one run of a node. Satisfies ChangeListener, for incidents and maintenance.

    `report` gets the error when the counts cannot be exchanged any more, and None when they can again.
    """

    def __init__(
        self,
        store: StatusStore,
        notices: NoticeStore,
        tally: Tally,
        serving: Callable[[], Serving],
        *,
        run_id: str,
        clock: Clock,
        report: Callable[[Exception | None], None],
        every_s: float = EVERY_S,
    ) -> None:
        self.run_id = run_id
        self._store = store
        self._notice_store = notices
        self._tally = tally
        self._serving = serving
        self._clock = clock
        self._report = report
        self._every_s = every_s
        self._mine: dict[datetime, dict[str, Counts]] = {}
        self._unwritten: set[datetime] = set()
        self._notices = Notices()
        self._history = History()
        # The usual times, and of which day and which reading they are: adding up a week takes a while.
        self._usual: tuple[tuple[date, datetime | None] | None, dict[str, float]] = (None, {})
        self._folded: datetime | None = None
        self._fold_at = clock.now()
        self._starts: dict[str, tuple[State, datetime]] = {}
        self._running: frozenset[str] = frozenset()
        self._catalogue_version = -1
        self._picture = Picture(clock.now())
        self._ring: deque[Numbered] = deque(maxlen=_KEPT_CHANGES)
        self._number = 0
        self._news = asyncio.Event()
        self._dismissed = False
        self._woken = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def picture(self) -> Picture:
        """Everything as of the last moment that it was judged."""
        return self._picture

    @property
    def number(self) -> int:
        """The number of the newest change; 0 before the first."""
        return self._number

    def days(self, model: str, count: int) -> Sequence[Day]:
        """Return so many days of a model, or of WHOLE, the oldest first."""
        return self._history.days(model, self._clock.now().date(), count)

    def news_after(self, number: int) -> list[Numbered] | None:
        """Return the changes behind a number; None where not all of them are kept, or there never was such a one."""
        if number > self._number or (self._number - number > len(self._ring)):
            return None
        return [one for one in self._ring if one.number > number]

    @property
    def dismissed(self) -> bool:
        """True once nobody may watch any more, because the node ends."""
        return self._dismissed

    def dismiss(self) -> None:
        """Let those who watch go."""
        self._dismissed = True
        self._news.set()

    async def wait(self, number: int, timeout_s: float) -> None:
        """Return once there is a change behind a number or nobody may watch, or after so many seconds."""
        if number < self._number or self._dismissed:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return

    def changed(self, change: Change) -> None:
        """Read incidents and maintenance again, soon."""
        self._woken.set()

    def everything_changed(self) -> None:
        """Read incidents and maintenance again, soon."""
        self._woken.set()

    def start(self) -> None:
        """Judge anew every few seconds until `close`."""
        self._task = asyncio.create_task(self._run(), name="status")

    async def close(self) -> None:
        """Write what was counted, and end; harmless where it never began."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        await self._step()

    async def refresh(self) -> None:
        """Exchange counts, judge, and tell. Raises what the stores raise; then the picture stays as it was."""
        async with self._refreshing:
            now = self._clock.now()
            self._collect(now)
            await self._write()
            self._woken.clear()
            first = min(now, self._folded or now) - timedelta(hours=1)
            self._notices = Notices(*await self._notice_store.in_force(first))
            rows = await self._store.minutes(_minute_of(now) - timedelta(seconds=WINDOW_S))
            if now >= self._fold_at:
                await self._fold(now)
            await self._judge(now, rows)

    async def _run(self) -> None:
        while True:
            await self._step()
            try:
                async with asyncio.timeout(self._every_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _step(self) -> None:
        try:
            await self.refresh()
        except Exception as exc:  # noqa: BLE001 - the last picture is shown with its time, and the next try may succeed
            if not self._failing:
                self._report(exc)
            self._failing = True
            # Not at once again because of what was not read.
            self._woken.clear()
            return
        if self._failing:
            self._report(None)
        self._failing = False

    def _collect(self, now: datetime) -> None:
        """Put what was counted since the last time under its minute; the row says also that this node runs."""
        minute, taken = _minute_of(now), self._tally.take()
        if taken or minute not in self._mine:
            self._unwritten.add(minute)
        sums = self._mine.setdefault(minute, {})
        for model, counts in taken.items():
            sums.setdefault(model, Counts()).add(counts)
        for old in sorted(self._mine)[:-_MOST_MINUTES]:
            del self._mine[old]
            self._unwritten.discard(old)

    async def _write(self) -> None:
        minutes = sorted(self._unwritten)
        await self._store.write_minutes([MinuteRow(minute, self.run_id, self._mine[minute]) for minute in minutes])
        self._unwritten.difference_update(minutes)
        for written in [minute for minute in self._mine if minute < self._clock.now() - 2 * _MINUTE]:
            del self._mine[written]

    async def _fold(self, now: datetime) -> None:
        until = slot_of(now - SETTLED)
        oldest = slot_of(now) - timedelta(days=KEPT_DAYS)
        usual = self._usual_s(now)
        models = [model.id for model in self._serving().catalog.models]

        def decide(start: datetime, rows: Sequence[MinuteRow]) -> Sequence[Day]:
            return fold(
                max(start, oldest),
                until,
                rows,
                lambda counted, time: judge(models, counted, usual, self._notices, time),
            )

        await self._store.fold(until, decide)
        folded = await self._store.folded_until()
        if folded != self._folded:
            today = now.date()
            since = today - timedelta(days=KEPT_DAYS if self._folded is None else 1)
            self._history.put(await self._store.days(since))
            self._history.forget(today - timedelta(days=KEPT_DAYS))
            self._folded = folded
        self._fold_at = now + _FOLD_EVERY

    def _usual_s(self, now: datetime) -> dict[str, float]:
        read = now.date(), self._folded
        if self._usual[0] != read:
            self._usual = read, self._history.usual_s(now.date())
        return self._usual[1]

    async def _judge(self, now: datetime, rows: Sequence[MinuteRow]) -> None:
        serving = self._serving()
        counted: dict[str, Counts] = {}
        for row in rows:
            for model, counts in row.counts.items():
                counted.setdefault(model, Counts()).add(counts)
        names = [model.id for model in serving.catalog.models]
        verdicts = judge(names, counted, self._usual_s(now), self._notices, now)
        await self._note_starts(verdicts, now)
        before = self._picture
        views = {
            model.id: _view(verdicts[model.id], self._starts[model.id][1], model, serving.labels, counted.get(model.id))
            for model in serving.catalog.models
        }
        running = frozenset(one.id for one in self._notices.maintenances if one.runs_at(now))
        self._picture = Picture(
            now,
            verdicts[WHOLE],
            self._starts[WHOLE][1],
            views,
            [one for one in self._notices.incidents if one.resolve_time is None],
            [one for one in self._notices.maintenances if not one.draft.cancelled and one.draft.end_time > now],
        )
        if self._catalogue_version != serving.catalog.version:
            # Who may see which model may have changed, too: everybody gets a new picture.
            self._catalogue_version = serving.catalog.version
            self._tell([Everything()], now)
        else:
            self._tell(self._differences(before, running), now)
        self._running = running

    async def _note_starts(self, verdicts: Mapping[str, Verdict], now: datetime) -> None:
        changed = {
            model: verdict.state
            for model, verdict in verdicts.items()
            if model not in self._starts or self._starts[model][0] is not verdict.state
        }
        if changed:
            starts = await self._store.begin(changed, now)
            self._starts |= {model: (state, starts[model]) for model, state in changed.items()}

    def _differences(self, before: Picture, running: frozenset[str]) -> Iterator[News]:
        now = self._picture
        known = {one.id: one.version for one in before.incidents}
        for incident in reversed(self._notices.incidents):
            is_new = incident.resolve_time is None and incident.id not in known
            if is_new or (incident.id in known and known[incident.id] != incident.version):
                yield incident
        versions = {one.id: one.version for one in before.maintenances}
        for work in self._notices.maintenances:
            is_new = work.id not in versions and work in now.maintenances
            turned = (work.id in running) != (work.id in self._running)
            if is_new or turned or (work.id in versions and versions[work.id] != work.version):
                yield work
        for model, view in now.models.items():
            if view.differs(before.models.get(model)):
                yield view
        if now.whole.state is not before.whole.state:
            yield now.whole.state

    def _tell(self, news: Iterator[News] | list[News], now: datetime) -> None:
        told = False
        for one in news:
            self._number += 1
            self._ring.append(Numbered(self._number, now, one))
            told = True
        if told:
            self._news.set()
            self._news = asyncio.Event()


def _view(
    verdict: Verdict, since: datetime, model: Model, labels: Mapping[str, str], counts: Counts | None
) -> ModelView:
    in_order = sorted(model.routes, key=lambda route: (route.priority, -route.weight))
    shown = tuple(dict.fromkeys(labels[route.provider] for route in in_order))
    if counts is None or counts.total < LEAST_REQUESTS:
        return ModelView(model.id, verdict, since, shown)
    permille = (counts.answered + counts.helped) * 1000 // counts.total
    streams = sum(counts.latencies.values())
    median = counts.median_s() if streams >= LEAST_REQUESTS else None
    return ModelView(model.id, verdict, since, shown, permille, median)


def _minute_of(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)
