"""When keys were used last: noted by the verifier, written behind the calls, and never lost to a store that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from tests.server.domain.house import OPERATOR, PEPPERS, START, House, draft_for

from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.last_use import KeyUse, LastUses, Redigest
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier

MINUTE = timedelta(minutes=1)


class Notebook:
    """A store that may be away, or slow."""

    def __init__(self) -> None:
        self.written: list[KeyUse] = []
        self.redigested: list[Redigest] = []
        self.away = False
        self.meanwhile: Callable[[], object] = lambda: None

    async def mark_used(self, uses: Sequence[KeyUse]) -> None:
        self.meanwhile()
        if self.away:
            raise ConnectionError("away")
        self.written += uses

    async def redigest(self, redigests: Sequence[Redigest]) -> None:
        if self.away:
            raise ConnectionError("away")
        self.redigested += redigests


class Desk:
    """Last uses over a notebook, and what was reported of it."""

    def __init__(self, **bounds: float) -> None:
        self.clock = ManualClock(START + timedelta(seconds=10))
        self.store = Notebook()
        self.reports: list[str] = []
        self.uses = LastUses(self.store, self.clock, self._report, **bounds)  # type: ignore[arg-type]

    def _report(self, error: Exception | None) -> None:
        self.reports.append(str(error))


async def test_a_minute_of_uses_is_written_once() -> None:
    """As its beginning; the note says how long it holds."""
    desk = Desk()
    assert desk.uses.note("org", "a") == 50
    await desk.uses.flush()
    await desk.uses.flush()
    assert desk.store.written == [KeyUse("org", "a", START)]
    desk.clock.advance(50)
    assert desk.uses.note("org", "a") == 60
    await desk.uses.flush()
    assert desk.store.written[1:] == [KeyUse("org", "a", START + MINUTE)]


async def test_the_verifier_notes_what_it_lets_in_once_a_minute(house: House) -> None:
    """From memory or from the store; neither what it refuses nor what is only checked."""
    names = await house.open()
    uses = LastUses(house.store, house.clock, lambda _: None)
    verifier = Verifier(house.store, PEPPERS, house.clock, lambda: True, uses=uses)
    key, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    await verifier.check(secret)
    assert len(uses) == 0
    await verifier.verify(secret)
    await uses.flush()
    for _ in range(59):
        house.clock.advance(1)
        assert verifier.verify_cached(secret) is not None
    assert len(uses) == 0
    house.clock.advance(1)
    assert verifier.verify_cached(secret) is not None
    await uses.flush()
    used = await house.store.get(key.id)
    assert used is not None
    assert (used.last_used_time, used.version) == (START + MINUTE, 1)
    await house.life.revoke(OPERATOR, key.name)
    verifier.forget(key.id)
    house.clock.advance(60)
    with pytest.raises(Exception, match="revoked"):
        await verifier.verify(secret)
    assert len(uses) == 0


async def test_what_cannot_be_written_is_kept_and_told_once() -> None:
    """Until it can be written again, and then as the newest use."""
    desk = Desk()
    desk.store.away = True
    for _ in range(3):
        desk.uses.note("org", "a")
        await desk.uses.flush()
        desk.clock.advance(60)
    assert (desk.reports, len(desk.uses)) == (["away"], 1)
    desk.store.away = False
    await desk.uses.flush()
    assert desk.store.written == [KeyUse("org", "a", START + 2 * MINUTE)]
    assert desk.reports == ["away", "None"]


async def test_a_use_that_comes_while_the_last_one_is_written_is_written_too() -> None:
    """It stays noted."""
    desk = Desk()
    desk.uses.note("org", "a")
    desk.clock.advance(60)
    desk.store.meanwhile = lambda: desk.store.written or desk.uses.note("org", "a")
    await desk.uses.flush()
    await desk.uses.flush()
    assert [use.time for use in desk.store.written] == [START, START + MINUTE]


async def test_what_is_remembered_is_bounded() -> None:
    """What is beyond is noted again at its next use; what is there moves on."""
    desk = Desk(most=2)
    desk.store.away = True
    for key_id in ("a", "b", "c"):
        desk.uses.note("org", key_id)
    desk.clock.advance(60)
    desk.uses.note("org", "a")
    assert len(desk.uses) == 2
    desk.store.away = False
    await desk.uses.flush()
    assert [(use.key_id, use.time) for use in desk.store.written] == [("a", START + MINUTE), ("b", START)]


async def test_closing_writes_what_is_left() -> None:
    """A node that stops loses no use; while it runs it writes by itself."""
    desk = Desk(every_s=0.01)
    await desk.uses.close()
    desk.uses.start()
    desk.uses.note("org", "a")
    async with asyncio.timeout(5):
        while not desk.store.written:
            await asyncio.sleep(0.005)
    desk.uses.note("org", "b")
    await desk.uses.close()
    assert [use.key_id for use in desk.store.written] == ["a", "b"]


async def test_a_secret_under_an_old_pepper_is_digested_anew_at_its_next_use(house: House) -> None:
    """Noted once it is found, written behind the call, tried again where the store is away; then the old can go."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    old, new = bytes(range(32)), bytes(range(32, 64))
    ring, desk = PepperRing.of(new, old), Desk()
    verifier = Verifier(house.store, ring, house.clock, lambda: True, uses=desk.uses)
    await verifier.verify(secret)
    noted = Redigest(PepperRing.of(old).digest(secret), ring.digest(secret), ring.active_id)
    desk.store.away = True
    await desk.uses.flush()
    desk.store.away = False
    await desk.uses.flush()
    await desk.uses.flush()
    assert desk.store.redigested == [noted]
    await house.store.redigest(desk.store.redigested)
    verifier.everything_changed()
    await verifier.verify(secret)
    await desk.uses.flush()
    assert desk.store.redigested == [noted]
    later = Verifier(house.store, PepperRing.of(new), house.clock, lambda: True)
    assert (await later.verify(secret)).organization == names.organization
