"""API keys: made, read, listed, verified."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.ids import new_id
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.key import Key, KeyDraft, KeyQuota, KeySecret, KeyState
from tokendance_server.domain.keys import KeyQuery, Keys
from tokendance_server.domain.names import child_name, organization_name
from tokendance_server.domain.organizations import FirstNames, Member, Organization, Organizations, Team
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.secrets import PepperRing, mint
from tokendance_server.stores.memory import MemoryKeyStore, MemoryOrganizationStore

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
PEPPERS = PepperRing.of(bytes(range(32)))


class CountingStore(MemoryKeyStore):
    """A store that counts reads by digest, can be made slow, and can change keys behind the cache."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def find(self, digests: Sequence[bytes]) -> Key | None:
        self.reads += 1
        found = await super().find(digests)
        await self.gate.wait()
        return found

    def put(self, key: Key) -> None:
        self._keys[key.id] = key
        for secret in key.secrets:
            self._by_digest[secret.digest] = key.id


class House:
    """One organization with its keys, and a second one next door."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.store = CountingStore()
        self.organization_store = MemoryOrganizationStore()
        self.organizations = Organizations(self.organization_store, self.clock)
        self.keys = Keys(self.store, self.organizations, PEPPERS, self.clock, cache_size=4, cache_s=5)

    async def open(self) -> FirstNames:
        names = await self.organizations.bootstrap()
        assert names is not None
        return names

    async def open_next_door(self) -> FirstNames:
        organization, team, member = new_id("org"), new_id("team"), new_id("user")
        await self.organization_store.add(Organization(organization, "Next door", START))
        await self.organization_store.add_team(Team(organization, team, "T", START))
        await self.organization_store.add_member(Member(organization, member, "M", START))
        return FirstNames(
            organization_name(organization),
            child_name(organization, "teams", team),
            child_name(organization, "members", member),
            "Next door",
        )


@pytest.fixture
def house() -> House:
    """Nobody lives there until a test opens it."""
    return House()


def _draft(names: FirstNames, purpose: str = "Reports") -> KeyDraft:
    return KeyDraft(
        purpose=purpose,
        owner=names.member,
        team=names.team,
        quota=KeyQuota(inherited_from=names.organization),
        rotation_period_s=90 * 86_400,
        responsible=names.member,
    )


def _admin_of(names: FirstNames) -> Principal:
    kinds = frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN})
    return Principal(kinds=kinds, name=names.member, organization=names.organization)


async def test_a_new_key_works_and_keeps_no_secret(house: House) -> None:
    """The caller gets the secret; what is kept is a digest, the first eight and the last four characters."""
    names = await house.open()
    draft = replace(_draft(names), allowed_models=("demo-echo",), allowed_networks=("10.0.0.0/8",), labels={"a": "b"})
    key, secret = await house.keys.create(OPERATOR, names.organization, draft)
    principal = await house.keys.verify(secret)
    assert principal.kinds == {access_pb2.CALLER_KIND_API_KEY}
    assert (principal.name, principal.key_id, principal.organization) == (key.name, key.id, names.organization)
    assert (principal.owner, principal.team) == (names.member, names.team)
    assert principal.allowed_models == {"demo-echo"}
    assert principal.allowed_networks == ("10.0.0.0/8",)
    assert principal.labels == {"a": "b"}
    assert secret not in repr(key)
    assert (key.secret_prefix, key.secret_suffix) == (secret[:8], secret[-4:])
    assert key.secrets[0].digest == PEPPERS.digest(secret)
    assert key.secrets[0].pepper_id == PEPPERS.active_id
    assert key.rotation.due_time == START + timedelta(days=90)
    assert (key.create_time, key.update_time, key.rotate_time, key.version) == (START, START, START, 1)


@pytest.mark.parametrize(
    ("field", "collection", "prefix", "param"),
    [
        ("owner", "members", "user", "key.owner"),
        ("team", "teams", "team", "key.team"),
        ("responsible", "members", "user", "key.rotation.responsible"),
    ],
)
async def test_people_and_teams_must_exist(house: House, field: str, collection: str, prefix: str, param: str) -> None:
    """Names that fit the form and mean nobody are not found, by field."""
    names = await house.open()
    nobody: dict[str, Any] = {field: f"{names.organization}/{collection}/{new_id(prefix)}"}
    draft = replace(_draft(names), **nobody)
    with pytest.raises(GatewayError) as caught:
        await house.keys.create(OPERATOR, names.organization, draft)
    assert (caught.value.code, caught.value.param) == ("not_found", param)


async def test_an_organization_outside_the_scope_is_as_absent_as_none(house: House) -> None:
    """Nobody learns which organizations there are."""
    names, other = await house.open(), await house.open_next_door()
    sentences = set()
    for caller, parent in ((_admin_of(names), other.organization), (OPERATOR, organization_name(new_id("org")))):
        with pytest.raises(GatewayError) as caught:
            await house.keys.create(caller, parent, _draft(other))
        assert (caught.value.code, caught.value.param) == ("not_found", "parent")
        sentences.add(caught.value.message)
    assert len(sentences) == 1


async def test_a_repeat_with_the_same_request_id_returns_the_key_without_its_secret(house: House) -> None:
    """A caller that lost the first answer makes no second key, and a secret is shown once."""
    names, other = await house.open(), await house.open_next_door()
    first, secret = await house.keys.create(OPERATOR, names.organization, _draft(names), "r")
    again, none = await house.keys.create(OPERATOR, names.organization, _draft(names), "r")
    assert (again, none) == (first, "")
    assert secret
    elsewhere, shown = await house.keys.create(OPERATOR, other.organization, _draft(other), "r")
    assert elsewhere.id != first.id
    assert shown
    without = [await house.keys.create(OPERATOR, names.organization, _draft(names)) for _ in range(2)]
    assert len({key.id for key, _ in without}) == 2


async def test_a_request_id_used_for_another_key_is_a_conflict(house: House) -> None:
    """The caller would get a key that it did not ask for."""
    names = await house.open()
    await house.keys.create(OPERATOR, names.organization, _draft(names), "r")
    with pytest.raises(GatewayError) as caught:
        await house.keys.create(OPERATOR, names.organization, _draft(names, "Other"), "r")
    assert (caught.value.code, caught.value.param) == ("idempotency_conflict", "request_id")


async def test_a_key_is_read_by_name_or_id_within_the_scope_only(house: House) -> None:
    """A foreign key, a missing key and a key under the wrong organization look the same."""
    names, other = await house.open(), await house.open_next_door()
    key, _ = await house.keys.create(OPERATOR, names.organization, _draft(names))
    assert await house.keys.get(OPERATOR, key.name) == key
    assert await house.keys.get(_admin_of(names), key.id) == key
    answers = set()
    for caller, name in (
        (_admin_of(other), key.name),
        (_admin_of(other), key.id),
        (OPERATOR, f"{other.organization}/keys/{key.id}"),
        (OPERATOR, new_id("key")),
    ):
        with pytest.raises(GatewayError) as caught:
            await house.keys.get(caller, name)
        answers.add((caught.value.code, caught.value.message, caught.value.param))
    assert answers == {("not_found", "There is no such key.", "name")}


async def test_pages_hold_every_key_once_newest_first(house: House) -> None:
    """Also while keys are added in between."""
    names = await house.open()
    made = []
    for number in range(7):
        house.clock.advance(0 if number % 2 else 1)
        made.append((await house.keys.create(OPERATOR, names.organization, _draft(names)))[0])
    query, seen = KeyQuery(names.organization, page_size=3), []
    while True:
        page, token = await house.keys.list(OPERATOR, query)
        seen += page
        if not token:
            break
        house.clock.advance(1)
        await house.keys.create(OPERATOR, names.organization, _draft(names, "Later"))
        query = replace(query, page_token=token)
    assert seen == sorted(made, key=lambda key: (key.create_time, key.id), reverse=True)


async def test_a_page_token_serves_its_caller_and_its_filter_only(house: House) -> None:
    """A token passed on or reused with another filter is refused."""
    names, other = await house.open(), await house.open_next_door()
    for _ in range(3):
        await house.keys.create(OPERATOR, names.organization, _draft(names))
    query = KeyQuery(names.organization, page_size=1)
    _, token = await house.keys.list(OPERATOR, query)
    for caller, changed in (
        (_admin_of(names), query),
        (OPERATOR, replace(query, team=names.team)),
        (OPERATOR, replace(query, owner=names.member)),
        (OPERATOR, replace(query, state=KeyState.ACTIVE)),
        (OPERATOR, replace(query, rotation_overdue=True)),
        (OPERATOR, replace(query, parent="organizations/-")),
        (OPERATOR, replace(query, parent=other.organization)),
    ):
        with pytest.raises(GatewayError) as caught:
            await house.keys.list(caller, replace(changed, page_token=token))
        assert caught.value.param == "page_token"
    page, _ = await house.keys.list(OPERATOR, replace(query, page_size=2, page_token=token))
    assert len(page) == 2


async def test_lists_stay_within_the_scope(house: House) -> None:
    """`organizations/-` means all that the caller may see."""
    names, other = await house.open(), await house.open_next_door()
    mine, _ = await house.keys.create(OPERATOR, names.organization, _draft(names))
    theirs, _ = await house.keys.create(OPERATOR, other.organization, _draft(other))
    everything = KeyQuery("organizations/-")
    assert {key.id for key in (await house.keys.list(OPERATOR, everything))[0]} == {mine.id, theirs.id}
    assert (await house.keys.list(_admin_of(other), everything))[0] == [theirs]
    with pytest.raises(GatewayError) as caught:
        await house.keys.list(_admin_of(other), KeyQuery(names.organization))
    assert (caught.value.code, caught.value.param) == ("not_found", "parent")
    with pytest.raises(GatewayError) as caught:
        await house.keys.list(OPERATOR, KeyQuery(names.organization, team=other.team))
    assert (caught.value.code, caught.value.param) == ("invalid_request", "team")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (KeyQuery("organizations/-", page_size=1001), "page_size"),
        (KeyQuery("organizations/-", page_size=-1), "page_size"),
        (KeyQuery("organizations/%"), "parent"),
        (KeyQuery("organizations/-", team="%"), "team"),
        (KeyQuery("organizations/-", owner="_"), "owner"),
        (KeyQuery("organizations/-", page_token="x"), "page_token"),
    ],
)
async def test_a_list_that_makes_no_sense_names_its_field(house: House, query: KeyQuery, param: str) -> None:
    """Wildcards of a database are no names."""
    with pytest.raises(GatewayError) as caught:
        await house.keys.list(OPERATOR, query)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


async def test_what_is_no_secret_never_reaches_the_store(house: House) -> None:
    """Neither another credential nor a secret that was mistyped costs a read."""
    secret = mint()
    for wrong in ("", "sk-x", secret[:-1], secret[:-1] + ("a" if secret[-1] != "a" else "b"), "\ud800" * 53):
        assert house.keys.verify_cached(wrong) is None
        with pytest.raises(GatewayError):
            await house.keys.verify(wrong)
        assert (await house.keys.check(wrong))[0] is None
    assert house.store.reads == 0


async def test_an_unknown_secret_is_asked_for_once_in_a_while(house: House) -> None:
    """A misconfigured client in a loop does not become a load on the store."""
    secret = mint()
    for _ in range(3):
        with pytest.raises(GatewayError) as caught:
            await house.keys.verify(secret)
        assert caught.value.code == "invalid_api_key"
        assert secret not in str(caught.value)
    assert house.store.reads == 1
    house.clock.advance(5)
    with pytest.raises(GatewayError):
        await house.keys.verify(secret)
    assert house.store.reads == 2


async def test_made_up_secrets_push_no_known_key_out(house: House) -> None:
    """What is remembered of unknown secrets is bounded and has a place of its own."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, _draft(names))
    await house.keys.verify(secret)
    for _ in range(20):
        with pytest.raises(GatewayError):
            await house.keys.verify(mint())
    reads = house.store.reads
    assert house.keys.verify_cached(secret) is not None
    assert house.store.reads == reads
    assert len(house.keys._unknown) == 4


