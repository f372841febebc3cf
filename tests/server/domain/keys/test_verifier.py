"""Secrets checked: from memory, from the store, and never from the past."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.server.domain.house import OPERATOR, PEPPERS, START, House, draft_for

from tokendance.errors import GatewayError
from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.domain.keys.key import KeySecret, KeyState
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.secrets import PepperRing, mint
from tokendance_server.domain.keys.verifier import Verifier


async def test_what_is_no_secret_never_reaches_the_store(house: House) -> None:
    """Neither another credential nor a secret that was mistyped costs a read."""
    secret = mint()
    for wrong in ("", "sk-x", secret[:-1], secret[:-1] + ("a" if secret[-1] != "a" else "b"), "\ud800" * 53):
        assert house.verifier.verify_cached(wrong) is None
        with pytest.raises(GatewayError):
            await house.verifier.verify(wrong)
        assert (await house.verifier.check(wrong))[0] is None
    assert house.store.reads == 0


async def test_an_unknown_secret_is_asked_for_once_in_a_while(house: House) -> None:
    """A misconfigured client in a loop does not become a load on the store."""
    secret = mint()
    for _ in range(3):
        with pytest.raises(GatewayError) as caught:
            await house.verifier.verify(secret)
        assert caught.value.code == "invalid_api_key"
        assert secret not in str(caught.value)
    assert house.store.reads == 1
    house.clock.advance(5)
    with pytest.raises(GatewayError):
        await house.verifier.verify(secret)
    assert house.store.reads == 2


async def test_made_up_secrets_push_no_known_key_out(house: House) -> None:
    """What is remembered of unknown secrets is bounded and has a place of its own."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    await house.verifier.verify(secret)
    for _ in range(20):
        with pytest.raises(GatewayError):
            await house.verifier.verify(mint())
    reads = house.store.reads
    assert house.verifier.verify_cached(secret) is not None
    assert house.store.reads == reads
    assert len(house.verifier._unknown) == 4


async def test_a_known_key_is_read_once_in_its_time(house: House) -> None:
    """After `cache_s` seconds the store is asked again, and what changed meanwhile counts."""
    names = await house.open()
    key, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    assert house.verifier.verify_cached(secret) is None
    await house.verifier.verify(secret)
    house.clock.advance(59.9)
    house.store.put(replace(key, state=KeyState.REVOKED))
    assert house.verifier.verify_cached(secret) is not None
    house.clock.advance(0.1)
    assert house.verifier.verify_cached(secret) is None
    with pytest.raises(GatewayError) as caught:
        await house.verifier.verify(secret)
    assert caught.value.code == "key_revoked"
    with pytest.raises(GatewayError) as caught:
        house.verifier.verify_cached(secret)
    assert caught.value.code == "key_revoked"


async def test_age_counts_from_before_the_read(house: House) -> None:
    """A read that took long gives an answer that is old already."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    house.store.gate.clear()
    task = asyncio.create_task(house.verifier.verify(secret))
    await asyncio.sleep(0)
    house.clock.advance(61)
    house.store.gate.set()
    await task
    assert house.verifier.verify_cached(secret) is None


async def test_many_who_come_at_once_share_one_read(house: House) -> None:
    """A key whose answer has just grown old is not asked for a hundred times."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    house.store.gate.clear()
    tasks = [asyncio.create_task(house.verifier.verify(secret)) for _ in range(100)]
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
    key, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    house.store.put(replace(key, state=state))
    errors = []
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            await house.verifier.verify(secret)
        errors.append(caught.value)
    assert [error.code for error in errors] == [code, code]
    assert errors[0] is not errors[1]
    assert house.store.reads == 1
    checked, error = await house.verifier.check(secret)
    assert checked is not None
    assert error is not None
    assert (checked.id, error.code) == (key.id, code)


