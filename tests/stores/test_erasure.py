"""Members and organizations erased, over every store: who they were goes, and what happened stays told."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from tests.stores.test_people import OPERATOR, START, Town

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance_server.domain.audit.events import Origin
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.keys.key import Key, KeyDraft, KeyQuota, KeyState
from tokendance_server.domain.keys.request import KeyRequest, RequestState
from tokendance_server.domain.organizations import Member, MemberRole, MemberState, OrganizationState
from tokendance_server.domain.people.records import OrganizationDraft, Preferences, TeamDraft
from tokendance_server.domain.principals import Principal

MEMBER, ADMIN = access_pb2.CALLER_KIND_MEMBER, access_pb2.CALLER_KIND_ORGANIZATION_ADMIN
SEEN = Origin("req_1", address="203.0.113.9", user_agent="curl")


@pytest.fixture
async def town(stores: Any) -> Town:
    """One organization with an administrator."""
    return await Town(stores).open()


async def _everything(town: Town, organization_id: str) -> str:
    """All that the trail says of an organization and of the platform, whose chains must both be whole."""
    text = ""
    for chain in (organization_id, ""):
        events = await town.stores.audit.chain(EventFilter(organization_id=chain), 0, 1000)
        previous = bytes(32)
        for event in events:
            assert event.is_intact()
            assert event.previous == previous
            previous = event.digest
            text += f"{event} {[kept.document for kept in event.personal.values()]}"
    return text


def _as(town: Town, member: Member, kind: access_pb2.CallerKind.ValueType = MEMBER) -> Principal:
    return Principal(frozenset({kind}), name=member.name, organization=town.home.name)


async def _refused(asked: Awaitable[Any]) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await asked
    return caught.value


async def _key(town: Town, owner: Member) -> Key:
    return await town.key(owner, await town.team("T"))


async def _mia(town: Town) -> Member:
    return await town.member("mia-subject", email="mia@example.com", display_name="A Name")


async def _ask(town: Town, member: Member, state: RequestState) -> None:
    draft = KeyDraft("ci", member.id, "team_1", KeyQuota(town.home.name), 86_400, member.id)
    request = KeyRequest(town.home.id, f"kreq_{state.value}", member.id, draft, START, state)
    async with town.stores.requests.desk(town.home.id) as desk:
        await desk.put(request)


async def test_nothing_tells_who_an_erased_member_was(town: Town) -> None:
    """Neither its record, nor the trail, nor what it preferred; its keys ended and the chain is whole."""
    mia = await _mia(town)
    key = await _key(town, mia)
    await town.stores.people.set_preferences(mia.name, Preferences(time_zone="Europe/Berlin"))
    await _ask(town, mia, RequestState.PENDING)
    assert "mia@example.com" in await _everything(town, town.home.id)
    counted = await town.people.erasure.member(OPERATOR, mia.name, reason="asked for", validate_only=True)
    assert (counted.members, counted.traces.keys) == (1, 1)
    assert counted.traces.audit_events > 0
    assert "mia@example.com" in await _everything(town, town.home.id)

    erased = await town.people.erasure.member(OPERATOR, mia.name, reason="asked for", origin=SEEN)
    assert erased == counted
    told = await _everything(town, town.home.id)
    for word in ("mia@example.com", "mia-subject", "A Name"):
        assert word not in told
    assert "member.erase" in told
    assert "203.0.113.9" in told, "who erased somebody else stays known"
    after = (await town.people.members.get(OPERATOR, mia.name)).member
    assert (after.subject, after.email, after.display_name, after.roles) == ("", "", "", ())
    assert (after.state, after.version) == (MemberState.REMOVED, mia.version + 1)
    assert (await town.stores.keys.get(key.id)).state is KeyState.REVOKED
    assert await town.stores.people.preferences(mia.name) == Preferences()
    async with town.stores.requests.desk(town.home.id) as desk:
        assert (await desk.request("kreq_pending")).state is RequestState.DENIED
    assert town.usage.given[town.home.id, mia.id].startswith("erased_")


async def test_an_erasure_repeated_tells_nothing_more_and_names_usage_anew(town: Town) -> None:
    """The first may have been cut off before the usage."""
    mia = await _mia(town)
    await town.people.erasure.member(OPERATOR, mia.name, reason="asked for")
    before, first = await _everything(town, town.home.id), town.usage.given[town.home.id, mia.id]
    again = await town.people.erasure.member(OPERATOR, mia.name, reason="asked for")
    assert (again.members, again.traces.keys, again.traces.audit_events) == (0, 0, 0)
    assert await _everything(town, town.home.id) == before
    assert town.usage.given[town.home.id, mia.id] != first


async def test_who_erases_itself_leaves_no_address(town: Town) -> None:
    """Another administrator must be there, though."""
    ada = _as(town, town.admin, ADMIN)
    error = await _refused(town.people.erasure.member(ada, town.admin.name, reason="leaving", origin=SEEN))
    assert error.code == "failed_precondition"
    await town.member("eve", roles=(MemberRole.ADMIN,))
    await town.people.erasure.member(ada, town.admin.name, reason="leaving", origin=SEEN)
    assert "203.0.113.9" not in await _everything(town, town.home.id)


async def test_an_organization_is_erased_when_it_is_suspended_and_unchanged(town: Town) -> None:
    """Its members, teams, keys and policy go with it, and nothing comes there any more."""
    mia, team = await _mia(town), await town.people.teams.create(OPERATOR, town.home.name, TeamDraft("Secret team"))
    key = await _key(town, mia)
    await town.people.organizations.update(OPERATOR, town.home.name, _draft("ops@example.com"), frozenset({"contact"}))
    erase = town.people.erasure.organization
    error = await _refused(erase(OPERATOR, town.home.name, etag='"2"', reason="gone"))
    assert error.code == "failed_precondition"
    await town.people.organizations.set_state(OPERATOR, town.home.name, OrganizationState.SUSPENDED)
    error = await _refused(erase(OPERATOR, town.home.name, etag='"2"', reason="gone"))
    assert error.code == "version_conflict"
    counted = await erase(OPERATOR, town.home.name, etag='"3"', reason="gone", validate_only=True)
    assert (counted.members, counted.traces.keys) == (2, 1)
    assert await erase(OPERATOR, town.home.name, etag='"3"', reason="gone") == counted

    told = await _everything(town, town.home.id)
    for word in ("mia@example.com", "mia-subject", "ops@example.com"):
        assert word not in told
    assert "organization.erase" in told
    found = await town.people.organizations.get(OPERATOR, town.home.name)
    assert (found.state, found.display_name, found.contact) == (OrganizationState.ERASED, "", "")
    assert (await town.people.teams.get(OPERATOR, team.team.name)).team.display_name == team.team.id
    kept = await town.stores.keys.get(key.id)
    assert (kept.state, kept.purpose) == (KeyState.REVOKED, "Erased")
    assert {member for _, member in town.usage.given} == {town.admin.id, mia.id}
    again = await erase(OPERATOR, town.home.name, etag='"3"', reason="gone")
    assert (again.members, again.traces.keys, again.traces.audit_events) == (0, 0, 0)
    for late in (
        town.people.organizations.set_state(OPERATOR, town.home.name, OrganizationState.ACTIVE),
        town.people.organizations.update(OPERATOR, town.home.name, _draft("x"), frozenset({"contact"})),
        town.people.teams.create(OPERATOR, town.home.name, TeamDraft("New")),
        town.member("late"),
    ):
        assert (await _refused(late)).code == "failed_precondition"


async def test_an_erasure_is_not_for_everybody(town: Town) -> None:
    """What is outside of the caller's scope is not there."""
    mia = await _mia(town)
    abroad = await town.people.organizations.create(OPERATOR, OrganizationDraft("Abroad"))
    stranger = _as(town, mia)
    for foreign in (
        town.people.erasure.member(stranger, mia.name, reason="x"),
        town.people.erasure.member(_as(town, town.admin, ADMIN), f"{abroad.name}/members/{mia.id}", reason="x"),
        town.people.erasure.member(OPERATOR, f"{abroad.name}/members/{mia.id}", reason="x"),
        town.people.erasure.organization(_as(town, town.admin, ADMIN), town.home.name, etag='"1"', reason="x"),
    ):
        assert (await _refused(foreign)).code == "not_found"


def _draft(contact: str) -> OrganizationDraft:
    return OrganizationDraft("Home", contact)
