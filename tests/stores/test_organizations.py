"""What every store of organizations must do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from tests.stores.records import keep

from tokendance.ids import new_id
from tokendance_server.domain.organizations import Member, Organization, Team

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)


async def test_what_was_added_comes_back_equal(stores: Any) -> None:
    """Names in any script, and times to the microsecond."""
    organization = Organization(new_id("org"), "Tänze & 舞 '; DROP TABLE teams; --", NOW)
    team = Team(organization.id, new_id("team"), "100% _", NOW)
    member = Member(organization.id, new_id("user"), "👩‍💻", NOW)
    await keep(stores.people, organization, team, member)
    assert await stores.organizations.get(organization.id) == organization
    assert await stores.organizations.get_team(organization.id, team.id) == team
    assert await stores.organizations.get_member(organization.id, member.id) == member


async def test_a_time_in_another_zone_is_the_same_moment(stores: Any) -> None:
    """Times are kept as moments."""
    organization = Organization(new_id("org"), "x", NOW.astimezone(timezone(timedelta(hours=8))))
    await keep(stores.people, organization)
    kept = await stores.organizations.get(organization.id)
    assert kept is not None
    assert kept.create_time == NOW


async def test_what_is_not_there_is_none(stores: Any) -> None:
    """Wildcards find nothing, and one organization's team is not another's."""
    first, second = (Organization(new_id("org"), "x", NOW) for _ in range(2))
    team = Team(first.id, new_id("team"), "x", NOW)
    await keep(stores.people, first, team)
    await keep(stores.people, second)
    assert await stores.organizations.get_team(second.id, team.id) is None
    assert await stores.organizations.get_member(first.id, team.id) is None
    for nothing in ("", "%", "_", "org_%", first.id[:-1] + "_", first.id.upper()):
        assert await stores.organizations.get(nothing) is None


async def test_the_first_three_are_added_once(stores: Any) -> None:
    """Of several first starts one wins, and nothing of the others remains."""

    def three() -> tuple[Organization, Team, Member]:
        organization = Organization(new_id("org"), "x", NOW)
        return (
            organization,
            Team(organization.id, new_id("team"), "x", NOW),
            Member(organization.id, new_id("user"), "x", NOW),
        )

    tries = [three() for _ in range(8)]
    added = await asyncio.gather(*(stores.organizations.add_first(*one) for one in tries))
    assert sum(added) == 1
    for (organization, team, member), won in zip(tries, added, strict=True):
        assert (await stores.organizations.get(organization.id) is not None) is won
        assert (await stores.organizations.get_team(organization.id, team.id) is not None) is won
        assert (await stores.organizations.get_member(organization.id, member.id) is not None) is won