async def test_a_cached_key_stops_at_the_moment_it_expires(house: House) -> None:
    """Expiry is looked at on every use, not only when the store is read."""
    names = await house.open()
    draft = replace(draft_for(names), expire_time=START + timedelta(seconds=2))
    key, secret = await house.keys.create(OPERATOR, names.organization, draft)
    await house.verifier.verify(secret)
    house.clock.advance(1.9)
    assert house.verifier.verify_cached(secret) is not None
    house.clock.advance(0.1)
    with pytest.raises(GatewayError) as caught:
        house.verifier.verify_cached(secret)
    assert caught.value.code == "key_expired"
    assert "This API key expired at 2026-06-01T12:00:02Z" in caught.value.message
    assert key.state_at(house.clock.now()) is KeyState.EXPIRED


async def test_during_an_overlap_both_secrets_work_and_then_only_the_new_one(house: House) -> None:
    """The old secret's own end is kept with it, and its holder learns that there is a successor."""
    names = await house.open()
    key, old = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    new = mint()
    fresh = KeySecret(PEPPERS.digest(new), PEPPERS.active_id, START)
    ending = replace(key.secrets[0], expire_time=START + timedelta(seconds=1))
    house.store.put(replace(key, secrets=(fresh, ending)))
    assert (await house.verifier.verify(old)).key_id == (await house.verifier.verify(new)).key_id == key.id
    house.clock.advance(1)
    assert house.verifier.verify_cached(new) is not None
    with pytest.raises(GatewayError) as caught:
        house.verifier.verify_cached(old)
    assert caught.value.code == "key_expired"
    assert "replaced by a rotation" in caught.value.message


async def test_keys_made_under_a_former_pepper_still_work(house: House) -> None:
    """A new pepper rotates in without a cut."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    ring = PepperRing("new", {"new": bytes(range(50, 82)), PEPPERS.active_id: bytes(range(32))})
    later = Verifier(house.store, ring, house.clock, lambda: True)
    assert (await later.verify(secret)).organization == names.organization
    assert later.verify_cached(secret) is not None
    assert (await later.check(secret))[1] is None
    keys = Keys(house.store, house.organizations, ring, house.clock, later.forget)
    newer, fresh = await keys.create(OPERATOR, names.organization, draft_for(names))
    assert newer.secrets[0].pepper_id == "new"
    with pytest.raises(GatewayError):
        await house.verifier.verify(fresh)


async def test_the_cache_stays_within_its_size(house: House) -> None:
    """Memory is bounded however many keys there are."""
    names = await house.open()
    secrets = [(await house.keys.create(OPERATOR, names.organization, draft_for(names)))[1] for _ in range(10)]
    for secret in secrets:
        await house.verifier.verify(secret)
    assert len(house.verifier._known) == 4
    assert [house.verifier.verify_cached(secret) is not None for secret in secrets] == [False] * 6 + [True] * 4


async def test_no_secret_is_left_in_the_cache(house: House) -> None:
    """A dump of the process' memory for keys holds digests."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    await house.verifier.verify(secret)
    assert list(house.verifier._known._values) == [PEPPERS.digest(secret)]
    assert secret not in repr(house.verifier._known._values)


async def test_a_key_that_changed_is_asked_for_anew(house: House) -> None:
    """Only that one; the others stay where they are."""
    names = await house.open()
    key, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    _, untouched = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    for one in (secret, untouched):
        await house.verifier.verify(one)
    house.store.put(replace(key, state=KeyState.REVOKED))
    house.verifier.changed(Change(9, "key", key.name, key.organization_id, START))
    assert house.verifier.verify_cached(untouched) is not None
    assert house.verifier.verify_cached(secret) is None
    with pytest.raises(GatewayError) as caught:
        await house.verifier.verify(secret)
    assert caught.value.code == "key_revoked"


