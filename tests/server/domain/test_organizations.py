"""Organizations: the first start, and who sees what."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tokendance.gateway.v1 import access_pb2
from tokendance.ids import new_id
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.names import child_of, organization_name, organization_of
from tokendance_server.domain.organizations import Organizations
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import in_scope
from tokendance_server.stores.memory import MemoryOrganizationStore


def _organizations() -> Organizations:
    return Organizations(MemoryOrganizationStore(), ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))


async def test_the_first_start_makes_an_organization_a_team_and_a_member() -> None:
    """All three exist under the names that come back."""
    organizations = _organizations()
    names = await organizations.bootstrap()
    assert names is not None
    assert names.display_name == "Default organization"
    organization_id = organization_of(names.organization, "x")
    assert await organizations.exists(organization_id)
    assert await organizations.has_team(*child_of(names.team, "teams", "x"))
    assert await organizations.has_member(*child_of(names.member, "members", "x"))
    assert not await organizations.has_team(new_id("org"), child_of(names.team, "teams", "x")[1])
    assert not await organizations.exists(new_id("org"))


async def test_later_starts_make_nothing() -> None:
    """Also when several ask at once."""
    organizations = _organizations()
    made = await asyncio.gather(*(organizations.bootstrap() for _ in range(5)))
    assert len([names for names in made if names is not None]) == 1
    assert await organizations.bootstrap() is None


def test_platform_administrators_see_every_organization_and_others_their_own() -> None:
    """A caller without an organization sees none."""
    mine, other = new_id("org"), new_id("org")
    operator = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
    kinds = frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN})
    admin = Principal(kinds=kinds, name="a", organization=organization_name(mine))
    homeless = Principal(kinds=kinds, name="b")
    assert in_scope(operator, mine)
    assert in_scope(operator, other)
    assert in_scope(admin, mine)
    assert not in_scope(admin, other)
    assert not in_scope(homeless, mine)
    assert not in_scope(homeless, "")
