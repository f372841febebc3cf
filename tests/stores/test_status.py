"""What nodes count, the states of now and the history, over every store; and two boards on one of them that agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.stores.conftest import _open

from tokendance.status_words import State
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import Model, ModelIndex, Route
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import GATEWAY
from tokendance_server.domain.status.board import Board, Everything, ModelView
from tokendance_server.domain.status.desk import Notices
from tokendance_server.domain.status.history import SLOT, Day, MinuteRow
from tokendance_server.domain.status.incidents import (
    Incident,
    IncidentDraft,
    Maintenance,
    MaintenanceDraft,
    NoticeStore,
    Phase,
)
from tokendance_server.domain.status.store import StatusStore
from tokendance_server.domain.status.tally import Counts, Tally
from tokendance_server.domain.status.verdicts import WHOLE
from tokendance_server.stores.memory_status import MemoryNoticeStore, MemoryStatusStore
from tokendance_server.stores.sql.incidents import SqlNoticeStore
from tokendance_server.stores.sql.status import SqlStatusStore

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
MODELS = (
    Model("a", (Route("p", "up"), Route("q", "up", priority=1))),
    Model("b", (Route("p", "up"),)),
)
Stores = tuple[StatusStore, NoticeStore]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Each pair of stores in turn, empty."""
    if request.param == "memory":
        yield MemoryStatusStore(), MemoryNoticeStore()
        return
    database = await _open(request.param, request, tmp_path)
    yield SqlStatusStore(database), SqlNoticeStore(database)
    await database.close()


class House:
    """One node: its counters, its board and its desk, over the stores that it shares with others."""

    def __init__(self, stores: Stores, clock: ManualClock, run_id: str = "run_1") -> None:
        self.clock = clock
        self.tally = Tally(lambda name: None)
        self.serving = Serving(ModelIndex(MODELS), labels={"p": "Provider P", "q": "Provider Q"})
        self.failures: list[Exception | None] = []
        self.board = Board(
            stores[0],
            stores[1],
            self.tally,
            lambda: self.serving,
            run_id=run_id,
            clock=clock,
            report=self.failures.append,
        )
        self.desk = Notices(
            stores[1], self.serving.catalog.has, PageTokens(bytes(32)), clock, changed=self.board.refresh
        )

    def count(self, model: str, answered: int = 0, failed: int = 0) -> None:
        """Let requests end."""
        self.tally._counts.setdefault(model, Counts()).add(Counts(answered, 0, failed))

    def states(self) -> list[State]:
        """The states of a, b and the whole."""
        picture = self.board.picture
        return [picture.models["a"].verdict.state, picture.models["b"].verdict.state, picture.whole.state]

    async def open(self, *models: str, state: State = State.DEGRADED) -> Incident:
        """Open an incident. Ids are in the order of milliseconds, and no finer."""
        await asyncio.sleep(0.002)
        return await self.desk.open_incident(GATEWAY, IncidentDraft("Slow", state, models=models), "We look into it.")


async def test_rows_are_written_again_without_harm(stores: Stores) -> None:
    """A row takes the place of the one before of the same run and minute; runs do not mix."""
    store, _ = stores
    for counts in (Counts(1), Counts(2, 1, 3, {4: 5})):
        await store.write_minutes([MinuteRow(NOON, "run_1", {"a": counts})])
    await store.write_minutes([MinuteRow(NOON, "run_2", {}), MinuteRow(NOON - MINUTE, "run_1", {"b": Counts(1)})])
    rows = {(row.minute, row.run_id): row.counts for row in await store.minutes(NOON)}
    assert rows.keys() == {(NOON, "run_1"), (NOON, "run_2")}
    assert rows[NOON, "run_1"]["a"].document() == [2, 1, 3, {"4": 5}]


async def test_state_begins_once(stores: Stores) -> None:
    """Whoever notes it later learns since when it holds."""
    store, _ = stores
    first = await store.begin({"a": State.DEGRADED, WHOLE: State.OPERATIONAL}, NOON)
    again = await store.begin({"a": State.DEGRADED, WHOLE: State.DEGRADED}, NOON + MINUTE)
    assert (first["a"], again["a"], again[WHOLE]) == (NOON, NOON, NOON + MINUTE)


