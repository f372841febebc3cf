"""What is done with organizations, teams and members, over every store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.pseudonyms import NamedAnew

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import Key, KeyDraft, KeyFilter, KeyQuota, KeyState
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.names import child_of
from tokendance_server.domain.organizations import Member, MemberRole, MemberState, Organization, Organizations, Team
from tokendance_server.domain.people.desk import build_people
from tokendance_server.domain.people.members import MemberQuery
from tokendance_server.domain.people.records import (
    KeyFate,
    MemberDraft,
    OrganizationDraft,
    Policy,
    Preferences,
    TeamDraft,
)
from tokendance_server.domain.principals import Principal

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
ADMIN = (MemberRole.ADMIN,)
USER = (MemberRole.MEMBER,)


class Town:
    """One organization with an administrator, over the stores of the test."""

    def __init__(self, stores: Any) -> None:
        self.stores = stores
        self.clock = ManualClock(START)
        self.organizations = Organizations(stores.organizations, self.clock)
        peppers = PepperRing.of(bytes(range(32)))
        self.verifier = Verifier(stores.keys, peppers, self.clock, lambda: True)
        self.usage = NamedAnew()
        self.people = build_people(stores.people, peppers, self.clock, self.verifier, self.usage)
        self.keys = Keys(stores.keys, self.organizations, peppers, self.clock, self.verifier.forget)
        self.home: Organization
        self.admin: Member

    async def open(self) -> Town:
        self.home = await self.people.organizations.create(OPERATOR, OrganizationDraft("Home"))
        self.admin = await self.member("ada", roles=ADMIN)
        return self

    async def member(self, subject: str, *teams: str, **values: Any) -> Member:
        draft = MemberDraft(subject=subject, teams=teams, **{"roles": USER, **values})
        return (await self.people.members.create(OPERATOR, self.home.name, draft)).member

    async def team(self, name: str, request_id: str = "") -> Team:
        made = await self.people.teams.create(OPERATOR, self.home.name, TeamDraft(name), request_id)
        return made.team

    async def key(self, owner: Member, team: Team) -> Key:
        draft = KeyDraft("x", owner.name, team.name, KeyQuota(self.home.name), 86_400, owner.name)
        return (await self.keys.create(OPERATOR, self.home.name, draft))[0]

    async def changes_since(self, number: int) -> list[tuple[str, str]]:
        return [(change.kind, change.name) for change in await self.stores.changes.since(number, 100)]


@pytest.fixture
async def town(stores: Any) -> Town:
    """An organization with its administrator."""
    return await Town(stores).open()


async def _code(asked: Awaitable[Any]) -> str:
    try:
        await asked
    except GatewayError as error:
        return f"{error.code} {error.param or ''}".strip()
    return "ok"


async def test_everything_comes_back_as_it_was_put(town: Town) -> None:
    """Text in any script, labels, and times; and each change of an attribute raises the version."""
    labels = {"ünï": "", "%": "_"}
    organization = await town.people.organizations.create(OPERATOR, OrganizationDraft("舞%_'", "ops@x", labels))
    assert await town.people.organizations.get(OPERATOR, organization.id) == organization
    made = (await town.people.teams.create(OPERATOR, town.home.name, TeamDraft("T", "d", labels))).team
    assert (await town.people.teams.get(OPERATOR, made.id)).team == made
    member = await town.member("mia", made.name, email="Mia@X", display_name="Mia", roles=(*USER, *ADMIN))
    assert (await town.people.members.get(OPERATOR, member.name)).member == member
    assert await town.organizations.member(town.home.id, member.id) == member
    town.clock.advance(1)
    fields = frozenset({"description"})
    after = (await town.people.teams.update(OPERATOR, made.name, TeamDraft("", "new"), fields, '"1"')).team
    assert (after.display_name, after.description, after.version) == ("T", "new", 2)
    assert after.update_time == START + timedelta(seconds=1)
    again = await town.people.teams.update(OPERATOR, made.name, TeamDraft("", "new"), fields)
    assert again.team == after
    assert await _code(town.people.teams.update(OPERATOR, made.name, TeamDraft("", "x"), fields, '"1"')) == (
        "version_conflict etag"
    )


async def test_every_change_is_told_in_its_transaction(town: Town) -> None:
    """One row each, of what changed; what changed nothing tells nothing."""
    latest = await town.stores.changes.latest()
    team = await town.team("T")
    member = await town.member("mia", team.name)
    key = await town.key(member, team)
    await town.people.members.suspend(OPERATOR, member.name)
    await town.people.members.suspend(OPERATOR, member.name)
    told = await town.changes_since(latest.number)
    assert told == [
        ("team", team.name),
        ("member", member.name),
        ("key", key.name),
        ("member", member.name),
        ("key", key.name),
    ]


@pytest.mark.parametrize("kind", ["organization", "team", "member"])
async def test_a_request_id_makes_one_however_many_ask_at_once(town: Town, kind: str) -> None:
    """All get the same; another draft under the same id is a conflict."""

    async def make(name: str) -> str:
        people = town.people
        if kind == "organization":
            return (await people.organizations.create(OPERATOR, OrganizationDraft(name), "r")).id
        if kind == "team":
            return (await people.teams.create(OPERATOR, town.home.name, TeamDraft(name), "r")).team.id
        draft = MemberDraft(subject=name, roles=USER)
        return (await people.members.create(OPERATOR, town.home.name, draft, "r")).member.id

    made = await asyncio.gather(*(make("x") for _ in range(6)))
    assert len(set(made)) == 1
    assert await _code(make("y")) == "idempotency_conflict request_id"


async def test_names_subjects_and_addresses_are_there_once(town: Town) -> None:
    """Addresses in any case; who is out leaves both free."""
    first = await town.member("mia", email="Mia@Example.com")
    await town.team("T")
    assert await _code(town.team("T")) == "already_exists team.display_name"
    assert await _code(town.member("mia")) == "already_exists member.subject"
    assert await _code(town.member("", email="mIA@example.COM")) == "already_exists member.email"
    assert len([one for one in await asyncio.gather(*(_code(town.team("U")) for _ in range(4))) if one == "ok"]) == 1
    await town.people.members.delete(OPERATOR, first.name)
    assert (await town.member("mia", email="mia@example.com")).id != first.id


async def test_lists_are_narrowed_and_paged_and_their_tokens_bound(town: Town) -> None:
    """By word in any case, team, role and state; a token serves the caller and the filter that it was given to."""
    team = await town.team("Ä%ther_")
    await town.team("Ordinary")
    users = [await town.member(f"m{number}", team.name, display_name=f"Ünal {number}") for number in range(5)]
    await town.people.members.suspend(OPERATOR, users[0].name)
    by_name = [one.subject for one in sorted([town.admin, *users], key=lambda one: one.id)]

    async def names(**narrowed: Any) -> list[str]:
        query = MemberQuery(parent=town.home.name, **narrowed)
        return [one.member.subject for one in (await town.people.members.page(OPERATOR, query))[0]]

    assert await names() == by_name
    assert await names(role=MemberRole.ADMIN) == ["ada"]
    assert await names(state=MemberState.SUSPENDED) == ["m0"]
    assert await names(team=team.name, query="ÜNAL 3") == ["m3"]
    assert await names(query="%") == []
    for words, count in (("ä%", 1), ("%", 1), ("_", 1), ("a_t", 0), ("", 2)):
        assert len((await town.people.teams.page(OPERATOR, town.home.name, query=words))[0]) == count, words
    seen, token = [], ""
    for _ in range(3):
        page, token = await town.people.members.page(OPERATOR, MemberQuery("organizations/-", 2, token))
        seen += [one.member.subject for one in page]
    assert (seen, token) == (by_name, "")
    _, token = await town.people.members.page(OPERATOR, MemberQuery("organizations/-", 2))
    other = Principal(kinds=OPERATOR.kinds, name="somebody else")
    for caller, asked in (
        (other, MemberQuery("organizations/-", 2, token)),
        (OPERATOR, MemberQuery("organizations/-", 2, token, role=MemberRole.MEMBER)),
        (OPERATOR, MemberQuery("organizations/-", 2, "x")),
    ):
        assert await _code(town.people.members.page(caller, asked)) == "invalid_request page_token"
    listed, _ = await town.people.organizations.page(OPERATOR, query="hOM")
    assert listed == [town.home]


async def test_a_team_is_deleted_once_nothing_belongs_to_it(town: Town) -> None:
    """Members and keys, also those that ended, hold it; deleting it again is no error."""
    team, other = await town.team("T"), await town.team("U")
    member = await town.member("mia", team.name, other.name)
    key = await town.key(member, other)
    counted = await town.people.teams.get(OPERATOR, other.name)
    assert (counted.members, counted.keys) == (1, 1)
    assert (await town.people.members.get(OPERATOR, member.name)).keys == 1
    assert await _code(town.people.teams.delete(OPERATOR, team.name)) == "failed_precondition name"
    await town.people.members.delete(OPERATOR, member.name, fate=KeyFate.REVOKE)
    assert await _code(town.people.teams.delete(OPERATOR, other.name)) == "failed_precondition name"
    assert await _code(town.people.teams.delete(OPERATOR, team.name, '"9"')) == "version_conflict etag"
    assert await _code(town.people.teams.delete(OPERATOR, team.name, '"1"')) == "ok"
    assert await _code(town.people.teams.delete(OPERATOR, team.name)) == "ok"
    assert await _code(town.people.teams.get(OPERATOR, team.name)) == "not_found name"
    kept = await town.stores.keys.get(key.id)
    assert (kept.state, kept.revoke_time, kept.version) == (KeyState.REVOKED, START, 2)


async def test_of_two_administrators_who_stop_each_other_at_once_one_stays(town: Town) -> None:
    """The check and the change are one."""
    other = await town.member("eve", roles=ADMIN)
    stopping = (town.people.members.suspend(OPERATOR, one.name) for one in (town.admin, other))
    codes = await asyncio.gather(*(_code(one) for one in stopping))
    assert sorted(codes) == ["failed_precondition name", "ok"]


async def test_reassigned_keys_are_found_with_their_new_owner(town: Town) -> None:
    """Suspended ones too; revoked ones stay as they were."""
    team = await town.team("T")
    member = await town.member("mia")
    keys = [await town.key(member, team) for _ in range(3)]
    _, changed = await town.people.members.suspend(
        OPERATOR, member.name, fate=KeyFate.REASSIGN, keys_owner=town.admin.name
    )
    assert sorted(changed) == sorted(key.name for key in keys)
    owned = await town.stores.keys.list(KeyFilter(now=START, owner_id=town.admin.id), None, 10)
    assert {key.id for key in owned} == {key.id for key in keys}
    seen = await town.stores.keys.list(KeyFilter(now=START, seen_by=member.id), None, 10)
    assert seen == []
    by_team = KeyFilter(now=START, seen_by=member.id, seen_teams=frozenset({team.id}))
    assert len(await town.stores.keys.list(by_team, None, 10)) == 3
    for bad, code in (
        (member.name, "failed_precondition keys_owner"),
        (town.admin.name.replace("user_0", "user_1"), "not_found keys_owner"),
        ("", "invalid_request keys_owner"),
    ):
        await town.people.members.resume(OPERATOR, member.name)
        asked = town.people.members.suspend(OPERATOR, member.name, fate=KeyFate.REASSIGN, keys_owner=bad)
        assert await _code(asked) == code


async def test_policies_and_preferences_are_kept(town: Town) -> None:
    """And are the default ones until then."""
    name = f"{town.home.name}/policy"
    assert await town.people.policies.get(OPERATOR, name) == Policy(town.home.id)
    wanted = Policy("", self_approval=True, reveal_period_s=7200, orphaned_keys=KeyFate.REASSIGN)
    fields = frozenset({"self_approval", "reveal_period_s", "orphaned_keys", "orphaned_keys_owner_id"})
    after = await town.people.policies.update(OPERATOR, name, wanted, fields, owner=town.admin.name)
    assert after == Policy(town.home.id, True, 7200, KeyFate.REASSIGN, town.admin.id, START, 2)
    assert await town.people.policies.get(OPERATOR, name) == after
    assert child_of(town.admin.name, "members", "x") == (town.home.id, after.orphaned_keys_owner_id)
    assert await town.people.preferences.get(OPERATOR) == Preferences()
    for theme in (1, 2):
        await town.people.preferences.update(OPERATOR, Preferences(theme, "UTC"), frozenset({"theme"}))
    assert await town.people.preferences.get(OPERATOR) == Preferences(2)


async def test_what_fails_leaves_nothing_behind(town: Town) -> None:
    """A member with one team that is not there is not made, and its request id is free."""
    team = await town.team("T")
    missing = team.name[:-1] + ("0" if team.name[-1] != "0" else "1")
    draft = MemberDraft(subject="mia", roles=USER, teams=(team.name, missing))
    made = town.people.members.create(OPERATOR, town.home.name, draft, "r")
    assert await _code(made) == "not_found member.teams[1]"
    again = MemberDraft(subject="mia", roles=USER, teams=(team.name,))
    assert await _code(town.people.members.create(OPERATOR, town.home.name, again, "r")) == "ok"
