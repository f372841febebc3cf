"""What happens to a key after it was made: updated, rotated, suspended, resumed, revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.server.domain.house import OPERATOR, START, House, admin_of, draft_for

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.ids import new_id
from tokendance_server.domain.keys.key import Key, KeyDraft, KeyQuota, KeyState
from tokendance_server.domain.keys.life import LONGEST_OVERLAP_S, MOST_SECRETS
from tokendance_server.domain.keys.rules import DAY_S
from tokendance_server.domain.organizations import FirstNames, Member
from tokendance_server.domain.principals import Principal

Change = Callable[[House, Principal, str], Awaitable[object]]

NEW: KeyDraft = KeyDraft("New", "", "", KeyQuota(), 0, "")
CHANGES: dict[str, Change] = {
    "update": lambda house, caller, name: house.life.update(caller, name, NEW, frozenset({"purpose"})),
    "rotate": lambda house, caller, name: house.life.rotate(caller, name),
    "revoke": lambda house, caller, name: house.life.revoke(caller, name),
    "suspend": lambda house, caller, name: house.life.suspend(caller, name),
    "resume": lambda house, caller, name: house.life.resume(caller, name),
}


class Tenancy:
    """A house with one key."""

    def __init__(self, house: House, names: FirstNames, key: Key, secret: str) -> None:
        self.house = house
        self.names = names
        self.key = key
        self.secret = secret
        self.life = house.life
        self.name = key.name

    async def update(self, etag: str = "", **changes: Any) -> Key:
        draft = replace(draft_for(self.names), **changes)
        return await self.life.update(OPERATOR, self.name, draft, frozenset(changes), etag)

    async def code_of(self, secret: str) -> str:
        try:
            await self.house.verifier.verify(secret)
        except GatewayError as error:
            return error.code
        return "ok"

    async def changes(self) -> int:
        return len(await self.house.store.changes.since(0, 1000))


@pytest.fixture
async def home(house: House) -> Tenancy:
    """The key is used once, so that it is remembered."""
    names = await house.open()
    key, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    await house.verifier.verify(secret)
    return Tenancy(house, names, key, secret)


async def _refusal(awaitable: Awaitable[object]) -> tuple[str, str | None]:
    with pytest.raises(GatewayError) as caught:
        await awaitable
    return caught.value.code, caught.value.param


async def test_an_update_changes_what_it_names_and_nothing_else(home: Tenancy) -> None:
    """The version counts, the time is kept, and calls with the key see it at once."""
    home.house.clock.advance(60)
    changed = await home.update(allowed_models=("a",), labels={"x": "y"})
    expected = replace(
        home.key,
        allowed_models=("a",),
        labels={"x": "y"},
        update_time=START + timedelta(seconds=60),
        version=2,
    )
    assert changed == expected
    assert await home.house.keys.get(OPERATOR, home.name) == expected
    assert (await home.house.verifier.verify(home.secret)).allowed_models == {"a"}
    assert await home.changes() == 2


async def test_an_update_that_changes_nothing_writes_nothing(home: Tenancy) -> None:
    """A repeat is harmless, and no node forgets anything for it."""
    assert await home.update(purpose=home.key.purpose) == home.key
    assert await home.changes() == 1


async def test_everything_about_a_key_can_be_changed(home: Tenancy) -> None:
    """Owner, team, quota, rotation, expiry, restrictions."""
    member = new_id("user")
    await home.house.organization_store.add_member(Member(home.key.organization_id, member, "M", START))
    changed = await home.update(
        purpose="New",
        owner=f"{home.names.organization}/members/{member}",
        quota=KeyQuota(inherited_from=home.names.team),
        rotation_period_s=30 * DAY_S,
        responsible=f"{home.names.organization}/members/{member}",
        expire_time=START + timedelta(days=9),
        allowed_networks=("10.0.0.0/8",),
        excluded_route_tags=("eu",),
    )
    assert (changed.purpose, changed.owner_id, changed.rotation.responsible_id) == ("New", member, member)
    assert changed.quota == KeyQuota(inherited_from=home.names.team)
    assert changed.rotation.due_time == START + timedelta(days=30)
    assert changed.expire_time == START + timedelta(days=9)
    assert (changed.allowed_networks, changed.excluded_route_tags) == (("10.0.0.0/8",), ("eu",))


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"purpose": ""}, ("invalid_request", "key.purpose")),
        ({"purpose": "a\r\nb"}, ("invalid_request", "key.purpose")),
        ({"owner": ""}, ("invalid_request", "key.owner")),
        ({"quota": KeyQuota()}, ("invalid_request", "key.quota")),
        ({"rotation_period_s": 1}, ("invalid_request", "key.rotation.period")),
        ({"expire_time": START}, ("invalid_request", "key.expire_time")),
        ({"allowed_networks": ("%",)}, ("invalid_request", "key.allowed_networks[0]")),
        ({"team": f"organizations/{new_id('org')}/teams/{new_id('team')}"}, ("not_found", "key.team")),
    ],
)
async def test_an_updated_key_keeps_the_rules_of_a_new_one(
    home: Tenancy, changes: dict[str, Any], refusal: tuple[str, str]
) -> None:
    """What is required stays required."""
    assert await _refusal(home.update(**changes)) == refusal
    assert await home.house.keys.get(OPERATOR, home.name) == home.key


@pytest.mark.parametrize(("field", "collection", "prefix"), [("owner", "members", "user"), ("team", "teams", "team")])
async def test_an_update_cannot_name_who_is_not_there(home: Tenancy, field: str, collection: str, prefix: str) -> None:
    """As at creation."""
    nobody = f"{home.names.organization}/{collection}/{new_id(prefix)}"
    assert await _refusal(home.update(**{field: nobody})) == ("not_found", f"key.{field}")


async def test_an_etag_of_another_version_is_a_conflict(home: Tenancy) -> None:
    """An update and a rotation that were decided upon an older state change nothing."""
    await home.update(etag=home.key.etag, purpose="Theirs")
    assert await _refusal(home.update(etag=home.key.etag, purpose="Mine")) == ("version_conflict", "etag")
    for etag in (home.key.etag, "2", 'W/"2"', "*"):
        assert await _refusal(home.life.rotate(OPERATOR, home.name, etag=etag)) == ("version_conflict", "etag")
    assert (await home.update(etag='"2"', purpose="Mine")).purpose == "Mine"


async def test_an_expired_key_can_be_changed_and_given_more_time(home: Tenancy) -> None:
    """Its past end refuses only itself."""
    await home.update(expire_time=START + timedelta(seconds=1))
    home.house.clock.advance(1)
    assert await home.code_of(home.secret) == "key_expired"
    assert (await home.update(purpose="New")).state_at(home.house.clock.now()) is KeyState.EXPIRED
    await home.update(expire_time=None)
    assert await home.code_of(home.secret) == "ok"


async def test_rotation_lets_the_old_secret_live_to_the_second(home: Tenancy) -> None:
    """Both work until then, the old one not a moment longer, and the holder learns why."""
    home.house.clock.advance(10)
    rotated = await home.life.rotate(OPERATOR, home.name, overlap_s=3600)
    now = START + timedelta(seconds=10)
    assert rotated.old_secret_expire_time == now + timedelta(hours=1)
    assert rotated.secret
    assert rotated.secret != home.secret
    key = rotated.key
    assert key == await home.house.keys.get(OPERATOR, home.name)
    assert (key.secret_prefix, key.secret_suffix) == (rotated.secret[:8], rotated.secret[-4:])
    assert (key.rotate_time, key.update_time, key.version) == (now, now, 2)
    assert key.rotation.due_time == now + timedelta(seconds=key.rotation.period_s)
    home.house.clock.advance(3599.999)
    assert [await home.code_of(one) for one in (home.secret, rotated.secret)] == ["ok", "ok"]
    home.house.clock.advance(0.001)
    assert [await home.code_of(one) for one in (home.secret, rotated.secret)] == ["key_expired", "ok"]
    with pytest.raises(GatewayError, match="replaced by a rotation"):
        await home.house.verifier.verify(home.secret)


async def test_rotation_without_an_overlap_ends_every_old_secret_now(home: Tenancy) -> None:
    """A leaked key: also while the overlap of an earlier rotation runs, and without an etag."""
    second = await home.life.rotate(OPERATOR, home.name)
    third = await home.life.rotate(OPERATOR, home.name, overlap_s=0)
    assert [await home.code_of(one) for one in (home.secret, second.secret, third.secret)] == [
        "key_expired",
        "key_expired",
        "ok",
    ]
    assert third.old_secret_expire_time == START


async def test_during_an_overlap_only_who_knows_the_version_rotates_again(home: Tenancy) -> None:
    """Two people who rotate one after the other would otherwise take the first one's new secret away."""
    first = await home.life.rotate(OPERATOR, home.name, overlap_s=600)
    with pytest.raises(GatewayError) as caught:
        await home.life.rotate(OPERATOR, home.name)
    assert caught.value.code == "failed_precondition"
    assert caught.value.metadata["old_secret_expire_time"] == "2026-06-01T12:10:00Z"
    second = await home.life.rotate(OPERATOR, home.name, overlap_s=3600, etag=first.key.etag)
    assert [await home.code_of(one) for one in (home.secret, first.secret, second.secret)] == ["ok"] * 3
    home.house.clock.advance(600)
    assert [await home.code_of(one) for one in (home.secret, first.secret)] == ["key_expired", "ok"]
    home.house.clock.advance(3000)
    third = await home.life.rotate(OPERATOR, home.name)
    assert [await home.code_of(one) for one in (first.secret, second.secret, third.secret)] == [
        "key_expired",
        "ok",
        "ok",
    ]