async def test_history_is_folded_once(stores: Stores) -> None:
    """The first fold notes the time; what was folded is not asked for again, and days add up."""
    store, _ = stores
    asked: list[tuple[datetime, list[datetime]]] = []

    def decide(start: datetime, rows: Sequence[MinuteRow]) -> list[Day]:
        asked.append((start, sorted(row.minute for row in rows)))
        return [Day("a", NOON.date(), State.DEGRADED, degraded_s=300, counts=Counts(1))]

    assert await store.fold(NOON, decide)
    assert not asked
    await store.write_minutes([MinuteRow(NOON + number * MINUTE, "run_1", {}) for number in range(-2, 12)])
    for end in (NOON, NOON + SLOT, NOON + SLOT, NOON + 2 * SLOT):
        await store.fold(end, decide)
    assert [start for start, _ in asked] == [NOON, NOON + SLOT]
    assert [len(minutes) for _, minutes in asked] == [5, 5]
    (day,) = await store.days(NOON.date())
    assert (day.degraded_s, day.worst, day.counts.answered) == (600, State.DEGRADED, 2)
    assert await store.days(NOON.date() + timedelta(days=1)) == []
    assert await store.folded_until() == NOON + 2 * SLOT


async def test_two_nodes_show_the_same(stores: Stores) -> None:
    """What each counted alone is too little to tell; the sum says it on both, and they agree since when."""
    clock = ManualClock(NOON)
    one, other = House(stores, clock), House(stores, clock, "run_2")
    for house in (one, other):
        house.count("a", failed=3)
        await house.board.refresh()
    await one.board.refresh()
    assert one.states() == other.states() == [State.MAJOR_OUTAGE, State.OPERATIONAL, State.MAJOR_OUTAGE]
    clock.advance(5)
    await one.board.refresh()
    await other.board.refresh()
    assert one.board.picture.models == other.board.picture.models
    view = one.board.picture.models["a"]
    assert (view.labels, view.success_permille) == (("Provider P", "Provider Q"), 0)
    clock.advance(400)
    await one.board.refresh()
    assert one.states() == [State.OPERATIONAL] * 3


async def test_incident_counts_at_once_and_then_elsewhere(stores: Stores) -> None:
    """The node that wrote it shows it when the call returns, others when they read again; watchers hear of it."""
    clock = ManualClock(NOON)
    one, other = House(stores, clock), House(stores, clock, "run_2")
    for house in (one, other):
        await house.board.refresh()
    assert isinstance(one.board.news_after(0)[0].news, Everything)  # type: ignore[index]
    at = other.board.number
    made = await one.open("a")
    assert one.states()[0] is State.DEGRADED
    assert other.states()[0] is State.OPERATIONAL
    await other.board.refresh()
    assert other.board.picture.models["a"].verdict.incident == made.id
    news = [numbered.news for numbered in other.board.news_after(at) or []]
    assert [type(each) for each in news] == [Incident, ModelView]
    await one.desk.update_incident(
        GATEWAY,
        made.name,
        IncidentDraft("", State.DEGRADED, Phase.RESOLVED),
        frozenset({"phase"}),
        message="It is over.",
    )
    assert one.states() == [State.OPERATIONAL] * 3
    assert one.board.picture.incidents == []


async def test_maintenance_begins_and_ends_by_itself(stores: Stores) -> None:
    """Watchers are told when it was announced, when it begins, and when it is over."""
    clock = ManualClock(NOON)
    house = House(stores, clock)
    await house.board.refresh()
    draft = MaintenanceDraft("Upgrade", NOON + MINUTE, NOON + 2 * MINUTE, models=("b",))
    await house.desk.announce(GATEWAY, draft)
    seen = []
    for _ in range(3):
        seen.append(house.states()[1])
        clock.advance(60)
        await house.board.refresh()
    assert seen == [State.OPERATIONAL, State.MAINTENANCE, State.OPERATIONAL]
    news = [one.news for one in house.board.news_after(0) or []]
    assert sum(isinstance(one, Maintenance) for one in news) == 3


async def test_history_comes_from_counts_and_from_words(stores: Stores) -> None:
    """An hour of an incident and a slot of failures are in the day; a time without a node is not known."""
    clock = ManualClock(NOON)
    house = House(stores, clock)
    await house.board.refresh()
    made = await house.open("b")
    house.count("a", answered=2, failed=8)
    for _ in range(4):
        clock.advance(300)
        await house.board.refresh()
    await house.desk.update_incident(
        GATEWAY, made.name, IncidentDraft("", State.DEGRADED, Phase.RESOLVED), frozenset({"phase"})
    )
    clock.advance(HOUR.total_seconds())
    await house.board.refresh()
    (a,), (b,), (whole,) = (house.board.days(model, 1) for model in ("a", "b", WHOLE))
    assert (a.outage_s, a.worst, a.degraded_s) == (300, State.MAJOR_OUTAGE, 0)
    assert (b.outage_s, b.worst) == (0, State.DEGRADED)
    assert 900 <= b.degraded_s <= 1200
    assert whole.unknown_s == b.unknown_s >= 2400
    assert [day.unknown_s for day in house.board.days("a", 3)][:2] == [86_400, 86_400]


