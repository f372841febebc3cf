"""The pepper of a node is the one of its database, or the node is refused."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from tests.stores.old_schemas import make_first_schema

from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.startup import StartupError
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.peppers import check_peppers

NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def test_an_empty_database_takes_the_first_pepper_and_refuses_others(database: Database) -> None:
    """The same one is welcome again; the line about another says what to do and no byte of it."""
    ours, other = os.urandom(32), os.urandom(32)
    for _ in range(2):
        await check_peppers(database, PepperRing.of(ours).checks, NOW)
    with pytest.raises(StartupError, match=r"server\.pepper") as caught:
        await check_peppers(database, PepperRing.of(other).checks, NOW)
    assert "\n" not in str(caught.value)
    await check_peppers(database, PepperRing.of(ours).checks, NOW)


async def test_a_ring_may_bring_new_peppers_beside_one_that_is_known(database: Database) -> None:
    """So that they rotate without a cut: afterwards a node with the new one alone is welcome, too."""
    old, new = os.urandom(32), os.urandom(32)
    await check_peppers(database, PepperRing("pep_1", {"pep_1": old}).checks, NOW)
    await check_peppers(database, PepperRing("pep_2", {"pep_1": old, "pep_2": new}).checks, NOW)
    await check_peppers(database, PepperRing("pep_2", {"pep_2": new}).checks, NOW)


async def test_an_id_stands_for_one_pepper(database: Database) -> None:
    """A ring with a good pepper and a mistaken one is refused as a whole, and nothing of it is kept."""
    old, new = os.urandom(32), os.urandom(32)
    await check_peppers(database, PepperRing("pep_1", {"pep_1": old}).checks, NOW)
    for ring in ({"pep_1": new}, {"pep_1": new, "pep_2": old}):
        with pytest.raises(StartupError):
            await check_peppers(database, PepperRing("pep_1", ring).checks, NOW)
    async with database.read() as connection:
        assert (await connection.execute(text("SELECT id FROM peppers"))).scalars().all() == ["pep_1"]


async def test_keys_that_are_older_than_the_table_say_what_they_were_made_under(database: Database) -> None:
    """A database of an earlier version is not taken over by a node with another pepper."""
    async with database.transaction() as connection:
        await connection.run_sync(lambda sync: make_first_schema(sync, schema=False))
    other, ours = os.urandom(32), os.urandom(32)
    with pytest.raises(StartupError):
        await check_peppers(database, PepperRing.of(other).checks, NOW)
    await check_peppers(database, PepperRing("pep_old", {"pep_old": ours}).checks, NOW)
    with pytest.raises(StartupError):
        await check_peppers(database, PepperRing("pep_old", {"pep_old": other}).checks, NOW)


def test_a_check_value_tells_nothing_else() -> None:
    """It is neither a digest of a secret nor anything that is derived from the pepper for another use."""
    ring = PepperRing("pep_1", {"pep_1": os.urandom(32)})
    assert ring.checks["pep_1"] not in (ring.digest(""), ring.derive(""), ring.derive("pepper check"))
    assert len(ring.checks["pep_1"]) == 32
