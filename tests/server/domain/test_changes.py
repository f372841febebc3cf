"""The watcher of changes: whom it tells, when it is blind, and how it finds its way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tokendance_server.domain.changes import BATCH, Change, ChangeKind, Watcher
from tokendance_server.domain.clock import ManualClock
from tokendance_server.stores.memory import MemoryChangeFeed

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Feed(MemoryChangeFeed):
    """A feed that can fail, hang, and be put back to an earlier state."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def latest(self) -> Change | None:
        await self._pass()
        return await super().latest()

    async def since(self, number: int, limit: int) -> list[Change]:
        await self._pass()
        return await super().since(number, limit)

    def cut(self, first: int, last: int) -> None:
        """Keep the changes of these numbers only."""
        self._changes = [change for change in self._changes if first <= change.number <= last]

    async def _pass(self) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error


class Listener:
    """Writes down what it is told; `*` is everything."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.errors: list[Exception] = []

    def changed(self, change: Change) -> None:
        if self.errors:
            raise self.errors.pop()
        self.told.append(change.name)

    def everything_changed(self) -> None:
        self.told.append("*")


class Post:
    """A watcher, its feed, its clock and a listener for keys and one for models."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.feed = Feed()
        self.reports: list[Exception | None] = []
        self.watcher = Watcher(self.feed, self.clock, self.reports.append, interval_s=0.005, stale_after_s=5)
        self.keys, self.models = Listener(), Listener()
        self.watcher.subscribe(ChangeKind.KEY, self.keys)
        self.watcher.subscribe(ChangeKind.MODEL, self.models)

    def record(self, *names: str, kind: ChangeKind = ChangeKind.KEY) -> None:
        for name in names:
            self.feed.record(kind, name, self.clock.now())

    async def open(self) -> None:
        """Take the place in the feed, and forget that it was told so."""
        await self.watcher.poll()
        self.keys.told.clear()
        self.models.told.clear()


@pytest.fixture
def post() -> Post:
    """A watcher that does not watch yet."""
    return Post()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(1):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("before", [0, 3])
async def test_listeners_hear_of_their_kind_from_the_place_that_was_taken(post: Post, before: int) -> None:
    """What was changed before the node watched is no news, but nothing kept from then is believed."""
    post.record(*(f"old{number}" for number in range(before)))
    await post.watcher.poll()
    assert post.keys.told == post.models.told == ["*"]
    post.record("a", "b")
    post.record("m", kind=ChangeKind.MODEL)
    post.record("c")
    await post.watcher.poll()
    await post.watcher.poll()
    assert (post.keys.told, post.models.told) == (["*", "a", "b", "c"], ["*", "m"])


async def test_a_kind_of_a_newer_version_concerns_nobody(post: Post) -> None:
    """Nodes of two versions can share a database while one is being rolled out."""
    await post.open()
    post.feed._changes.append(Change(1, "webhook", "webhooks/x", "", START))
    post.record("a")
    await post.watcher.poll()
    assert post.keys.told == ["a"]


async def test_more_changes_than_a_batch_are_read_at_once(post: Post) -> None:
    """A burst does not delay the news by polls."""
    post.record("first")
    await post.open()
    names = [str(number) for number in range(3 * BATCH)]
    post.record(*names)
    await post.watcher.poll()
    assert post.keys.told == names


@pytest.mark.parametrize(
    ("first", "last", "what"),
    [(1, 2, "an older backup"), (1, 0, "an empty database"), (5, 9, "more was pruned than was read")],
)
async def test_a_feed_that_is_not_the_one_followed_makes_everything_new(
    post: Post, first: int, last: int, what: str
) -> None:
    """Changes that cannot be told one by one are told as one: everything."""
    post.record("1", "2", "3")
    await post.open()
    post.record("4", "5", "6")
    post.feed.cut(first, last)
    await post.watcher.poll()
    assert post.keys.told == post.models.told == ["*"], what
    post.record("next")
    await post.watcher.poll()
    assert post.keys.told == ["*", "next"]


