"""What the trail tells besides changes: once each, bounded in every direction, and never at a call's cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_server.domain.audit import asides as module
from tokendance_server.domain.audit.asides import Asides, Fate
from tokendance_server.domain.audit.events import PLATFORM, AuditEvent, EventDraft, Origin
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.principals import Principal
from tokendance_server.stores.memory_audit import MemoryAuditStore

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINE = "org_01h455vb4pex5vsknk084sn02q"
MEMBER = Principal(
    frozenset({access_pb2.CALLER_KIND_MEMBER}), f"organizations/{MINE}/members/m", f"organizations/{MINE}"
)
ADMIN = Principal(frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), "platform/admin")
ORIGIN = Origin("req_1", pb.AUDIT_SOURCE_GRPC, "192.0.2.7")


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.fates: Counter[str] = Counter()
        self.errors: list[str] = []

    def ended(self, fate: Fate, count: int = 1) -> None:
        """Count."""
        self.fates[fate] += count

    def failing(self, error: Exception | None) -> None:
        """Keep it."""
        self.errors.append("" if error is None else str(error))


class Moody(MemoryAuditStore):
    """A store that takes nothing while it is `away`."""

    away = False

    async def record_all(self, drafts: Sequence[EventDraft]) -> None:
        """Take them, or not."""
        if self.away:
            raise OSError("away")
        await super().record_all(drafts)


class House:
    """Asides over a store in memory."""

    def __init__(self) -> None:
        self.store, self.clock, self.told = Moody(), ManualClock(START), Told()
        self.asides = Asides(self.store, self.clock, self.told)

    async def written(self, chain: str = MINE) -> list[AuditEvent]:
        """Flush, and return what a chain tells."""
        await self.asides.flush()
        return await self.store.chain(EventFilter(chain), 0, 10_000)

    def refuse(self, caller: Principal = MEMBER, action: str = "key.revoke", code: str = "not_found") -> None:
        """Have a change refused."""
        self.asides.refused(caller, ORIGIN, action=action, resource="organizations/o/keys/k", code=code)


@pytest.fixture
def house() -> House:
    """One of a test."""
    return House()


async def test_a_token_is_a_sign_in_once(house: House) -> None:
    """However often it comes, until it ends; another one is another sign-in."""
    caller = replace(MEMBER, expire_time=START + timedelta(minutes=15))
    for token in ("a", "a", "b", "a"):
        house.asides.signed_in(caller, token, ORIGIN)
    told = await house.written()
    assert [(one.action, one.resource, one.outcome) for one in told] == [
        ("session.create", MEMBER.name, pb.AUDIT_OUTCOME_DONE)
    ] * 2
    assert told[0].shown("actor")["address"] == "192.0.2.7"
    house.clock.advance(901)
    house.asides.signed_in(caller, "a", ORIGIN)
    assert len(await house.written()) == 3


async def test_sign_ins_of_the_platform_are_in_its_own_chain(house: House) -> None:
    """Who belongs to no organization is told there."""
    house.asides.signed_in(ADMIN, "a", ORIGIN)
    assert [one.actor for one in await house.written(PLATFORM)] == [ADMIN.name]


async def test_a_refusal_says_its_code(house: House) -> None:
    """In the chain of the caller, as what would have been done."""
    house.refuse(code="permission_denied")
    (told,) = await house.written()
    assert (told.action, told.resource) == ("key.revoke", "organizations/o/keys/k")
    assert (told.outcome, told.code) == (pb.AUDIT_OUTCOME_REFUSED, "permission_denied")
    assert told.is_intact()
    assert await house.store.chain(EventFilter(MINE, outcome=pb.AUDIT_OUTCOME_REFUSED), 0, 10) == [told]


async def test_refusals_that_are_alike_are_counted(house: House) -> None:
    """One event in ten minutes for a caller, an action and a code; the next one says how many there were."""
    for _ in range(50):
        house.refuse()
    house.refuse(action="key.rotate")
    house.refuse(code="permission_denied")
    assert len(await house.written()) == 3
    house.clock.advance(module.REPEAT_S)
    house.refuse()
    assert (await house.written())[-1].reason == "49 more like it were refused after the one before."
    assert house.told.fates == {"alike": 49, "written": 4}


async def test_one_caller_cannot_fill_the_trail(house: House) -> None:
    """Whatever it tries; others are still told, and so is the caller an hour later."""
    for number in range(200):
        house.refuse(action=f"a{number}.b")
        house.asides.signed_in(MEMBER, f"token {number}", ORIGIN)
    assert len(await house.written()) == module.MOST_OF_ACTOR
    other = replace(MEMBER, name=f"organizations/{MINE}/members/n")
    house.refuse(other)
    house.clock.advance(3600)
    house.refuse()
    assert len(await house.written()) == module.MOST_OF_ACTOR + 2


async def test_many_callers_cannot_fill_the_trail_either(house: House) -> None:
    """A node writes so many within an hour, and has so many waiting."""
    house.store.away = True
    for number in range(5000):
        house.refuse(replace(MEMBER, name=f"m{number}"))
    assert len(house.asides) == module.MOST_WAITING
    house.store.away = False
    await house.asides.flush()
    for number in range(5000):
        house.refuse(replace(MEMBER, name=f"n{number}"))
        await house.asides.flush()
    assert len(await house.written()) == module.MOST_OF_NODE
    assert house.told.fates["lost"] == 4000


async def test_memory_is_bounded(house: House) -> None:
    """Of many tokens the oldest are forgotten."""
    for number in range(10_500):
        house.asides.signed_in(MEMBER, str(number), ORIGIN)
    assert len(house.asides._tokens) == 10_000


async def test_a_store_that_is_away_fails_nobody(house: House) -> None:
    """It is told once, and what waits is written once the store is back."""
    house.store.away = True
    house.refuse()
    for _ in range(3):
        assert await house.written() == []
    house.store.away = False
    assert len(await house.written()) == 1
    assert house.told.errors == ["away", ""]


async def test_what_is_left_is_written_at_the_end(house: House) -> None:
    """Where it can be; else it is told as lost."""
    house.asides.start()
    house.refuse()
    await house.asides.close()
    assert len(await house.store.chain(EventFilter(MINE), 0, 10)) == 1
    house.store.away = True
    again = Asides(house.store, house.clock, house.told)
    again.start()
    again.refused(MEMBER, ORIGIN, action="a.b", resource="", code="not_found")
    await again.close()
    assert house.told.fates["lost"] == 1


async def test_closing_what_never_began_is_harmless(house: House) -> None:
    """As a node does that failed to start."""
    await house.asides.close()