async def test_a_known_key_is_read_once_in_its_time(house: House) -> None:
    """After `cache_s` seconds the store is asked again, and what changed meanwhile counts."""
    names = await house.open()
    key, secret = await house.keys.create(OPERATOR, names.organization, _draft(names))
    assert house.keys.verify_cached(secret) is None
    await house.keys.verify(secret)
    house.clock.advance(4.9)
    house.store.put(replace(key, state=KeyState.REVOKED))
    assert house.keys.verify_cached(secret) is not None
    house.clock.advance(0.1)
    assert house.keys.verify_cached(secret) is None
    with pytest.raises(GatewayError) as caught:
        await house.keys.verify(secret)
    assert caught.value.code == "key_revoked"
    with pytest.raises(GatewayError) as caught:
        house.keys.verify_cached(secret)
    assert caught.value.code == "key_revoked"


async def test_age_counts_from_before_the_read(house: House) -> None:
    """A read that took long gives an answer that is old already."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, _draft(names))
    house.store.gate.clear()
    task = asyncio.create_task(house.keys.verify(secret))
    await asyncio.sleep(0)
    house.clock.advance(6)
    house.store.gate.set()
    await task
    assert house.keys.verify_cached(secret) is None


async def test_many_who_come_at_once_share_one_read(house: House) -> None:
    """A key whose answer has just grown old is not asked for a hundred times."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, _draft(names))
    house.store.gate.clear()
    tasks = [asyncio.create_task(house.keys.verify(secret)) for _ in range(100)]
    await asyncio.sleep(0)
    house.store.gate.set()
    assert len({id(principal) for principal in await asyncio.gather(*tasks)}) == 1
    assert house.store.reads == 1


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (KeyState.REVOKED, "key_revoked"),
        (KeyState.SUSPENDED, "key_suspended"),
        (KeyState.PENDING, "invalid_api_key"),
    ],
)
async def test_a_key_that_does_not_work_says_why(house: House, state: KeyState, code: str) -> None:
    """The holder of the secret is told, cached or not, and each time by an error of its own."""
    names = await house.open()
    key, secret = await house.keys.create(OPERATOR, names.organization, _draft(names))
    house.store.put(replace(key, state=state))
    errors = []
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            await house.keys.verify(secret)
        errors.append(caught.value)
    assert [error.code for error in errors] == [code, code]
    assert errors[0] is not errors[1]
    assert house.store.reads == 1
    checked, error = await house.keys.check(secret)
    assert checked is not None
    assert error is not None
    assert (checked.id, error.code) == (key.id, code)


