"""Limits in SQL: found by subject, of a key also those it was made with, replaced by version, each change told."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.stores.records import keep

from tokendance.ids import new_id
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.keys.key import Key, KeyQuota, KeySecret, LimitRule, Rotation
from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.domain.quota.claims import REQUESTS
from tokendance_server.domain.quota.store import Quota, QuotaFilter, SubjectKind
from tokendance_server.domain.quota.windows import DAY, MINUTE
from tokendance_server.stores.sql.changes import SqlChangeFeed
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.stores.sql.quotas import SqlQuotaStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 6, 2, 12, tzinfo=UTC)
PER_DAY = LimitRule(REQUESTS, DAY, 5)
PER_MINUTE = LimitRule(REQUESTS, MINUTE, 2**62, soft=True, model="small")


class Place:
    """One organization with one team, and the store of its limits."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = SqlQuotaStore(database)
        self.organization_id, self.team_id = new_id("org"), new_id("team")
        self.organization = f"organizations/{self.organization_id}"
        self.team = f"{self.organization}/teams/{self.team_id}"

    async def fill(self) -> None:
        people = SqlPeopleStore(self.database)
        await keep(people, Organization(self.organization_id, "Acme", NOW))
        await keep(people, Team(self.organization_id, self.team_id, "Builders", NOW))

    def quota(self, subject: str, *limits: LimitRule, version: int = 1) -> Quota:
        return Quota(subject, limits, NOW, version)


@pytest.fixture
async def place(database: Database) -> Place:
    """Each database, with one organization."""
    found = Place(database)
    await found.fill()
    return found


async def test_what_was_put_is_got(place: Place) -> None:
    """Every field of every limit, the largest numbers included, and the change is told in the feed."""
    nothing = await place.store.get(place.team)
    assert (nothing.limits, nothing.version, nothing.etag) == ((), 0, '"0"')
    wanted = place.quota(place.team, PER_DAY, PER_MINUTE)
    assert await place.store.put(nothing, wanted, None)
    assert await place.store.get(place.team) == wanted
    assert await place.store.limits([place.team, place.organization]) == {place.team: (PER_DAY, PER_MINUTE)}
    last = await SqlChangeFeed(place.database).latest()
    assert last is not None
    assert (last.kind, last.name) == (ChangeKind.LIMIT, place.team)


async def test_only_the_version_that_was_read_is_replaced(place: Place) -> None:
    """Of two that read the same, one wins; also where there was nothing before."""
    nothing = await place.store.get(place.team)
    first, second = place.quota(place.team, PER_DAY), place.quota(place.team, PER_MINUTE)
    won = await asyncio.gather(place.store.put(nothing, first, None), place.store.put(nothing, second, None))
    assert sorted(won) == [False, True]
    kept = await place.store.get(place.team)
    after = replace(kept, limits=(), version=2, update_time=LATER)
    assert await place.store.put(kept, after, None)
    assert not await place.store.put(kept, replace(after, limits=(PER_DAY,)), None)
    assert await place.store.get(place.team) == after


async def test_lists_are_narrowed_and_cut(place: Place) -> None:
    """By organization, by kind, by what a caller may see, and behind a subject."""
    for subject in (place.organization, place.team):
        await place.store.put(await place.store.get(subject), place.quota(subject, PER_DAY), None)

    async def subjects(wanted: QuotaFilter, after: str = "", limit: int = 10) -> list[str]:
        return [one.subject for one in await place.store.list(wanted, after, limit)]

    own = QuotaFilter(place.organization_id)
    assert await subjects(own) == [place.organization, place.team]
    assert await subjects(own, limit=1) == [place.organization]
    assert await subjects(own, after=place.organization) == [place.team]
    assert await subjects(replace(own, kind=SubjectKind.ORGANIZATION)) == [place.organization]
    assert await subjects(replace(own, kind=SubjectKind.TEAM)) == [place.team]
    assert await subjects(replace(own, kind=SubjectKind.KEY)) == []
    assert await subjects(replace(own, subjects=frozenset({place.team}))) == [place.team]
    assert await subjects(QuotaFilter(new_id("org"))) == []


async def test_keys_that_were_made_with_limits_are_listed(place: Place) -> None:
    """Until others are set, those are a key's limits; a revoked key has none any more."""
    member = new_id("user")
    await keep(SqlPeopleStore(place.database), Member(place.organization_id, member, "x", NOW))

    async def made(*limits: LimitRule, revoked: bool = False) -> str:
        key = Key(
            organization_id=place.organization_id,
            id=new_id("key"),
            purpose="x",
            owner_id=member,
            team_id=place.team_id,
            quota=KeyQuota(limits=limits) if limits else KeyQuota(inherited_from=place.organization),
            rotation=Rotation(86_400, member, LATER),
            create_time=NOW,
            update_time=NOW,
            secrets=(KeySecret(os.urandom(32), "pep_1", NOW),),
            revoke_time=NOW if revoked else None,
        )
        await SqlKeyStore(place.database).add(key, "", b"f" * 32)
        return f"{place.organization}/keys/{key.id}"

    limited, plain, _ = await made(PER_DAY), await made(), await made(PER_DAY, revoked=True)
    own = QuotaFilter(place.organization_id)
    assert await place.store.list(own, "", 10) == [Quota(limited, (PER_DAY,))]
    everybody = [place.organization, limited, plain, f"{place.organization}/members/{member}", place.team]
    found = await place.store.list(replace(own, unlimited=True), "", 10)
    assert [one.subject for one in found] == sorted(everybody)
    assert [bool(one.limits) for one in found].count(True) == 1
    await place.store.put(await place.store.get(limited), place.quota(limited, PER_MINUTE), None)
    (changed,) = await place.store.list(replace(own, kind=SubjectKind.KEY), "", 10)
    assert changed.limits == (PER_MINUTE,)


async def test_what_is_known_of_a_subject(place: Place) -> None:
    """Its name for people, and nothing of what is not there or in another organization."""
    for subject, name in ((place.organization, "Acme"), (place.team, "Builders")):
        found = await place.store.place(subject)
        assert found is not None
        assert found.display_name == name
    elsewhere = f"organizations/{new_id('org')}"
    for subject in (elsewhere, f"{elsewhere}/teams/{place.team_id}", f"{place.organization}/keys/{new_id('key')}"):
        assert await place.store.place(subject) is None
    assert await place.store.name_of(SubjectKind.TEAM, place.team_id) == place.team
    assert await place.store.name_of(SubjectKind.TEAM, new_id("team")) == ""