async def test_counts_wait_for_a_database_that_fails(stores: Stores) -> None:
    """Nothing is lost, the last picture stays, and the operator is told once and when it is over."""
    clock = ManualClock(NOON)
    house = House(stores, clock)
    await house.board.refresh()
    write = stores[0].write_minutes

    async def fail(rows: Sequence[MinuteRow]) -> None:
        raise RuntimeError("gone")

    house.count("a", failed=5)
    _replace(stores[0], "write_minutes", fail)
    for _ in range(2):
        await house.board._step()
        clock.advance(60)
    assert house.states()[0] is State.OPERATIONAL
    _replace(stores[0], "write_minutes", write)
    await house.board._step()
    assert house.states()[0] is State.MAJOR_OUTAGE
    assert [type(one) for one in house.failures] == [RuntimeError, type(None)]


def _replace(target: object, name: str, act: Callable[..., object]) -> None:
    setattr(target, name, act)


async def test_incidents_are_found_by_what_is_asked(stores: Stores) -> None:
    """Newest first, page by page; open ones, those of a model with those of all, those since a time."""
    clock = ManualClock(NOON)
    house = House(stores, clock)
    await house.board.refresh()
    made = [await house.open(*models) for models in ((), ("a",), ("b",))]
    early = IncidentDraft("Old", State.DEGRADED, start_time=NOON - HOUR)
    await asyncio.sleep(0.002)
    made.append(await house.desk.open_incident(GATEWAY, early, "It was.", "once"))
    again = await house.desk.open_incident(GATEWAY, early, "It was.", "once")
    assert again.id == made[3].id
    await house.desk.update_incident(
        GATEWAY, made[2].name, IncidentDraft("", State.DEGRADED, Phase.RESOLVED), frozenset({"phase"})
    )

    async def ids(**asked: object) -> list[int]:
        found, _ = await house.desk.incidents(GATEWAY, lambda _: True, **asked)  # type: ignore[arg-type]
        return [[one.id for one in made].index(one.id) for one in found]

    assert await ids() == [3, 2, 1, 0]
    assert await ids(open_only=True) == [3, 1, 0]
    assert await ids(model="b") == [3, 2, 0]
    assert await ids(start_time=NOON) == [2, 1, 0]
    page, token = await house.desk.incidents(GATEWAY, lambda _: True, page_size=3)
    rest, last = await house.desk.incidents(GATEWAY, lambda _: True, page_size=3, page_token=token)
    assert [one.id for one in [*page, *rest]] == [one.id for one in reversed(made)]
    assert last == ""
    hidden, _ = await house.desk.incidents(GATEWAY, lambda one: one.id == made[0].id, page_size=1)
    assert [one.id for one in hidden] == [made[0].id]


async def test_maintenance_is_listed_from_the_latest_start(stores: Stores) -> None:
    """Page by page; what was cancelled or is over is not upcoming."""
    clock = ManualClock(NOON)
    house = House(stores, clock)
    made = [
        await house.desk.announce(GATEWAY, MaintenanceDraft(f"{hour}", NOON + hour * HOUR, NOON + (hour + 1) * HOUR))
        for hour in (1, 3, 2)
    ]
    await house.desk.update_maintenance(
        GATEWAY, made[1].name, MaintenanceDraft("", NOON, NOON, cancelled=True), frozenset({"cancelled"})
    )
    page, token = await house.desk.maintenances(GATEWAY, lambda _: True, page_size=2)
    rest, _ = await house.desk.maintenances(GATEWAY, lambda _: True, page_size=2, page_token=token)
    assert [one.draft.title for one in [*page, *rest]] == ["3", "2", "1"]
    clock.advance(2.5 * 3600)
    upcoming, _ = await house.desk.maintenances(GATEWAY, lambda _: True, upcoming_only=True)
    assert [one.draft.title for one in upcoming] == ["2"]