async def test_a_cached_key_stops_at_the_moment_it_expires(house: House) -> None:
    """Expiry is looked at on every use, not only when the store is read."""
    names = await house.open()
    draft = replace(_draft(names), expire_time=START + timedelta(seconds=2))
    key, secret = await house.keys.create(OPERATOR, names.organization, draft)
    await house.keys.verify(secret)
    house.clock.advance(1.9)
    assert house.keys.verify_cached(secret) is not None
    house.clock.advance(0.1)
    with pytest.raises(GatewayError) as caught:
        house.keys.verify_cached(secret)
    assert caught.value.code == "key_expired"
    assert "This API key expired at 2026-06-01T12:00:02Z" in caught.value.message
    assert key.state_at(house.clock.now()) is KeyState.EXPIRED


async def test_during_an_overlap_both_secrets_work_and_then_only_the_new_one(house: House) -> None:
    """The old secret's own end is kept with it, and its holder learns that there is a successor."""
    names = await house.open()
    key, old = await house.keys.create(OPERATOR, names.organization, _draft(names))
    new = mint()
    fresh = KeySecret(PEPPERS.digest(new), PEPPERS.active_id, START)
    ending = replace(key.secrets[0], expire_time=START + timedelta(seconds=1))
    house.store.put(replace(key, secrets=(fresh, ending)))
    assert (await house.keys.verify(old)).key_id == (await house.keys.verify(new)).key_id == key.id
    house.clock.advance(1)
    assert house.keys.verify_cached(new) is not None
    with pytest.raises(GatewayError) as caught:
        house.keys.verify_cached(old)
    assert caught.value.code == "key_expired"
    assert "replaced by a rotation" in caught.value.message


