"""The pepper of a node is the one of its database, or the node is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from tests.stores.old_schemas import make_first_schema
from tests.stores.records import keep

from tokendance.ids import new_id
from tokendance_server.domain.catalogue.entries import Edit, Entry, EntryKind, ProviderSpec
from tokendance_server.domain.catalogue.seals import ProviderSeals
from tokendance_server.domain.keys.key import Key, KeyQuota, KeySecret, KeyState, Rotation
from tokendance_server.domain.keys.last_use import Redigest
from tokendance_server.domain.keys.secrets import PepperRing, mint, pepper_id
from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.domain.sealing import KeyRing, ring_key_id
from tokendance_server.startup import StartupError
from tokendance_server.stores.sql.catalogue import SqlCatalogueStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.stores.sql.peppers import check_peppers, check_ring

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
    """So that they rotate without a cut: afterwards, where no key needs the old, a node with the new one is welcome."""
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


async def test_a_node_without_a_pepper_that_keys_need_is_refused(database: Database) -> None:
    """Until the last of them was digested anew, expired or revoked; the line names the pepper and how many."""
    old, new = os.urandom(32), os.urandom(32)
    both, after = PepperRing.of(new, old), PepperRing.of(new)
    await check_peppers(database, both.checks, NOW)
    key, secret = await _key_under(database, PepperRing.of(old))
    with pytest.raises(StartupError, match=f"1 secrets .* {pepper_id(old)}"):
        await check_peppers(database, after.checks, NOW)
    await check_peppers(database, both.checks, NOW)
    store = SqlKeyStore(database)
    await store.redigest([Redigest(key.secrets[0].digest, both.digest(secret), both.active_id)])
    await check_peppers(database, after.checks, NOW)


async def test_what_works_no_more_needs_no_pepper(database: Database) -> None:
    """A key that was revoked, and one that has expired."""
    old, new = os.urandom(32), os.urandom(32)
    await check_peppers(database, PepperRing.of(new, old).checks, NOW)
    key, _ = await _key_under(database, PepperRing.of(old))
    await SqlKeyStore(database).replace(key, replace(key, state=KeyState.REVOKED, version=2))
    await _key_under(database, PepperRing.of(old), expire_time=NOW)
    await check_peppers(database, PepperRing.of(new).checks, NOW)


async def _key_under(database: Database, ring: PepperRing, **fields: Any) -> tuple[Key, str]:
    """Add a key whose secret was digested under a ring's pepper in force."""
    organization, team, member, secret = new_id("org"), new_id("team"), new_id("user"), mint()
    place = Organization(organization, "Acme", NOW), Team(organization, team, "T", NOW)
    await keep(SqlPeopleStore(database), *place, Member(organization, member, "M", NOW))
    key = Key(
        organization,
        new_id("key"),
        purpose="Reports",
        owner_id=member,
        team_id=team,
        quota=KeyQuota(inherited_from=f"organizations/{organization}"),
        rotation=Rotation(86_400, member, NOW),
        create_time=NOW,
        update_time=NOW,
        secrets=(KeySecret(ring.digest(secret), ring.active_id, NOW),),
        **fields,
    )
    await SqlKeyStore(database).add(key, "", b"")
    return key, secret


async def test_a_ring_is_compared_like_peppers(database: Database) -> None:
    """Any ring is welcome while nothing is sealed; afterwards only one that opens it."""
    old, new = os.urandom(32), os.urandom(32)
    await check_ring(database, KeyRing([old]).checks, NOW)
    await check_ring(database, KeyRing([new]).checks, NOW)
    spec = ProviderSpec(kind="openai", base_url="https://a.example/v1")
    sealed = ProviderSeals(KeyRing([old])).with_credential("a", spec, "sk-1")
    made = Entry("a", sealed, NOW, NOW)
    await SqlCatalogueStore(database).edit(lambda rows: Edit(EntryKind.PROVIDER, "a", NOW, made))
    with pytest.raises(StartupError, match=f"1 credentials .* {ring_key_id(old)}"):
        await check_ring(database, KeyRing([new]).checks, NOW)
    await check_ring(database, KeyRing([new, old]).checks, NOW)
    with pytest.raises(StartupError, match="has the id of another one"):
        await check_ring(database, {ring_key_id(old): bytes(32)}, NOW)
