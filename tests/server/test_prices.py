"""The prices of a node, wired over a database: read at the start, and again when another node sets some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tokendance_server.domain.catalogue.models import Model, Route
from tokendance_server.domain.changes import Watcher
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.prices.price import Price
from tokendance_server.domain.principals import GATEWAY
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.prices import PriceParts, open_prices
from tokendance_server.stores.sql.changes import SqlChangeFeed
from tokendance_server.stores.sql.database import Database

MODELS = [Model(name, (Route("demo", f"up-{name}"),)) for name in ("a", "b", "c")]
CLOCK = ManualClock(datetime(2026, 6, 1, tzinfo=UTC))


class Node:
    """One node on a database that others may share."""

    def __init__(self, parts: PriceParts, watcher: Watcher) -> None:
        self.parts = parts
        self.watcher = watcher

    @classmethod
    async def open(cls, database: Database) -> Node:
        """Start it, without polling."""
        watcher = Watcher(SqlChangeFeed(database), CLOCK, _fail)
        parts = await open_prices(database, watcher, PepperRing.of(bytes(range(32))), lambda: MODELS, CLOCK)
        await watcher.poll()
        return cls(parts, watcher)

    def cost(self, model: str) -> int | None:
        """What a million prompt tokens cost now."""
        tariff = self.parts.book.tariff(model)
        return None if tariff is None else tariff.cost(Counts(1_000_000))

    async def set(self, model: str, micros: int) -> None:
        """Set a price from now on."""
        (kept,) = (await self.parts.desk.list(model=model))[0]
        await self.parts.desk.set(GATEWAY, model, [*kept.prices, Price("input", micros)], published=False)


def _fail(error: Exception | None) -> None:
    if error is not None:
        raise error


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database."""
    opened = await Database.open_sqlite(tmp_path / "gateway.db")
    yield opened
    await opened.close()


async def test_prices_are_read_at_the_start(database: Database) -> None:
    """They outlive the node that set them, which had them at once."""
    node = await Node.open(database)
    assert node.cost("a") is None
    await node.set("a", 3_000_000)
    assert node.cost("a") == 3_000_000
    assert (await Node.open(database)).cost("a") == 3_000_000


async def test_other_nodes_follow(database: Database) -> None:
    """Once they read the change; until then the last price holds."""
    one, other = await Node.open(database), await Node.open(database)
    other.parts.followed.start()
    await one.set("b", 5_000_000)
    assert other.cost("b") is None
    await other.watcher.poll()
    async with asyncio.timeout(5):
        while other.cost("b") is None:
            await asyncio.sleep(0.005)
    assert other.cost("b") == 5_000_000
    await other.parts.followed.close()


async def test_list_has_models_without_a_price_and_comes_in_pages(database: Database) -> None:
    """By model; a token holds for the same question alone."""
    node = await Node.open(database)
    await node.set("b", 1)
    desk = node.parts.desk
    first, token = await desk.list(page_size=2)
    rest, end = await desk.list(page_size=2, page_token=token)
    assert [one.model for one in [*first, *rest]] == ["a", "b", "c"]
    assert end == ""
    unpriced, _ = await desk.list(unpriced_only=True)
    assert [one.model for one in unpriced] == ["a", "c"]
