"""What every store of keys must do."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.stores.records import keep

from tokendance.gateway.v1 import quota_pb2 as q
from tokendance.ids import new_id
from tokendance_server.domain.keys.key import (
    Key,
    KeyCursor,
    KeyFilter,
    KeyQuota,
    KeySecret,
    KeyState,
    LimitRule,
    Rotation,
)
from tokendance_server.domain.keys.last_use import KeyUse, Redigest
from tokendance_server.domain.keys.store import RotationMark
from tokendance_server.domain.organizations import Member, Organization, Team

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
DAY = timedelta(days=1)
MARK = b"f" * 32


class Tenant:
    """An organization with two teams and two members, to which keys can belong."""

    def __init__(self) -> None:
        self.organization = new_id("org")
        self.teams = [new_id("team") for _ in range(2)]
        self.members = [new_id("user") for _ in range(2)]

    async def open(self, stores: Any) -> Tenant:
        teams = [Team(self.organization, team, "x", NOW) for team in self.teams]
        members = [Member(self.organization, member, "x", NOW) for member in self.members]
        await keep(stores.people, Organization(self.organization, "x", NOW), *teams, *members)
        return self

    def key(self, **changes: Any) -> Key:
        key = Key(
            organization_id=self.organization,
            id=new_id("key"),
            purpose="x",
            owner_id=self.members[0],
            team_id=self.teams[0],
            quota=KeyQuota(inherited_from=f"organizations/{self.organization}"),
            rotation=Rotation(86_400, self.members[1], NOW + DAY),
            create_time=NOW,
            update_time=NOW,
            secrets=(KeySecret(os.urandom(32), "pep_1", NOW),),
        )
        return replace(key, **changes)


@pytest.fixture
async def tenant(stores: Any) -> Tenant:
    """An organization that is in the stores."""
    return await Tenant().open(stores)


async def _add(stores: Any, *keys: Key) -> None:
    for key in keys:
        await stores.keys.add(key, "", MARK)


async def _list(stores: Any, **narrowed: Any) -> list[Key]:
    found: list[Key] = await stores.keys.list(KeyFilter(**{"now": NOW, **narrowed}), None, 1000)
    return found


async def test_a_key_comes_back_with_everything_it_had(stores: Any, tenant: Tenant) -> None:
    """Every field, to the microsecond, the character and the 63rd bit."""
    quota = KeyQuota(
        limits=(
            LimitRule(q.LIMIT_METRIC_COST_MICROS, q.LIMIT_WINDOW_MONTH, 2**63 - 1, soft=True, model="%_'\""),
            LimitRule(q.LIMIT_METRIC_CONCURRENT_REQUESTS, q.LIMIT_WINDOW_UNSPECIFIED, 0),
        )
    )
    moment = timedelta(microseconds=1)
    key = tenant.key(
        purpose="Ünï ☃ 👩‍💻 100%_ \\ '\" " + "p" * 100,
        quota=quota,
        rotation=Rotation(3650 * 86_400, tenant.members[0], NOW + 3650 * DAY),
        state=KeyState.SUSPENDED,
        secrets=(
            KeySecret(b"\x00" * 32, "pep_2", NOW + moment),
            KeySecret(b"\xff" * 32, "pep_1", NOW, NOW + DAY),
        ),
        secret_prefix="tdk_a1B2",
        secret_suffix="Z9z9",
        expire_time=NOW + 2 * moment,
        allowed_models=("demo-echo", "b/ü"),
        allowed_networks=("10.0.0.0/8", "2001:db8::/32"),
        labels={"env": "", "ünï": "a%_b", "z": "1", "a": "2"},
        excluded_route_tags=("eu", "us"),
        update_time=NOW + 3 * moment,
        rotate_time=NOW + 4 * moment,
        last_used_time=NOW + 5 * moment,
        revoke_time=NOW + 6 * moment,
        version=7,
    )
    assert await stores.keys.add(key, "request", MARK) == (key, MARK)
    assert await stores.keys.get(key.id) == key
    assert await stores.keys.find([b"\xff" * 32]) == key
    assert await _list(stores) == [key]
    bare = tenant.key(secrets=(), state=KeyState.PENDING)
    await _add(stores, bare)
    assert await stores.keys.get(bare.id) == bare


async def test_a_key_is_found_by_any_of_the_digests_that_were_asked_for(stores: Any, tenant: Tenant) -> None:
    """A ring of two peppers asks for two digests at once."""
    first, second = tenant.key(), tenant.key()
    await _add(stores, first, second)
    assert await stores.keys.find([os.urandom(32), second.secrets[0].digest]) == second
    assert await stores.keys.find([first.secrets[0].digest]) == first
    assert await stores.keys.find([os.urandom(32), b"", b"%"]) is None
    assert await stores.keys.find([]) is None


@pytest.mark.parametrize("key_id", ["", "%", "_", "key_%", "'", "\x00"])
async def test_no_pattern_finds_a_key(stores: Any, tenant: Tenant, key_id: str) -> None:
    """Ids are compared, never matched."""
    await _add(stores, tenant.key())
    assert await stores.keys.get(key_id) is None


async def test_a_request_id_makes_one_key_however_many_ask_at_once(stores: Any, tenant: Tenant) -> None:
    """All callers get the winner's key and its fingerprint, and nothing of the others stays."""
    keys = [tenant.key() for _ in range(20)]
    marks = [bytes([number]) * 32 for number in range(20)]
    results = await asyncio.gather(
        *(stores.keys.add(key, "same %_", mark) for key, mark in zip(keys, marks, strict=True))
    )
    winners = {(key.id, mark) for key, mark in results}
    assert len(winners) == 1
    assert winners <= {(key.id, mark) for key, mark in zip(keys, marks, strict=True)}
    assert [key.id for key in await _list(stores)] == [results[0][0].id]
    losers = [key for key in keys if key.id != results[0][0].id]
    assert [await stores.keys.find([key.secrets[0].digest]) for key in losers] == [None] * 19


