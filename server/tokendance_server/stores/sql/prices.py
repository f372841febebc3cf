"""Prices in SQL: one row for each model, its whole list as a document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from tokendance_server.domain.audit.events import EventDraft
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.prices.price import Price, PriceList
from tokendance_server.stores.sql.audit import record_event
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import ConflictError, Database
from tokendance_server.stores.sql.tables import price_lists


class SqlPriceStore:
    """Satisfies PriceStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Mapping[str, PriceList]:
        async with self._database.read() as connection:
            rows = (await connection.execute(_ALL)).all()
        return {row.name: _list(row) for row in rows}

    async def put(self, before: PriceList, after: PriceList, event: EventDraft) -> bool:
        assert after.update_time is not None
        row = {"document": _document(after), "update_time": after.update_time, "version": after.version}
        mine = price_lists.c.name == after.model
        try:
            async with self._database.transaction() as connection:
                if before.version:
                    changed = await connection.execute(
                        price_lists.update().where(mine, price_lists.c.version == before.version).values(**row)
                    )
                    if not changed.rowcount:
                        return False
                else:
                    new = {"name": after.model, "request_id": "", "create_time": after.update_time}
                    await connection.execute(price_lists.insert(), new | row)
                await record_event(connection, event)
                await record_change(connection, ChangeKind.PRICE, f"models/{after.model}", after.update_time)
        except ConflictError:
            # Another call set the first prices of this model at the same moment.
            return False
        return True


_ALL = select(price_lists).order_by(price_lists.c.name)


def _document(listed: PriceList) -> dict[str, Any]:
    return {
        "published": listed.published,
        "prices": [
            {
                "class": one.price_class,
                "per_million": one.per_million,
                "from_prompt_tokens": one.from_prompt_tokens,
                "service_tier": one.service_tier,
                "effective_time": one.effective_time.isoformat() if one.effective_time else None,
            }
            for one in listed.prices
        ],
    }


def _list(row: Row[Any]) -> PriceList:
    prices = tuple(
        Price(
            one["class"],
            one["per_million"],
            one["from_prompt_tokens"],
            one["service_tier"],
            datetime.fromisoformat(one["effective_time"]) if one["effective_time"] else None,
        )
        for one in row.document["prices"]
    )
    return PriceList(row.name, prices, bool(row.document["published"]), row.update_time, row.version)
