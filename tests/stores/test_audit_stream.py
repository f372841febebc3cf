"""The trail on its way out of both databases: at least once, in order, by one node at a time, with signed ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from tests.stores.test_audit import ORGANIZATION, draft
from tests.stores.test_keys import NOW

from tokendance_server.domain.audit.events import PLATFORM, ChainHead
from tokendance_server.domain.audit.heads import HeadSigner, HeadVerifier, new_signing_key
from tokendance_server.domain.audit.lines import read_head
from tokendance_server.domain.audit.stream import LeaseLostError, TrailStream
from tokendance_server.domain.clock import ManualClock
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.audit_stream import SqlStreamStore
from tokendance_server.stores.sql.audit_tables import audit_events, audit_heads, audit_personal, audit_signed_heads
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.tables import job_leases

SIGNER = HeadSigner(new_signing_key())
HOUR = 3600.0


class Lines:
    """A sink that keeps what it got, and takes nothing while it is `full`."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.full = False

    async def write(self, lines: Sequence[str]) -> None:
        """Keep them, or not."""
        if self.full:
            raise OSError("full")
        self.got += lines

    async def close(self) -> None:
        """Do nothing."""

    @property
    def places(self) -> list[int]:
        """The places of the events, in their order."""
        return [found["sequence"] for found in map(json.loads, self.got) if "head" not in found]

    @property
    def heads(self) -> list[tuple[str, int]]:
        """The chains and places of the heads, in their order."""
        found = [one for one in map(read_head, self.got) if one is not None]
        assert all(map(HeadVerifier(SIGNER.public_pem).signed, found))
        return [(one.organization_id, one.head.sequence) for one in found]


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.breaks: list[tuple[str, int]] = []

    def failing(self, error: Exception | None) -> None:
        """Keep it."""
        self.errors.append("" if error is None else str(error))

    def broken(self, chain: str, sequence: int) -> None:
        """Keep it."""
        self.breaks.append((chain, sequence))


