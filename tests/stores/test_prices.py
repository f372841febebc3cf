"""What the store of prices must do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from tokendance_server.domain.audit.events import AUTOMATIC, EventDraft, event
from tokendance_server.domain.prices.price import Price, PriceList
from tokendance_server.domain.principals import GATEWAY
from tokendance_server.stores.sql.audit_tables import audit_events
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.prices import SqlPriceStore
from tokendance_server.stores.sql.tables import changes

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
PRICES = (
    Price("input", 3_000_000, effective_time=NOW),
    Price("input", 6_000_000, 200_000, "flex", NOW + timedelta(days=1)),
)


def told() -> EventDraft:
    """The event of a change."""
    return event(GATEWAY, AUTOMATIC, organization_id="", time=NOW, action="prices.set", resource="models/a")


def version(number: int, *prices: Price, published: bool = False) -> PriceList:
    """A version of a list."""
    return PriceList("a", prices, published, NOW if number else None, number)


async def test_list_is_read_as_it_was_written(database: Database) -> None:
    """To the microsecond and with everything that tells prices apart; one row of change and one event with each."""
    store = SqlPriceStore(database)
    assert await store.load() == {}
    assert await store.put(version(0), version(1, *PRICES, published=True), told())
    assert await store.load() == {"a": version(1, *PRICES, published=True)}
    assert await store.put(version(1, *PRICES), version(2), told())
    assert await store.load() == {"a": version(2)}
    async with database.read() as connection:
        found = (await connection.execute(select(changes.c.kind, changes.c.name))).all()
        events = (await connection.execute(select(audit_events.c.action))).scalars().all()
    assert [tuple(one) for one in found] == [("price", "models/a")] * 2
    assert events == ["prices.set"] * 2


async def test_of_two_who_change_one_version_one_wins(database: Database) -> None:
    """The first one of a model too; whoever loses leaves neither change nor event."""
    store = SqlPriceStore(database)
    for before in (version(0), version(1)):
        after = version(before.version + 1, *PRICES)
        done = await asyncio.gather(*(store.put(before, after, told()) for _ in range(4)))
        assert sorted(done) == [False, False, False, True]
    assert not await store.put(version(1), version(9), told())
    async with database.read() as connection:
        assert len((await connection.execute(select(changes.c.number))).all()) == 2
        assert len((await connection.execute(select(audit_events.c.action))).all()) == 2