async def test_when_everything_changed_nothing_is_believed(house: House) -> None:
    """Known and unknown secrets alike."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    await house.verifier.verify(secret)
    with pytest.raises(GatewayError):
        await house.verifier.verify(mint())
    house.verifier.everything_changed()
    assert house.verifier.verify_cached(secret) is None
    assert (len(house.verifier._known), len(house.verifier._unknown)) == (0, 0)


@pytest.mark.parametrize("everything", [False, True])
async def test_a_read_that_a_revocation_overtakes_does_not_bring_the_key_back(house: House, everything: bool) -> None:
    """What was read before is neither kept nor answered, not even to those who only joined the read."""
    names = await house.open()
    key, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    house.store.gate.clear()
    first = asyncio.create_task(house.verifier.verify(secret))
    await asyncio.sleep(0)
    assert house.store.reads == 1
    house.store.put(replace(key, state=KeyState.REVOKED))
    if everything:
        house.verifier.everything_changed()
    else:
        house.verifier.forget(key.id)
    joined = asyncio.create_task(house.verifier.verify(secret))
    await asyncio.sleep(0)
    house.store.gate.set()
    for task in (first, joined):
        with pytest.raises(GatewayError) as caught:
            await task
        assert caught.value.code == "key_revoked"
    assert house.store.reads == 2
    with pytest.raises(GatewayError):
        house.verifier.verify_cached(secret)
    assert not house.verifier._readings


async def test_a_change_of_another_key_repeats_no_read(house: House) -> None:
    """Busy administrators do not slow down everybody's first call."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    house.store.gate.clear()
    task = asyncio.create_task(house.verifier.verify(secret))
    await asyncio.sleep(0)
    house.verifier.forget("key_other")
    house.store.gate.set()
    await task
    assert house.store.reads == 1


async def test_a_secret_that_was_unknown_works_as_soon_as_its_key_is_made(house: House) -> None:
    """Neither a remembered no, nor one that is being read, outlives the news of a new key."""
    names = await house.open()
    key, _ = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    remembered, being_read = mint(), mint()
    with pytest.raises(GatewayError):
        await house.verifier.verify(remembered)
    house.store.gate.clear()
    task = asyncio.create_task(house.verifier.verify(being_read))
    await asyncio.sleep(0)
    secrets = tuple(KeySecret(PEPPERS.digest(one), PEPPERS.active_id, START) for one in (remembered, being_read))
    house.store.put(replace(key, secrets=secrets))
    house.verifier.forget(key.id)
    house.store.gate.set()
    assert (await task).key_id == key.id
    assert (await house.verifier.verify(remembered)).key_id == key.id


async def test_a_node_that_is_blind_lets_nobody_in_until_it_sees_again(house: House) -> None:
    """Known keys and new ones are refused alike, by an error that says: try again."""
    names = await house.open()
    _, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    _, unused = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    await house.verifier.verify(secret)
    reads = house.store.reads
    house.sighted = False
    with pytest.raises(GatewayError) as caught:
        house.verifier.verify_cached(secret)
    assert (caught.value.code, caught.value.spec.retryable) == ("key_store_unavailable", True)
    for one in (secret, unused, mint()):
        with pytest.raises(GatewayError) as caught:
            await house.verifier.verify(one)
        assert caught.value.code == "key_store_unavailable"
    with pytest.raises(GatewayError) as caught:
        await house.verifier.verify("sk-ant-abc")
    assert caught.value.code == "provider_key_not_accepted"
    assert house.store.reads == reads
    house.sighted = True
    assert house.verifier.verify_cached(secret) is not None


async def test_a_holder_is_kept_from_routes_by_its_key_and_by_its_organizations_policy(house: House) -> None:
    """A change of the policy is believed as soon as it is told."""
    names = await house.open()
    draft = replace(draft_for(names), excluded_route_tags=("region:us",))
    _, secret = await house.keys.create(OPERATOR, names.organization, draft)
    of_policy = ["trains-on-data"]

    async def excluded(organization_id: str) -> list[str]:
        assert f"organizations/{organization_id}" == names.organization
        return of_policy

    verifier = Verifier(house.store, PEPPERS, house.clock, lambda: True, excluded_tags=excluded)
    assert (await verifier.verify(secret)).excluded_route_tags == {"region:us", "trains-on-data"}
    of_policy.clear()
    known = verifier.verify_cached(secret)
    assert known is not None
    assert known.excluded_route_tags == {"region:us", "trains-on-data"}
    verifier.changed(Change(1, ChangeKind.POLICY, f"{names.organization}/policy", "", house.clock.now()))
    assert verifier.verify_cached(secret) is None
    assert (await verifier.verify(secret)).excluded_route_tags == {"region:us"}
