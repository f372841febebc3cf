"""Kept answers over each store: one winner, nobody else's answer, and nothing that outlives its secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.server.domain.replay.test_replays import Desk, refused, settled
from tests.stores.conftest import _open, sql_stores
from tests.stores.test_keys import Tenant

from tokendance.ids import new_id
from tokendance_server.domain.keys.key import KeySecret, KeyState
from tokendance_server.domain.replay.store import Claim, Found, ReplayStore, ReplaysUnavailableError
from tokendance_server.stores.memory_replays import MemoryReplayStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.replays import SqlReplayStore

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
DAY = NOW + timedelta(days=1)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ReplayStore]:
    """Each implementation in turn, empty."""
    if request.param == "memory":
        yield MemoryReplayStore()
        return
    database = await _open(request.param, request, tmp_path)
    yield SqlReplayStore(database)
    await database.close()


def claim(scope: bytes = b"s" * 32, **fields: Any) -> Claim:
    """A claim of half a minute."""
    values: dict[str, Any] = {
        "organization_id": "org_1",
        "scope": scope,
        "fingerprint": b"f" * 32,
        "token": new_id("claim"),
        "key_id": "key_1",
        "secret_time": NOW,
        "request_id": "req_1",
        "create_time": NOW,
        "expire_time": NOW + timedelta(seconds=30),
    }
    return Claim(**values | fields)


async def test_the_first_claims_and_the_next_finds(store: ReplayStore) -> None:
    """First that somebody is at it, then the answer; another organization has a place of its own."""
    first = claim()
    assert await store.claim(first, 10) is None
    assert await store.claim(claim(), 10) == Found(b"f" * 32, "req_1")
    assert await store.claim(claim(organization_id="org_2"), 10) is None
    assert await store.keep(first, b"sealed", DAY)
    assert await store.claim(claim(), 10) == Found(b"f" * 32, "req_1", b"sealed")
    assert not await store.keep(first, b"other", DAY)
    await store.release(first)
    assert await store.claim(claim(), 10) == Found(b"f" * 32, "req_1", b"sealed")


async def test_of_many_at_once_one_wins(store: ReplayStore) -> None:
    """However close they come."""
    got = await asyncio.gather(*(store.claim(claim(), 10) for _ in range(20)))
    assert got.count(None) == 1
    assert {one.sealed for one in got if one is not None} == {None}


async def test_a_released_key_is_free(store: ReplayStore) -> None:
    """For whoever comes next, and not by somebody else's token."""
    first = claim()
    await store.claim(first, 10)
    await store.release(claim())
    assert await store.claim(claim(), 10) is not None
    await store.release(first)
    assert await store.claim(claim(), 10) is None


async def test_a_claim_that_ran_out_is_taken_over(store: ReplayStore) -> None:
    """Its maker keeps nothing any more; one that was renewed is not taken."""
    dead = claim()
    await store.claim(dead, 10)
    await store.renew([dead], NOW + timedelta(seconds=60))
    later = NOW + timedelta(seconds=45)
    assert await store.claim(claim(create_time=later), 10) is not None
    later = NOW + timedelta(seconds=60)
    heir = claim(create_time=later, expire_time=later + timedelta(seconds=30))
    assert await store.claim(heir, 10) is None
    assert not await store.keep(dead, b"late", DAY)
    await store.release(dead)
    assert await store.keep(heir, b"sealed", DAY)


async def test_a_key_keeps_so_many_answers(store: ReplayStore) -> None:
    """The oldest goes; those of other keys stay."""
    other = claim(b"o" * 32, key_id="key_2")
    await store.claim(other, 3)
    await store.keep(other, b"sealed", DAY)
    for number in range(5):
        one = claim(bytes([number]) * 32, create_time=NOW + timedelta(seconds=number))
        assert await store.claim(one, 3) is None
        assert await store.keep(one, b"sealed", DAY)
    found = [await store.claim(claim(bytes([number]) * 32), 100) for number in range(5)]
    assert [one is None for one in found] == [True, True, False, False, False]
    assert await store.claim(claim(b"o" * 32, key_id="key_2"), 3) is not None


async def test_what_ran_out_goes_in_batches(store: ReplayStore) -> None:
    """Answers and claims alike."""
    for number in range(5):
        await store.claim(claim(bytes([number]) * 32), 10)
    assert await store.prune(NOW, 3) == 0
    assert [await store.prune(DAY, 3) for _ in range(3)] == [3, 2, 0]


