"""Who signs in, found among the members of every organization, over every store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tokendance.ids import new_id
from tokendance_server.domain.organizations import Member, MemberState, Organization, Team

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
async def home(stores: Any) -> Organization:
    """An organization."""
    return await _organization(stores)


async def _organization(stores: Any) -> Organization:
    made = Organization(new_id("org"), "Home", NOW)
    await _put(stores, made.id, made)
    return made


async def _member(stores: Any, home: Organization, **values: Any) -> Member:
    made = Member(home.id, new_id("user"), "x", NOW, **values)
    await _put(stores, home.id, made)
    return made


async def _put(stores: Any, organization_id: str, record: Organization | Team | Member) -> None:
    async with stores.people.tenant(organization_id) as tenant:
        await tenant.put(record, NOW)


@pytest.mark.parametrize("state", MemberState)
async def test_a_subject_is_found_in_whichever_state(stores: Any, home: Organization, state: MemberState) -> None:
    """Somebody who is out must be known to be, with their teams; others are not found."""
    team = Team(home.id, new_id("team"), "x", NOW)
    await _put(stores, home.id, team)
    found = await _member(stores, home, subject="ada", state=state, team_ids=(team.id,))
    await _member(stores, home, subject="Ada")
    assert await stores.directory.find_members("ada", "") == [found]
    assert await stores.directory.get_member(home.id, found.id) == found


async def test_an_invited_address_is_found_in_any_case(stores: Any, home: Organization) -> None:
    """Only while nobody has used the invitation."""
    found = await _member(stores, home, email="Ada@Example.com")
    await _member(stores, home, email="ada@example.com", subject="other")
    await _member(stores, home, email="ada@example.com", state=MemberState.SUSPENDED)
    await _member(stores, home, email="")
    assert await stores.directory.find_members("ada", "ada@example.com") == [found]
    assert await stores.directory.find_members("ada", "") == []


async def test_every_organization_is_searched(stores: Any, home: Organization) -> None:
    """A subject may be a member of several."""
    other = await _organization(stores)
    made = [await _member(stores, one, subject="ada") for one in (home, other)]
    found = await stores.directory.find_members("ada", "")
    assert found == sorted(made, key=lambda one: one.organization_id)
    assert await stores.directory.get_member(other.id, made[0].id) is None