async def test_a_standby_that_lost_the_last_commits_is_noticed(post: Post) -> None:
    """Its numbers go on as ours did, with other changes behind them."""
    post.record("1", "2")
    await post.open()
    post.feed.cut(1, 1)
    post.record("another 2", "another 3")
    await post.watcher.poll()
    assert post.keys.told == ["*"]


async def test_a_first_change_that_was_pruned_is_noticed(post: Post) -> None:
    """A node that found the feed empty knows that numbers begin at 1."""
    await post.open()
    post.record("1", "2")
    post.feed.cut(2, 2)
    await post.watcher.poll()
    assert post.keys.told == ["*"]


async def test_a_blind_watcher_says_so_after_the_stated_time_and_recovers(post: Post) -> None:
    """It is healthy until `stale_after_s` after the last whole reading began, and reports each turn once."""
    await _until(lambda: not post.watcher.healthy)
    await post.watcher.start()
    assert post.watcher.healthy
    post.feed.error = error = OSError("gone")
    post.record("missed")
    await _until(lambda: post.reports)
    post.clock.advance(5)
    await asyncio.sleep(0.03)
    assert post.watcher.healthy
    post.clock.advance(0.001)
    await _until(lambda: not post.watcher.healthy)
    assert post.reports == [error]
    post.feed.error = None
    await _until(lambda: post.watcher.healthy)
    assert post.keys.told == ["*", "missed"]
    assert post.reports == [error, None]
    await post.watcher.stop()


async def test_a_watcher_that_begins_blind_finds_its_place_later(post: Post) -> None:
    """A node may start before its database answers."""
    post.feed.error = OSError("not yet")
    post.record("before")
    await post.watcher.start()
    await _until(lambda: not post.watcher.healthy)
    post.feed.error = None
    await _until(lambda: post.watcher.healthy)
    assert post.keys.told == ["*"]
    await post.watcher.stop()


async def test_a_reading_that_hangs_is_given_up() -> None:
    """There is time for another before the node counts as blind."""
    post = Post()
    post.watcher = Watcher(post.feed, post.clock, post.reports.append, interval_s=0.005, stale_after_s=0.05)
    await post.open()
    post.feed.gate.clear()
    with pytest.raises(TimeoutError):
        await post.watcher.poll()


async def test_a_listener_that_fails_is_told_again(post: Post) -> None:
    """A change counts as read only when everybody knows it; meanwhile the node may become blind, not wrong."""
    await post.open()
    post.keys.errors = [ValueError("x")]
    post.record("a", "b")
    with pytest.raises(ValueError, match="x"):
        await post.watcher.poll()
    await post.watcher.poll()
    assert post.keys.told == ["a", "b"]


async def test_old_changes_are_pruned_in_the_background(post: Post) -> None:
    """Once a minute, and without a pause while there are more of them than a batch."""
    post.record(*(str(number) for number in range(2 * BATCH)))
    await post.watcher.start()
    post.clock.advance(timedelta(days=6).total_seconds())
    post.record("young")
    await asyncio.sleep(0.03)
    assert len(await post.feed.since(0, 10_000)) == 2 * BATCH + 1
    post.clock.advance(timedelta(days=2).total_seconds())
    await _until(lambda: len(post.feed._changes) == 1)
    assert post.watcher.healthy
    assert post.reports == []
    await post.watcher.stop()


async def test_stopping_leaves_no_task(post: Post) -> None:
    """Whether it ever began or not, and also in the middle of a reading."""
    await post.watcher.stop()
    before = asyncio.all_tasks()
    await post.watcher.start()
    post.feed.gate.clear()
    await asyncio.sleep(0.02)
    await post.watcher.stop()
    await post.watcher.stop()
    assert asyncio.all_tasks() == before