async def test_of_twenty_rotations_at_once_one_wins(home: Tenancy) -> None:
    """The others get no secret, and the winner's works."""
    for etag in ("", '"2"'):
        home.house.clock.advance(2 * DAY_S)
        results = await asyncio.gather(
            *(home.life.rotate(OPERATOR, home.name, etag=etag) for _ in range(20)), return_exceptions=True
        )
        won = [result for result in results if not isinstance(result, BaseException)]
        assert len(won) == 1
        assert await home.code_of(won[0].secret) == "ok"
    assert (await home.house.keys.get(OPERATOR, home.name)).version == 3


async def test_a_repeated_rotation_returns_the_key_without_its_secret(home: Tenancy) -> None:
    """A caller that lost the answer does not rotate twice; what it asked must be the same."""
    first = await home.life.rotate(OPERATOR, home.name, overlap_s=60, request_id="r")
    home.house.clock.advance(30)
    again = await home.life.rotate(OPERATOR, home.name, overlap_s=60, request_id="r")
    assert (again.key, again.secret) == (first.key, "")
    assert again.old_secret_expire_time == first.old_secret_expire_time
    for changes in ({"overlap_s": 61}, {"overlap_s": 60, "etag": '"1"'}):
        other: dict[str, Any] = changes
        refused = home.life.rotate(OPERATOR, home.name, request_id="r", **other)
        assert await _refusal(refused) == ("idempotency_conflict", "request_id")
    key, _ = await home.house.keys.create(OPERATOR, home.names.organization, draft_for(home.names))
    refused = home.life.rotate(OPERATOR, key.name, overlap_s=60, request_id="r")
    assert await _refusal(refused) == ("idempotency_conflict", "request_id")
    results = await asyncio.gather(*(home.life.rotate(OPERATOR, key.name, request_id="at once") for _ in range(20)))
    assert len({result.key.version for result in results}) == 1
    assert len([result for result in results if result.secret]) == 1


