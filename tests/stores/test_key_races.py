"""What happens to a key in one moment, over every store: made while its owner is stopped, rotated by two at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tests.pseudonyms import NamedAnew
from tests.stores.conftest import sql_stores

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.ids import new_id
from tokendance_server.domain.changes import ChangeKind
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import KeyDraft, KeyFilter, KeyQuota, KeyState
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.organizations import Member, MemberState, Organization, Organizations, Team
from tokendance_server.domain.people.desk import build_people
from tokendance_server.domain.principals import Principal
from tokendance_server.stores.sql.changes import record_change
from tokendance_server.stores.sql.database import Database

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
PEPPERS = PepperRing.of(bytes(range(32)))


async def _nothing() -> None:
    return None


class Interrupted:
    """A store of keys in which something else happens right before a key is written, once it was checked."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.meanwhile: Callable[[], Awaitable[Any]] = _nothing

    async def add(self, *arguments: Any) -> Any:
        await self.meanwhile()
        return await self._store.add(*arguments)

    async def replace(self, *arguments: Any, **more: Any) -> Any:
        await self.meanwhile()
        return await self._store.replace(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Town:
    """An organization with a team and three members."""

    def __init__(self, stores: Any) -> None:
        self.stores = stores
        self.clock = clock = ManualClock(START)
        self.store = Interrupted(stores.keys)
        organizations = Organizations(stores.organizations, clock)
        self.verifier = verifier = Verifier(stores.keys, PEPPERS, clock, lambda: True)
        self.people = build_people(stores.people, PEPPERS, clock, verifier, NamedAnew())
        self.keys = Keys(self.store, organizations, PEPPERS, clock, verifier.forget)
        self.life = KeyLife(self.keys, self.store, organizations, PEPPERS, clock, changed=verifier.forget)
        self.home = Organization(new_id("org"), "Home", START)
        self.team = Team(self.home.id, new_id("team"), "T", START)
        self.members = [Member(self.home.id, new_id("user"), "M", START) for _ in range(3)]

    async def open(self) -> Town:
        async with self.stores.people.tenant(self.home.id) as tenant:
            for record in (self.home, self.team, *self.members):
                await tenant.put(record, START)
        return self

    def draft(self, owner: Member, responsible: Member) -> KeyDraft:
        return KeyDraft("x", owner.name, self.team.name, KeyQuota(self.home.name), 86_400, responsible.name)

    async def create(self, owner: Member, responsible: Member) -> Any:
        return (await self.keys.create(OPERATOR, self.home.name, self.draft(owner, responsible)))[0]

    async def stop(self, member: Member) -> Any:
        return await self.people.members.suspend(OPERATOR, member.name)

    async def working(self, owner: Member) -> int:
        wanted = KeyFilter(now=START, owner_id=owner.id, state=KeyState.ACTIVE)
        return len(await self.stores.keys.list(wanted, None, 100))


@pytest.fixture
async def town(stores: Any) -> Town:
    """A town with no keys."""
    return await Town(stores).open()


async def _code(asked: Awaitable[Any]) -> str:
    try:
        await asked
    except GatewayError as error:
        return f"{error.code} {error.param or ''}".strip()
    return "ok"


@pytest.mark.parametrize(("stopped", "param"), [(0, "key.owner"), (1, "key.rotation.responsible")])
async def test_no_key_is_made_for_who_was_stopped_after_the_check(town: Town, stopped: int, param: str) -> None:
    """The check and the key are one."""
    owner, responsible, _ = town.members
    town.store.meanwhile = lambda: town.stop(town.members[stopped])
    assert await _code(town.create(owner, responsible)) == f"not_found {param}"
    assert await town.working(owner) == 0


@pytest.mark.parametrize(("field", "param"), [("owner", "key.owner"), ("responsible", "key.rotation.responsible")])
async def test_no_key_goes_to_who_was_stopped_after_the_check(town: Town, field: str, param: str) -> None:
    """By an update likewise; who was stopped with the key as it is hinders no other change of it."""
    first, second, third = town.members
    key = await town.create(first, second)
    town.store.meanwhile = lambda: town.stop(third)
    wanted = replace(town.draft(first, second), **{field: third.name})  # type: ignore[arg-type]
    assert await _code(town.life.update(OPERATOR, key.name, wanted, frozenset({field}))) == f"not_found {param}"
    town.store.meanwhile = _nothing
    await town.stop(second)
    purpose = replace(town.draft(first, second), purpose="y")
    assert await _code(town.life.update(OPERATOR, key.name, purpose, frozenset({"purpose"}))) == "ok"


async def test_of_keys_made_while_their_owner_is_stopped_none_works(town: Town) -> None:
    """Whoever comes first: the stopping finds the key, or the key finds its owner stopped. Nobody waits in a circle."""
    owner, responsible, _ = town.members
    for turn in range(3):
        creating = [_code(town.create(owner, responsible)) for _ in range(5)]
        codes = await asyncio.gather(*creating[:3], _code(town.stop(owner)), *creating[3:])
        assert set(codes) <= {"ok", "not_found key.owner"}, turn
        assert await town.working(owner) == 0, turn
        async with town.stores.people.tenant(town.home.id) as tenant:
            stopped = await tenant.member(owner.id)
            assert stopped.state is MemberState.SUSPENDED
        await town.people.members.resume(OPERATOR, owner.name)


async def test_a_repeat_finds_its_key_whatever_happened_since(town: Town) -> None:
    """Its owner stopped, its end passed: the answer was lost, and the key is there."""
    owner, responsible, _ = town.members
    draft = replace(town.draft(owner, responsible), expire_time=START + timedelta(hours=1))
    made, _ = await town.keys.create(OPERATOR, town.home.name, draft, "r")
    town.clock.advance(7200)
    await town.stop(owner)
    again, secret = await town.keys.create(OPERATOR, town.home.name, draft, "r")
    assert (again.id, secret) == (made.id, "")
    other = town.keys.create(OPERATOR, town.home.name, replace(draft, purpose="y"), "r")
    assert await _code(other) == "idempotency_conflict request_id"


async def test_of_a_key_and_the_end_of_its_team_one_comes_first(town: Town) -> None:
    """The key is there or the team is gone, and both sides are told so."""
    owner, responsible, _ = town.members
    creating = [_code(town.create(owner, responsible)) for _ in range(3)]
    *made, deleted = await asyncio.gather(*creating, _code(town.people.teams.delete(OPERATOR, town.team.name)))
    assert set(made) <= {"ok", "not_found key.team"}
    assert deleted == ("failed_precondition name" if "ok" in made else "ok")


async def test_no_key_is_made_for_a_team_that_went_after_the_check(town: Town) -> None:
    """Nor does one go there."""
    owner, responsible, _ = town.members
    town.store.meanwhile = lambda: town.people.teams.delete(OPERATOR, town.team.name)
    assert await _code(town.create(owner, responsible)) == "not_found key.team"


async def test_no_key_of_a_stopped_owner_is_resumed(town: Town) -> None:
    """Neither later nor in the moment of the stopping; with another owner it is."""
    first, second, third = town.members
    key = await town.create(first, second)
    await town.life.suspend(OPERATOR, key.name)
    town.store.meanwhile = lambda: town.stop(first)
    assert await _code(town.life.resume(OPERATOR, key.name)) == "failed_precondition name"
    town.store.meanwhile = _nothing
    assert await _code(town.life.resume(OPERATOR, key.name)) == "failed_precondition name"
    await town.stop(second)
    await town.life.update(OPERATOR, key.name, town.draft(third, second), frozenset({"owner"}))
    assert await _code(town.life.resume(OPERATOR, key.name)) == "ok"


async def test_who_stops_a_member_waits_for_a_key_that_is_being_made(postgres_url: str) -> None:
    """The key is checked and written but not committed when its owner is stopped: it is stopped with its owner."""
    database = await Database.open_postgresql(postgres_url)
    town = await Town(sql_stores(database)).open()
    owner, responsible, _ = town.members
    async with asyncio.TaskGroup() as tasks, database.transaction() as connection:
        # Whoever writes a key waits here for its last step.
        await record_change(connection, ChangeKind.TEAM, town.team.name, START)
        creating = tasks.create_task(_code(town.create(owner, responsible)))
        await _until_waiting(database, 1)
        stopping = tasks.create_task(_code(town.stop(owner)))
        await _until_waiting(database, 2)
    assert (creating.result(), stopping.result()) == ("ok", "ok")
    assert await town.working(owner) == 0
    await database.close()


async def _until_waiting(database: Database, count: int) -> None:
    """Wait until so many transactions of this database wait for another."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(5):
        waiting = 0
        while waiting < count:
            async with database.read() as connection:
                waiting = (await connection.execute(query)).scalar_one()
            await asyncio.sleep(0.01)


async def test_of_rotations_at_once_one_wins(town: Town) -> None:
    """Whichever way they are asked for; the secret of the winner and the one before it work, and no others."""
    owner, responsible, _ = town.members
    for options in ({}, {"etag": '"1"'}, {"overlap_s": 0, "etag": '"1"'}):
        made, old = await town.keys.create(OPERATOR, town.home.name, town.draft(owner, responsible))

        async def rotate(name: str = made.name, more: dict[str, Any] = options) -> str:
            try:
                return (await town.life.rotate(OPERATOR, name, **more)).secret
            except GatewayError as error:
                return error.code

        results = await asyncio.gather(*(rotate() for _ in range(6)))
        (new,) = [one for one in results if one.startswith("tdk_")]
        assert {one for one in results if one != new} <= {"version_conflict", "failed_precondition"}
        kept = await town.stores.keys.get(made.id)
        assert (len(kept.secrets), kept.version) == (2, 2)
        old_works = "key_expired" if "overlap_s" in options else "ok"
        assert [await _code(town.verifier.verify(secret)) for secret in (new, old)] == ["ok", old_works]


async def test_rotations_at_once_under_one_request_id_are_one(town: Town) -> None:
    """The others learn that it was done, and see no secret."""
    owner, responsible, _ = town.members
    key = await town.create(owner, responsible)
    rotated = await asyncio.gather(*(town.life.rotate(OPERATOR, key.name, request_id="r") for _ in range(6)))
    assert sorted(bool(one.secret) for one in rotated) == [*[False] * 5, True]
    assert len({one.old_secret_expire_time for one in rotated}) == 1