async def test_an_organization_is_forgotten(store: ReplayStore) -> None:
    """Its answers; claims of running calls end by themselves."""
    kept, running = claim(b"k" * 32), claim(b"r" * 32)
    for one in (kept, running):
        await store.claim(one, 10)
    await store.keep(kept, b"sealed", DAY)
    await store.forget_organization("org_2")
    assert await store.claim(claim(b"k" * 32), 10) is not None
    await store.forget_organization("org_1")
    assert await store.claim(claim(b"k" * 32), 10) is None
    assert await store.claim(claim(b"r" * 32), 10) is not None


async def test_an_unknown_key_is_forgotten(store: ReplayStore) -> None:
    """It is in no store, so its secret opens no door."""
    one = claim()
    await store.claim(one, 10)
    await store.keep(one, b"sealed", DAY)
    await store.forget_keys(["key_2"], NOW)
    assert await store.claim(claim(), 10) is not None
    await store.forget_keys(["key_1"], NOW)
    assert await store.claim(claim(), 10) is None


async def test_a_database_that_fails_is_told_as_such(tmp_path: Path) -> None:
    """Never by an error of the driver."""
    database = await Database.open_sqlite(tmp_path / "gateway.db")
    async with database.transaction() as connection:
        await connection.execute(text("DROP TABLE replays"))
    store = SqlReplayStore(database)
    for call in (store.claim(claim(), 1), store.keep(claim(), b"", DAY), store.prune(NOW, 1)):
        with pytest.raises(ReplaysUnavailableError):
            await call
    await database.close()


@pytest.mark.parametrize("fate", ["alive", "suspended", "revoked", "gone", "overlap"])
async def test_what_is_kept_goes_with_its_secret(database: Database, fate: str) -> None:
    """At once when it works no more; where it has an end, at that end; and stays while a key is only suspended."""
    stores, store = sql_stores(database), SqlReplayStore(database)
    tenant = await Tenant().open(stores)
    key = tenant.key()
    await stores.keys.add(key, "", b"f" * 32)
    mine: dict[str, Any] = {"organization_id": tenant.organization, "key_id": key.id}
    one = claim(**mine)
    await store.claim(one, 10)
    await store.keep(one, b"sealed", DAY)
    soon = NOW + timedelta(minutes=5)
    heir = KeySecret(b"n" * 32, "pep_1", NOW + timedelta(seconds=1))
    after = {
        "alive": key,
        "suspended": replace(key, state=KeyState.SUSPENDED),
        "revoked": replace(key, state=KeyState.REVOKED),
        "gone": replace(key, secrets=(heir,)),
        "overlap": replace(key, secrets=(replace(key.secrets[0], expire_time=soon), heir)),
    }[fate]
    assert await stores.keys.replace(key, replace(after, version=key.version + 1))
    late = claim(b"l" * 32, **mine)
    await store.claim(late, 10)
    assert await store.keep(late, b"sealed", DAY)
    await store.forget_keys([key.id], NOW)
    for scope in (b"s" * 32, b"l" * 32):
        there = await store.claim(claim(scope, create_time=soon - timedelta(seconds=1), **mine), 10)
        assert (there is not None) == (fate in ("alive", "suspended", "overlap"))
    if fate == "overlap":
        assert await store.prune(soon, 10) == 2


async def test_two_nodes_make_one_answer(database: Database) -> None:
    """One of them calls its upstream, the other waits and sends what was kept; a dead one's claim runs out."""
    desks = [Desk(store=SqlReplayStore(database), wait_s=5.0) for _ in range(2)]
    answers = await asyncio.gather(*(desk.create() for desk in desks for _ in range(5)))
    assert sum(desk.house.upstream.calls for desk in desks) == 1
    assert sum(not one.account.replay_of for one in answers) == 1
    assert len({one.id for one in answers}) == 1
    one, other = (Desk(store=SqlReplayStore(database), wait_s=0.05) for _ in range(2))
    one.house.upstream.gate.clear()
    dead = asyncio.create_task(one.create("b"))
    await settled(lambda: one.house.upstream.calls == 1)
    assert (await refused(other.create("b"))).code == "idempotency_in_progress"
    other.clock.advance(31)
    assert (await other.create("b")).account.replay_of == ""
    one.house.upstream.gate.set()
    assert [warning.field for warning in (await dead).warnings] == ["idempotency_key"]
    assert (await other.create("b")).account.replay_of