async def test_old_secrets_are_bounded(home: Tenancy) -> None:
    """A key that is rotated again and again keeps the newest only, and refuses to let more of them live."""
    key = home.key
    for _ in range(MOST_SECRETS + 3):
        key = (await home.life.rotate(OPERATOR, home.name, overlap_s=0)).key
    assert len(key.secrets) == MOST_SECRETS
    home.house.clock.advance(1)
    for _ in range(MOST_SECRETS - 1):
        key = (await home.life.rotate(OPERATOR, home.name, overlap_s=DAY_S, etag=key.etag)).key
    refused = home.life.rotate(OPERATOR, home.name, overlap_s=DAY_S, etag=key.etag)
    assert await _refusal(refused) == ("failed_precondition", "name")
    assert (await home.life.rotate(OPERATOR, home.name, overlap_s=0)).secret


@pytest.mark.parametrize("overlap_s", [-1, LONGEST_OVERLAP_S + 1])
async def test_an_overlap_has_bounds(home: Tenancy, overlap_s: int) -> None:
    """An old secret does not live on for good."""
    refused = home.life.rotate(OPERATOR, home.name, overlap_s=overlap_s)
    assert await _refusal(refused) == ("invalid_request", "overlap")


async def test_a_revoked_key_is_refused_at_once_and_for_good(home: Tenancy) -> None:
    """A repeat changes nothing, and nothing brings it back."""
    rotated = await home.life.rotate(OPERATOR, home.name)
    home.house.clock.advance(5)
    revoked = await home.life.revoke(OPERATOR, home.name)
    assert (revoked.state, revoked.revoke_time) == (KeyState.REVOKED, START + timedelta(seconds=5))
    assert [await home.code_of(one) for one in (home.secret, rotated.secret)] == ["key_revoked"] * 2
    home.house.clock.advance(5)
    assert await home.life.revoke(OPERATOR, home.name) == revoked
    for change in ("update", "rotate", "suspend", "resume"):
        assert await _refusal(CHANGES[change](home.house, OPERATOR, home.name)) == ("failed_precondition", "name")
    assert await home.changes() == 3


