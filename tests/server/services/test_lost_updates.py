"""Lost updates and repeats, by every RPC of OrganizationsService that makes or changes something."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.server.services.test_organizations import OPERATOR, Town, _code, _context

from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb

Update = Callable[[Town, str, str], Awaitable[Any]]


@pytest.fixture
async def town() -> Town:
    """Two organizations."""
    return await Town().open()


def _organization(town: Town, etag: str, text: str) -> Awaitable[Any]:
    wanted = o.Organization(name=town.home, etag=etag, display_name=text)
    request = pb.UpdateOrganizationRequest(organization=wanted, update_mask=FieldMask(paths=["display_name"]))
    return town.service.UpdateOrganization(request, _context(town.admin))


def _team(town: Town, etag: str, text: str) -> Awaitable[Any]:
    wanted = o.Team(name=town.ours.name, etag=etag, display_name=text)
    request = pb.UpdateTeamRequest(team=wanted, update_mask=FieldMask(paths=["display_name"]))
    return town.service.UpdateTeam(request, _context(town.admin))


def _member(town: Town, etag: str, text: str) -> Awaitable[Any]:
    wanted = o.Member(name=town.member.name, etag=etag, display_name=text)
    request = pb.UpdateMemberRequest(member=wanted, update_mask=FieldMask(paths=["display_name"]))
    return town.service.UpdateMember(request, _context(town.admin))


def _policy(town: Town, etag: str, text: str) -> Awaitable[Any]:
    rules = [o.IssuanceRule(display_name=text)]
    wanted = o.Policy(name=f"{town.home}/policy", etag=etag, issuance_rules=rules)
    request = pb.UpdatePolicyRequest(policy=wanted, update_mask=FieldMask(paths=["issuance_rules"]))
    return town.service.UpdatePolicy(request, _context(town.admin))


@pytest.mark.parametrize("update", [_organization, _team, _member, _policy], ids=lambda one: one.__name__[1:])
async def test_of_two_who_read_one_version_the_second_is_refused(town: Town, update: Update) -> None:
    """And changes nothing; who reads again may."""
    assert await _code(update(town, '"1"', "first")) == "ok"
    assert await _code(update(town, '"1"', "second")) == "version_conflict etag"
    assert await _code(update(town, '"2"', "first")) == "ok"
    assert await _code(update(town, '"2"', "third")) == "ok"


async def test_what_was_changed_since_is_not_removed(town: Town) -> None:
    """A team and a member stay where another version was looked at."""
    team = await town.team(town.home, "Empty")
    delete_team = pb.DeleteTeamRequest(name=team.name, etag='"9"')
    delete_member = pb.DeleteMemberRequest(name=town.member.name, reason="x", etag='"9"')
    context = _context(town.admin)
    assert await _code(town.service.DeleteTeam(delete_team, context)) == "version_conflict etag"
    assert await _code(town.service.DeleteMember(delete_member, context)) == "version_conflict etag"


def _create(town: Town, kind: str, text: str) -> Awaitable[Any]:
    context = _context(OPERATOR)
    if kind == "organization":
        wanted = o.Organization(display_name=text)
        return town.service.CreateOrganization(
            pb.CreateOrganizationRequest(organization=wanted, request_id="r"), context
        )
    if kind == "team":
        team = pb.CreateTeamRequest(parent=town.home, team=o.Team(display_name=text), request_id="r")
        return town.service.CreateTeam(team, context)
    person = o.Member(subject=text, roles=[o.MEMBER_ROLE_MEMBER])
    member = pb.CreateMemberRequest(parent=town.home, member=person, request_id="r")
    return town.service.CreateMember(member, context)


@pytest.mark.parametrize("kind", ["organization", "team", "member"])
async def test_a_repeat_makes_no_second_one(town: Town, kind: str) -> None:
    """It returns what the first call made; something else under the same id is a conflict."""
    first, again = await _create(town, kind, "One"), await _create(town, kind, "One")
    assert getattr(first, kind).name == getattr(again, kind).name
    assert await _code(_create(town, kind, "Two")) == "idempotency_conflict request_id"