async def test_request_ids_belong_to_an_organization_and_empty_ones_to_nobody(stores: Any, tenant: Tenant) -> None:
    """Two tenants may use the same one."""
    other = await Tenant().open(stores)
    keys = [tenant.key(), other.key(), tenant.key(), tenant.key()]
    for key, request_id in zip(keys, ["r", "r", "", ""], strict=True):
        assert (await stores.keys.add(key, request_id, MARK))[0] == key
    assert len(await _list(stores)) == 4


async def test_a_list_runs_from_the_newest_to_the_oldest_in_pages(stores: Any, tenant: Tenant) -> None:
    """Keys of one moment are told apart by id; every key is met once, also while others are added."""
    keys = [tenant.key(create_time=NOW + timedelta(microseconds=number // 3)) for number in range(20)]
    await _add(stores, *random.Random(7).sample(keys, 20))
    seen: list[Key] = []
    after = None
    while page := await stores.keys.list(KeyFilter(now=NOW), after, 3):
        seen += page
        after = KeyCursor(page[-1].create_time, page[-1].id)
        await _add(stores, tenant.key(create_time=NOW + DAY))
    assert seen == sorted(keys, key=lambda key: (key.create_time, key.id), reverse=True)


async def test_lists_are_narrowed_as_the_filter_says(stores: Any, tenant: Tenant) -> None:
    """Each store agrees with KeyFilter.matches on every combination."""
    other = await Tenant().open(stores)
    due, later = Rotation(86_400, tenant.members[0], NOW), Rotation(86_400, tenant.members[0], NOW + DAY)
    keys = [other.key()]
    for state in (KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.REVOKED, KeyState.PENDING):
        for expire_time in (None, NOW, NOW + timedelta(microseconds=1)):
            for number, rotation in enumerate((due, later)):
                keys.append(
                    tenant.key(
                        state=state,
                        expire_time=expire_time,
                        rotation=rotation,
                        team_id=tenant.teams[number],
                        owner_id=tenant.members[number],
                    )
                )
    await _add(stores, *keys)
    for organization in ("", tenant.organization, other.organization):
        for team in ("", tenant.teams[0]):
            for owner in ("", tenant.members[1]):
                for state_filter in (None, *KeyState):
                    for overdue in (False, True):
                        narrowed = KeyFilter(NOW, organization, team, owner, state_filter, overdue)
                        found = await stores.keys.list(narrowed, None, 1000)
                        assert {key.id for key in found} == {key.id for key in keys if narrowed.matches(key)}
    assert [key.id for key in await _list(stores, organization_id=other.organization)] == [keys[0].id]
    assert {key.state_at(NOW) for key in await _list(stores, state=KeyState.EXPIRED)} == {KeyState.EXPIRED}


@pytest.mark.parametrize("pattern", ["%", "_", "team_%", "' OR '1'='1"])
async def test_a_filter_is_compared_and_never_matched(stores: Any, tenant: Tenant, pattern: str) -> None:
    """A percent sign is no wildcard."""
    await _add(stores, tenant.key())
    assert await _list(stores, team_id=pattern) == []
    assert await _list(stores, owner_id=pattern) == []
    assert await _list(stores, organization_id=pattern) == []


async def test_a_key_is_replaced_with_its_secrets(stores: Any, tenant: Tenant) -> None:
    """Every field that can change, and neither its time of creation nor that of its last use."""
    before = tenant.key(last_used_time=NOW)
    other = tenant.key()
    await _add(stores, before, other)
    old = replace(before.secrets[0], expire_time=NOW + DAY)
    after = replace(
        before,
        purpose="%_ new",
        owner_id=tenant.members[1],
        team_id=tenant.teams[1],
        quota=KeyQuota(limits=(LimitRule(q.LIMIT_METRIC_REQUESTS, q.LIMIT_WINDOW_MINUTE, 1),)),
        rotation=Rotation(2 * 86_400, tenant.members[0], NOW + 2 * DAY),
        update_time=NOW + DAY,
        state=KeyState.REVOKED,
        # Of the same moment: the one without an end is the current one.
        secrets=(KeySecret(b"\xff" * 32, "pep_2", NOW), old),
        secret_prefix="tdk_zzzz",
        secret_suffix="zzzz",
        expire_time=NOW + DAY,
        allowed_models=("a",),
        allowed_networks=("10.0.0.0/8",),
        labels={"a": "b"},
        excluded_route_tags=("eu",),
        rotate_time=NOW + DAY,
        revoke_time=NOW + DAY,
        version=2,
    )
    moved = replace(after, create_time=NOW - DAY, last_used_time=None)
    assert await stores.keys.replace(before, moved)
    assert await stores.keys.get(before.id) == after
    for secret in after.secrets:
        assert await stores.keys.find([secret.digest]) == after
    assert await stores.keys.get(other.id) == other
    gone = replace(after, secrets=(), version=3)
    assert await stores.keys.replace(after, gone)
    assert await stores.keys.find([secret.digest for secret in after.secrets]) is None


async def test_of_many_who_replace_one_version_one_wins(stores: Any, tenant: Tenant) -> None:
    """The others change nothing, and record nothing."""
    before = tenant.key()
    await _add(stores, before)
    wanted = [
        replace(before, purpose=str(number), version=2, secrets=(KeySecret(os.urandom(32), "pep_1", NOW),))
        for number in range(20)
    ]
    won = await asyncio.gather(*(stores.keys.replace(before, one) for one in wanted))
    assert won.count(True) == 1
    winner = wanted[won.index(True)]
    assert await stores.keys.get(before.id) == winner
    assert [await stores.keys.find([one.secrets[0].digest]) for one in wanted] == [
        winner if one is winner else None for one in wanted
    ]
    told = await stores.changes.since(0, 100)
    assert [change.name for change in told if change.kind == "key"] == [before.name] * 2
    assert not await stores.keys.replace(tenant.key(), tenant.key(version=2))


async def test_a_rotation_leaves_its_mark_once(stores: Any, tenant: Tenant) -> None:
    """A request id rotates one key of an organization one time, and what it asked can be told."""
    other = await Tenant().open(stores)
    first, second, foreign = tenant.key(), tenant.key(), other.key()
    await _add(stores, first, second, foreign)
    mark = RotationMark("%_", first.id, MARK, NOW + DAY)
    assert await stores.keys.rotation_of(tenant.organization, "%_") is None
    assert await stores.keys.replace(first, replace(first, version=2), mark)
    assert await stores.keys.rotation_of(tenant.organization, "%_") == mark
    assert await stores.keys.rotation_of(other.organization, "%_") is None
    again = replace(mark, key_id=second.id)
    assert not await stores.keys.replace(second, replace(second, purpose="no", version=2), again)
    assert await stores.keys.get(second.id) == second
    assert await stores.keys.rotation_of(tenant.organization, "%_") == mark
    theirs = replace(mark, key_id=foreign.id)
    assert await stores.keys.replace(foreign, replace(foreign, version=2), theirs)
    lost = RotationMark("lost", first.id, MARK, NOW)
    assert not await stores.keys.replace(first, replace(first, version=2), lost)
    assert await stores.keys.rotation_of(tenant.organization, "lost") is None


async def test_a_caller_that_leaves_in_the_middle_harms_nobody(stores: Any, tenant: Tenant) -> None:
    """Reads and writes cut at random leave the next ones whole, and never somebody else's answer."""
    keys = [tenant.key() for _ in range(10)]
    await _add(stores, *keys)
    dice = random.Random(3)

    async def one(number: int) -> None:
        key = keys[number % 10]
        if number % 3:
            assert await stores.keys.find([key.secrets[0].digest]) == key
        else:
            await stores.keys.add(tenant.key(), f"r{number}", MARK)

    tasks = [asyncio.create_task(one(number)) for number in range(60)]
    for task in tasks:
        await asyncio.sleep(dice.random() * 0.004)
        if dice.random() < 0.4:
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results if not (result is None or isinstance(result, asyncio.CancelledError))] == []
    for key in keys:
        assert await stores.keys.find([key.secrets[0].digest]) == key
    for key in await _list(stores):
        assert len(key.secrets) == 1


async def test_times_of_last_use_move_on_and_nothing_else(stores: Any, tenant: Tenant) -> None:
    """Never back, without a new version or a recorded change; a key that is not there is passed over."""
    used, unused = tenant.key(), tenant.key()
    await _add(stores, used, unused)
    latest = await stores.changes.latest()
    for time, expected in ((NOW, NOW), (NOW - DAY, NOW), (NOW + DAY, NOW + DAY)):
        gone = KeyUse(tenant.organization, new_id("key"), time)
        foreign = KeyUse(new_id("org"), unused.id, time)
        await stores.keys.mark_used([gone, KeyUse(tenant.organization, used.id, time), foreign])
        assert await stores.keys.get(used.id) == replace(used, last_used_time=expected)
    assert await stores.changes.latest() == latest


async def test_digests_are_made_anew_and_nothing_else(stores: Any, tenant: Tenant) -> None:
    """The key is found by the fresh one only, without a new version; a digest that is not there is passed over."""
    key, other = tenant.key(), tenant.key()
    await _add(stores, key, other)
    latest = await stores.changes.latest()
    old, fresh = key.secrets[0].digest, bytes(32)
    await stores.keys.redigest(
        [Redigest(bytes(range(32)), bytes(31) + b"x", "pep_new"), Redigest(old, fresh, "pep_new")]
    )
    assert await stores.keys.find([old]) is None
    found = await stores.keys.find([fresh])
    assert found == replace(key, secrets=(replace(key.secrets[0], digest=fresh, pepper_id="pep_new"),))
    assert await stores.keys.get(other.id) == other
    assert await stores.changes.latest() == latest