class House:
    """One database, its trail, a sink, and nodes that stream."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.trail = SqlAuditStore(database)
        self.clock, self.sink, self.told = ManualClock(NOW), Lines(), Told()

    def node(self, run_id: str = "run_1", *, sink: bool = True, lease_s: float = 30.0) -> TrailStream:
        """Return the stream of one run of a node."""
        store = SqlStreamStore(self.database, self.clock, run_id, lease_s=lease_s)
        return TrailStream(store, SIGNER, self.clock, self.told, self.sink if sink else None)

    async def record(self, count: int, organization_id: str = ORGANIZATION) -> None:
        """Record events."""
        for number in range(count):
            await self.trail.record(draft(number, organization_id=organization_id))

    async def run(self, *statements: Any) -> None:
        """Touch the tables, as nobody should."""
        async with self.database.transaction() as connection:
            for statement in statements:
                await connection.execute(statement)


@pytest.fixture
def house(database: Database) -> House:
    """One of a test, on each kind of database."""
    return House(database)


async def test_each_event_is_sent_once_and_then_its_end_is_signed(house: House) -> None:
    """In the order of each chain; what is sent is not sent again, by a later run neither."""
    await house.record(3)
    await house.record(1, PLATFORM)
    node = house.node()
    await node.advance()
    await node.advance()
    assert house.sink.places == [1, 1, 2, 3]
    assert house.sink.heads == [(PLATFORM, 1), (ORGANIZATION, 3)]
    assert json.loads(house.sink.got[-1])["head"]["chain"] == f"organizations/{ORGANIZATION}"
    await house.record(2)
    await node.close()
    again = house.node("run_1")
    await again.advance()
    assert house.sink.places == [1, 1, 2, 3, 4, 5]


async def test_an_end_is_signed_once_an_hour_where_it_moved(house: House) -> None:
    """A chain that stands still has no new end, and without a sink ends are signed just so."""
    node = house.node(sink=False)
    for step, expected in [(0.0, [1]), (60.0, [1]), (HOUR, [1, 3]), (2 * HOUR, [1, 3, 4]), (HOUR / 2, [1, 3, 4])]:
        house.clock.advance(step)
        await house.record(1)
        await node.advance()
        async with house.database.read() as connection:
            rows = (await connection.execute(select(audit_signed_heads.c.sequence).order_by("sequence"))).scalars()
            assert [*rows] == expected
    house.clock.advance(5 * HOUR)
    await node.advance()
    house.clock.advance(5 * HOUR)
    await node.advance()
    async with house.database.read() as connection:
        assert [*(await connection.execute(select(audit_signed_heads.c.sequence))).scalars()][-1] == 5


async def test_a_sink_that_takes_nothing_is_told_and_tried_again(house: House) -> None:
    """The lag says how old the oldest event is; nothing is lost, and nothing sent twice."""
    await house.record(1)
    node = house.node()
    await node.advance()
    house.sink.full = True
    await house.record(2)
    house.clock.advance(90)
    for _ in range(3):
        await node.advance()
    assert house.told.errors == ["full"]
    assert node.lag_s == pytest.approx(90, abs=2)
    house.sink.full = False
    await node.advance()
    assert house.told.errors == ["full", ""]
    assert node.lag_s == 0
    assert house.sink.places == [1, 2, 3]


async def test_lines_whose_place_was_not_kept_are_sent_again(house: House) -> None:
    """A node that is killed in between writes them twice, and never too seldom."""
    await house.record(2)
    killed = house.node("run_1")
    await killed._store.take()
    events = await killed._store.events(ORGANIZATION, 0, 10)
    await house.sink.write([json.dumps({"sequence": one.sequence}) for one in events])
    await house.run(delete(job_leases))
    await house.node("run_2").advance()
    assert house.sink.places == [1, 2, 1, 2]


async def test_thousands_of_events_are_sent_in_pieces(house: House) -> None:
    """In one go, without holding all of them."""
    await house.trail.record_all([draft(number) for number in range(1200)])
    await house.node().advance()
    assert house.sink.places == [*range(1, 1201)]


async def test_a_chain_whose_signed_end_is_gone_is_told_and_signed_no_more(house: House) -> None:
    """Once: the gateway puts its name under nothing that was written anew."""
    await house.record(3)
    node = house.node(sink=False)
    await node.advance()
    cut = (audit_events.c.organization_id == ORGANIZATION) & (audit_events.c.sequence > 1)
    async with house.database.read() as connection:
        first = (await connection.execute(select(audit_events.c.digest).where(audit_events.c.sequence == 1))).scalar()
    await house.run(
        delete(audit_events).where(cut), delete(audit_personal), update(audit_heads).values(sequence=1, digest=first)
    )
    await house.record(3)
    for _ in range(3):
        house.clock.advance(HOUR)
        await node.advance()
    assert house.told.breaks == [(f"organizations/{ORGANIZATION}", 3)]
    assert house.told.errors == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_two_nodes_send_each_event_once(house: House) -> None:
    """The second one waits until the first gives the lease back, or is silent for too long."""
    await house.record(2)
    first, second = house.node("run_1"), house.node("run_2")
    await first.advance()
    await house.record(1)
    await second.advance()
    assert house.sink.places == [1, 2]
    first.start()
    await first.close()
    assert house.sink.places == [1, 2, 3]
    await house.record(1)
    await second.advance()
    assert house.sink.places == [1, 2, 3, 4]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_node_that_was_overtaken_keeps_nothing(house: House) -> None:
    """Its lease was over before it was done: the other one's place stands, and it says nothing."""
    await house.record(1)
    slow = SqlStreamStore(house.database, house.clock, "run_1", lease_s=0.05)
    assert await slow.take()
    await asyncio.sleep(0.06)
    other = SqlStreamStore(house.database, house.clock, "run_2")
    assert await other.take()
    assert not await SqlStreamStore(house.database, house.clock, "run_3").take()
    with pytest.raises(LeaseLostError):
        await slow.sent(ORGANIZATION, 1)
    with pytest.raises(LeaseLostError):
        await slow.keep_head(SIGNER.sign(ORGANIZATION, ChainHead(1, bytes(32)), NOW + timedelta(hours=1)))
    (standing,) = await other.behind(unsent=True, signed_before=NOW, limit=10)
    assert (standing.sent, standing.signed) == (0, None)
    await house.node("run_3").advance()
    assert house.told.errors == []
