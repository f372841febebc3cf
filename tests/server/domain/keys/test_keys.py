"""API keys: made, read, listed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.server.domain.house import OPERATOR, PEPPERS, START, House, admin_of, draft_for

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.ids import new_id
from tokendance_server.domain.keys.key import KeyState
from tokendance_server.domain.keys.keys import KeyQuery
from tokendance_server.domain.names import organization_name


async def test_a_new_key_works_and_keeps_no_secret(house: House) -> None:
    """The caller gets the secret; what is kept is a digest, the first eight and the last four characters."""
    names = await house.open()
    draft = replace(
        draft_for(names), allowed_models=("demo-echo",), allowed_networks=("10.0.0.0/8",), labels={"a": "b"}
    )
    key, secret = await house.keys.create(OPERATOR, names.organization, draft)
    principal = await house.verifier.verify(secret)
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
    draft = replace(draft_for(names), **nobody)
    with pytest.raises(GatewayError) as caught:
        await house.keys.create(OPERATOR, names.organization, draft)
    assert (caught.value.code, caught.value.param) == ("not_found", param)


async def test_an_organization_outside_the_scope_is_as_absent_as_none(house: House) -> None:
    """Nobody learns which organizations there are."""
    names, other = await house.open(), await house.open_next_door()
    sentences = set()
    for caller, parent in ((admin_of(names), other.organization), (OPERATOR, organization_name(new_id("org")))):
        with pytest.raises(GatewayError) as caught:
            await house.keys.create(caller, parent, draft_for(other))
        assert (caught.value.code, caught.value.param) == ("not_found", "parent")
        sentences.add(caught.value.message)
    assert len(sentences) == 1


async def test_a_repeat_with_the_same_request_id_returns_the_key_without_its_secret(house: House) -> None:
    """A caller that lost the first answer makes no second key, and a secret is shown once."""
    names, other = await house.open(), await house.open_next_door()
    first, secret = await house.keys.create(OPERATOR, names.organization, draft_for(names), "r")
    again, none = await house.keys.create(OPERATOR, names.organization, draft_for(names), "r")
    assert (again, none) == (first, "")
    assert secret
    elsewhere, shown = await house.keys.create(OPERATOR, other.organization, draft_for(other), "r")
    assert elsewhere.id != first.id
    assert shown
    without = [await house.keys.create(OPERATOR, names.organization, draft_for(names)) for _ in range(2)]
    assert len({key.id for key, _ in without}) == 2


async def test_a_request_id_used_for_another_key_is_a_conflict(house: House) -> None:
    """The caller would get a key that it did not ask for."""
    names = await house.open()
    await house.keys.create(OPERATOR, names.organization, draft_for(names), "r")
    with pytest.raises(GatewayError) as caught:
        await house.keys.create(OPERATOR, names.organization, draft_for(names, "Other"), "r")
    assert (caught.value.code, caught.value.param) == ("idempotency_conflict", "request_id")


async def test_a_key_is_read_by_name_or_id_within_the_scope_only(house: House) -> None:
    """A foreign key, a missing key and a key under the wrong organization look the same."""
    names, other = await house.open(), await house.open_next_door()
    key, _ = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    assert await house.keys.get(OPERATOR, key.name) == key
    assert await house.keys.get(admin_of(names), key.id) == key
    answers = set()
    for caller, name in (
        (admin_of(other), key.name),
        (admin_of(other), key.id),
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
        made.append((await house.keys.create(OPERATOR, names.organization, draft_for(names)))[0])
    query, seen = KeyQuery(names.organization, page_size=3), []
    while True:
        page, token = await house.keys.list(OPERATOR, query)
        seen += page
        if not token:
            break
        house.clock.advance(1)
        await house.keys.create(OPERATOR, names.organization, draft_for(names, "Later"))
        query = replace(query, page_token=token)
    assert seen == sorted(made, key=lambda key: (key.create_time, key.id), reverse=True)


async def test_a_page_token_serves_its_caller_and_its_filter_only(house: House) -> None:
    """A token passed on or reused with another filter is refused."""
    names, other = await house.open(), await house.open_next_door()
    for _ in range(3):
        await house.keys.create(OPERATOR, names.organization, draft_for(names))
    query = KeyQuery(names.organization, page_size=1)
    _, token = await house.keys.list(OPERATOR, query)
    for caller, changed in (
        (admin_of(names), query),
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
    mine, _ = await house.keys.create(OPERATOR, names.organization, draft_for(names))
    theirs, _ = await house.keys.create(OPERATOR, other.organization, draft_for(other))
    everything = KeyQuery("organizations/-")
    assert {key.id for key in (await house.keys.list(OPERATOR, everything))[0]} == {mine.id, theirs.id}
    assert (await house.keys.list(admin_of(other), everything))[0] == [theirs]
    with pytest.raises(GatewayError) as caught:
        await house.keys.list(admin_of(other), KeyQuery(names.organization))
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
