"""What every feed of changes must do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.stores.test_keys import DAY, MARK, NOW, Tenant

from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import ConflictError, Database

_BEFORE = 5
"""How many changes it takes to open a Tenant."""


async def test_an_empty_feed_has_nothing(stores: Any) -> None:
    """Neither a newest change, nor one to remove."""
    assert await stores.changes.latest() is None
    assert await stores.changes.since(0, 10) == []
    assert await stores.changes.prune(NOW, 10) == 0


async def test_every_change_of_a_key_is_told_once_in_order(stores: Any) -> None:
    """Creation, replacement; not a repeat, nor what failed."""
    tenant = await Tenant().open(stores)
    key = tenant.key()
    await stores.keys.add(key, "r", MARK)
    await stores.keys.add(tenant.key(), "r", MARK)
    changed = replace(key, version=2, update_time=NOW + DAY)
    await stores.keys.replace(key, changed)
    await stores.keys.replace(key, replace(key, version=2))
    first = Change(_BEFORE + 1, "key", key.name, tenant.organization, NOW)
    second = Change(_BEFORE + 2, "key", key.name, tenant.organization, NOW + DAY)
    assert await stores.changes.since(_BEFORE, 10) == [first, second]
    assert await stores.changes.since(_BEFORE, 1) == [first]
    assert await stores.changes.since(_BEFORE + 1, 10) == [second]
    assert await stores.changes.since(_BEFORE + 2, 10) == []
    assert await stores.changes.latest() == second


async def test_a_reader_misses_nothing_while_many_write(stores: Any) -> None:
    """Numbers become visible in their order and without a gap, however writers overlap."""
    tenant = await Tenant().open(stores)
    seen: list[Change] = []

    async def follow() -> None:
        while len(seen) < 40:
            seen.extend(await stores.changes.since(seen[-1].number if seen else _BEFORE, 7))
            await asyncio.sleep(0)

    keys = [tenant.key() for _ in range(40)]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for key in keys:
            group.create_task(stores.keys.add(key, "", MARK))
    assert [change.number for change in seen] == list(range(_BEFORE + 1, _BEFORE + 41))
    assert {change.name for change in seen} == {key.name for key in keys}


async def test_old_changes_go_in_small_batches_and_numbers_go_on(stores: Any) -> None:
    """The newest stays however old it is, so that a number never comes twice."""
    tenant = await Tenant().open(stores)
    assert await stores.changes.prune(NOW + DAY, 100) == _BEFORE - 1
    for number in range(6):
        await stores.keys.add(tenant.key(create_time=NOW + timedelta(seconds=number)), "", MARK)
    assert await stores.changes.prune(NOW + timedelta(seconds=3), 3) == 3
    assert await stores.changes.prune(NOW + timedelta(seconds=3), 3) == 1
    assert await stores.changes.prune(NOW + timedelta(seconds=3), 3) == 0
    assert [change.number for change in await stores.changes.since(0, 10)] == [9, 10, 11]
    assert await stores.changes.prune(NOW + DAY, 100) == 2
    assert await stores.changes.prune(NOW + DAY, 100) == 0
    await stores.keys.add(tenant.key(), "", MARK)
    assert [change.number for change in await stores.changes.since(0, 10)] == [11, 12]


async def test_a_change_comes_and_goes_with_its_transaction(database: Database) -> None:
    """What is rolled back was never told, and its number is used by the next."""
    try:
        async with database.transaction() as connection:
            await record_change(connection, ChangeKind.MODEL, "models/a", NOW)
            raise ConflictError
    except ConflictError:
        pass
    async with database.transaction() as connection:
        await record_change(connection, ChangeKind.MODEL, "models/b", NOW)
        await record_change(connection, ChangeKind.PROVIDER, "providers/c", NOW)
    async with database.read() as connection:
        rows = (await connection.exec_driver_sql("SELECT number, kind, name, organization_id FROM changes")).all()
    assert [tuple(row) for row in rows] == [(1, "model", "models/b", ""), (2, "provider", "providers/c", "")]