async def test_keys_made_under_a_former_pepper_still_work(house: House) -> None:
    """A new pepper rotates in without a cut."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, _draft(names))
    ring = PepperRing("new", {"new": bytes(range(50, 82)), PEPPERS.active_id: bytes(range(32))})
    later = Keys(house.store, house.organizations, ring, house.clock)
    assert (await later.verify(secret)).organization == names.organization
    assert later.verify_cached(secret) is not None
    assert (await later.check(secret))[1] is None
    newer, fresh = await later.create(OPERATOR, names.organization, _draft(names))
    assert newer.secrets[0].pepper_id == "new"
    with pytest.raises(GatewayError):
        await house.keys.verify(fresh)


async def test_the_cache_stays_within_its_size(house: House) -> None:
    """Memory is bounded however many keys there are."""
    names = await house.open()
    secrets = [(await house.keys.create(OPERATOR, names.organization, _draft(names)))[1] for _ in range(10)]
    for secret in secrets:
        await house.keys.verify(secret)
    assert len(house.keys._known) == 4
    assert [house.keys.verify_cached(secret) is not None for secret in secrets] == [False] * 6 + [True] * 4


async def test_no_secret_is_left_in_the_cache(house: House) -> None:
    """A dump of the process' memory for keys holds digests."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, _draft(names))
    await house.keys.verify(secret)
    assert list(house.keys._known._values) == [PEPPERS.digest(secret)]
    assert secret not in repr(house.keys._known._values)