async def test_a_suspended_key_stops_until_it_is_resumed(home: Tenancy) -> None:
    """It can be rotated meanwhile: whoever found a leak suspends first and thinks then."""
    suspended = await home.life.suspend(OPERATOR, home.name)
    assert await home.code_of(home.secret) == "key_suspended"
    assert await home.life.suspend(OPERATOR, home.name) == suspended
    rotated = await home.life.rotate(OPERATOR, home.name, overlap_s=0)
    assert await home.code_of(rotated.secret) == "key_suspended"
    resumed = await home.life.resume(OPERATOR, home.name)
    assert await home.life.resume(OPERATOR, home.name) == resumed
    assert [await home.code_of(one) for one in (home.secret, rotated.secret)] == ["key_expired", "ok"]
    await home.life.suspend(OPERATOR, home.name)
    assert (await home.life.revoke(OPERATOR, home.name)).state is KeyState.REVOKED


async def test_a_key_that_was_not_revealed_can_only_be_revoked_or_updated(home: Tenancy) -> None:
    """Its secret is minted when its asker reveals it, never by a rotation."""
    home.house.store.put(replace(home.key, state=KeyState.PENDING, secrets=()))
    for change in ("rotate", "suspend", "resume"):
        assert await _refusal(CHANGES[change](home.house, OPERATOR, home.name)) == ("failed_precondition", "name")
    assert (await home.update(purpose="New")).purpose == "New"
    assert (await home.life.revoke(OPERATOR, home.name)).state is KeyState.REVOKED


@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_outside_the_scope_is_not_found(home: Tenancy, change: str) -> None:
    """Another tenant's key, a key that is not there, and to a member anybody else's key, all look the same."""
    other = await home.house.open_next_door()
    colleague = Principal(
        kinds=frozenset({access_pb2.CALLER_KIND_MEMBER}),
        name=f"{home.names.organization}/members/{new_id('user')}",
        organization=home.names.organization,
    )
    for caller, name in (
        (admin_of(other), home.name),
        (colleague, home.name),
        (OPERATOR, new_id("key")),
    ):
        assert await _refusal(CHANGES[change](home.house, caller, name)) == ("not_found", "name")
    assert await home.house.keys.get(OPERATOR, home.name) == home.key
    owner = replace(colleague, name=home.names.member)
    for caller in (owner, admin_of(home.names)):
        await CHANGES[change](home.house, caller, home.key.id)
        home.house.clock.advance(2 * DAY_S)


async def test_a_change_that_others_keep_overtaking_ends_in_a_conflict(home: Tenancy) -> None:
    """It is tried again a number of times, not for ever."""

    class Busy:
        """Every replacement comes too late."""

        def __getattr__(self, name: str) -> Any:
            return getattr(home.house.store, name)

        async def replace(self, *given: object, **named: object) -> bool:
            return False

    life: Any = home.life
    life._store = Busy()
    assert await _refusal(home.update(purpose="New")) == ("version_conflict", "etag")
    assert await _refusal(home.life.rotate(OPERATOR, home.name, request_id="r")) == ("version_conflict", "etag")
