"""The Organizations servicer: what each role sees and changes, and what is foreign and so not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.pseudonyms import NamedAnew

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance.ids import new_id
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.key import Key, KeyDraft, KeyQuota, KeyState
from tokendance_server.domain.keys.keys import KeyQuery, Keys
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.organizations import Organizations
from tokendance_server.domain.people.desk import build_people
from tokendance_server.domain.principals import Principal
from tokendance_server.services.call import Call, Trust
from tokendance_server.services.organizations import OrganizationsService
from tokendance_server.stores.memory import MemoryKeyStore, MemoryOrganizationStore
from tokendance_server.stores.memory_people import MemoryPeopleStore

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")
_KINDS = {
    o.MEMBER_ROLE_MEMBER: access_pb2.CALLER_KIND_MEMBER,
    o.MEMBER_ROLE_ADMIN: access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
    o.MEMBER_ROLE_AUDITOR: access_pb2.CALLER_KIND_AUDITOR,
}


def _context(principal: Principal) -> Any:
    inner: Any = SimpleNamespace()
    call = Call(inner, "/tokendance.gateway.v1.OrganizationsService/x", Trust.OPERATOR, 0.0)
    call.principal = principal
    return call


class Town:
    """Two organizations; in the first, two teams, an administrator, an auditor, and a member in one of the teams."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        records, self.key_store = MemoryOrganizationStore(), MemoryKeyStore()
        organizations, peppers = Organizations(records, self.clock), PepperRing.of(bytes(range(32)))
        self.verifier = Verifier(
            self.key_store, peppers, self.clock, lambda: True, organization_works=organizations.works
        )
        self.keys = Keys(self.key_store, organizations, peppers, self.clock, self.verifier.forget)
        people = build_people(
            MemoryPeopleStore(records, self.key_store), peppers, self.clock, self.verifier, NamedAnew()
        )
        self.service = OrganizationsService(people)
        self.home, self.abroad = "", ""
        self.ours, self.theirs = o.Team(), o.Team()
        self.admin, self.auditor, self.member, self.foreign_admin = OPERATOR, OPERATOR, OPERATOR, OPERATOR

    async def open(self) -> Town:
        self.home, self.abroad = [await self._organization(name) for name in ("Home", "Abroad")]
        self.ours, self.theirs = [await self.team(self.home, name) for name in ("Ours", "Theirs")]
        self.admin = await self.person(self.home, "ada", o.MEMBER_ROLE_ADMIN)
        self.auditor = await self.person(self.home, "otto", o.MEMBER_ROLE_AUDITOR)
        self.member = await self.person(self.home, "mia", o.MEMBER_ROLE_MEMBER, self.ours.name)
        self.foreign_admin = await self.person(self.abroad, "ada", o.MEMBER_ROLE_ADMIN)
        return self

    async def _organization(self, name: str) -> str:
        request = pb.CreateOrganizationRequest(organization=o.Organization(display_name=name))
        return (await self.service.CreateOrganization(request, _context(OPERATOR))).organization.name

    async def team(self, parent: str, name: str, by: Principal = OPERATOR) -> o.Team:
        request = pb.CreateTeamRequest(parent=parent, team=o.Team(display_name=name))
        return (await self.service.CreateTeam(request, _context(by))).team

    async def person(self, parent: str, subject: str, role: o.MemberRole.ValueType, *teams: str) -> Principal:
        member = o.Member(subject=subject, email=f"{subject}@example.com", roles=[role], teams=teams)
        request = pb.CreateMemberRequest(parent=parent, member=member)
        made = (await self.service.CreateMember(request, _context(OPERATOR))).member
        return Principal(kinds=frozenset({_KINDS[role]}), name=made.name, organization=parent)

    async def key(self, owner: Principal, team: o.Team) -> tuple[Key, str]:
        draft = KeyDraft("Reports", owner.name, team.name, KeyQuota(owner.organization), 86_400, owner.name)
        return await self.keys.create(OPERATOR, owner.organization, draft)

    async def code(self, secret: str) -> str:
        return await _code(self.verifier.verify(secret))


@pytest.fixture
async def town() -> Town:
    """Two organizations with their people."""
    return await Town().open()


async def _code(asked: Awaitable[Any]) -> str:
    try:
        await asked
    except GatewayError as error:
        return f"{error.code} {error.param or ''}".strip()
    return "ok"


def _foreign(town: Town) -> list[tuple[str, Callable[[Any], Awaitable[Any]]]]:
    """Return every call that names something of the first organization."""
    s, home, team, who = town.service, town.home, town.ours, town.member.name
    mask = FieldMask(paths=["display_name"])
    member = o.Member(subject="x", roles=[o.MEMBER_ROLE_MEMBER])
    return [
        ("get organization", lambda c: s.GetOrganization(pb.GetOrganizationRequest(name=home), c)),
        (
            "update organization",
            lambda c: s.UpdateOrganization(
                pb.UpdateOrganizationRequest(
                    organization=o.Organization(name=home, display_name="x"), update_mask=mask
                ),
                c,
            ),
        ),
        ("suspend", lambda c: s.SuspendOrganization(pb.SuspendOrganizationRequest(name=home, reason="x"), c)),
        ("resume", lambda c: s.ResumeOrganization(pb.ResumeOrganizationRequest(name=home), c)),
        (
            "create team",
            lambda c: s.CreateTeam(pb.CreateTeamRequest(parent=home, team=o.Team(display_name="New")), c),
        ),
        ("get team", lambda c: s.GetTeam(pb.GetTeamRequest(name=team.name), c)),
        ("get team by id", lambda c: s.GetTeam(pb.GetTeamRequest(name=team.name.rpartition("/")[2]), c)),
        ("list teams", lambda c: s.ListTeams(pb.ListTeamsRequest(parent=home), c)),
        (
            "update team",
            lambda c: s.UpdateTeam(
                pb.UpdateTeamRequest(team=o.Team(name=team.name, display_name="x"), update_mask=mask), c
            ),
        ),
        ("delete team", lambda c: s.DeleteTeam(pb.DeleteTeamRequest(name=team.name), c)),
        ("create member", lambda c: s.CreateMember(pb.CreateMemberRequest(parent=home, member=member), c)),
        ("get member", lambda c: s.GetMember(pb.GetMemberRequest(name=who), c)),
        ("list members", lambda c: s.ListMembers(pb.ListMembersRequest(parent=home), c)),
        (
            "update member",
            lambda c: s.UpdateMember(
                pb.UpdateMemberRequest(member=o.Member(name=who, display_name="x"), update_mask=mask), c
            ),
        ),
        ("suspend member", lambda c: s.SuspendMember(pb.SuspendMemberRequest(name=who, reason="x"), c)),
        ("resume member", lambda c: s.ResumeMember(pb.ResumeMemberRequest(name=who), c)),
        ("delete member", lambda c: s.DeleteMember(pb.DeleteMemberRequest(name=who, reason="x"), c)),
        ("get policy", lambda c: s.GetPolicy(pb.GetPolicyRequest(name=f"{home}/policy"), c)),
        (
            "update policy",
            lambda c: s.UpdatePolicy(
                pb.UpdatePolicyRequest(
                    policy=o.Policy(name=f"{home}/policy", self_approval=True),
                    update_mask=FieldMask(paths=["self_approval"]),
                ),
                c,
            ),
        ),
    ]


async def test_nothing_of_another_organization_is_there(town: Town) -> None:
    """For its administrator, for whoever has no organization, and for nobody who claims the wrong one."""
    homeless = Principal(kinds=town.admin.kinds, name="x")
    for caller in (town.foreign_admin, homeless):
        for what, ask in _foreign(town):
            assert (await _code(ask(_context(caller)))).startswith("not_found"), what


async def test_its_own_administrator_may_do_everything_but_stop_the_organization(town: Town) -> None:
    """The list above fails for being foreign, not for being wrong."""
    for what, ask in _foreign(town):
        code = await _code(ask(_context(town.admin)))
        expected = {"suspend": "not_found name", "resume": "not_found name", "delete team": "failed_precondition name"}
        assert code == expected.get(what, "ok"), what


async def test_an_auditor_sees_all_of_its_organization_and_changes_nothing(town: Town) -> None:
    """Even where a rule of the schema were too wide."""
    for what, ask in _foreign(town):
        code = await _code(ask(_context(town.auditor)))
        assert code == "ok" if what.startswith(("get", "list")) else code.startswith("not_found"), what


async def test_a_member_sees_itself_its_teams_and_who_shares_them(town: Town) -> None:
    """What else its organization has is not there."""
    fellow = await town.person(town.home, "finn", o.MEMBER_ROLE_MEMBER, town.ours.name)
    stranger = await town.person(town.home, "sue", o.MEMBER_ROLE_MEMBER, town.theirs.name)
    c, s = _context(town.member), town.service
    assert await _code(s.GetTeam(pb.GetTeamRequest(name=town.ours.name), c)) == "ok"
    assert await _code(s.GetTeam(pb.GetTeamRequest(name=town.theirs.name), c)) == "not_found name"
    for who, code in ((town.member, "ok"), (fellow, "ok"), (stranger, "not_found name")):
        assert await _code(s.GetMember(pb.GetMemberRequest(name=who.name), c)) == code
    teams = (await s.ListTeams(pb.ListTeamsRequest(parent="organizations/-"), c)).teams
    assert [team.name for team in teams] == [town.ours.name]
    members = (await s.ListMembers(pb.ListMembersRequest(parent=town.home), c)).members
    assert {member.name for member in members} == {town.member.name, fellow.name}
    listed = (await s.ListOrganizations(pb.ListOrganizationsRequest(), c)).organizations
    assert [one.name for one in listed] == [town.home]


async def test_a_member_sees_its_own_keys_and_those_of_its_teams(town: Town) -> None:
    """By name and in lists; an auditor sees every one of the organization, and creates none."""
    fellow = await town.person(town.home, "finn", o.MEMBER_ROLE_MEMBER, town.theirs.name)
    own, of_team, other = [
        (await town.key(owner, team))[0]
        for owner, team in ((town.member, town.theirs), (fellow, town.ours), (fellow, town.theirs))
    ]
    keys, _ = await town.keys.list(town.member, KeyQuery(parent=town.home))
    assert {key.id for key in keys} == {own.id, of_team.id}
    assert [await _code(town.keys.get(town.member, key.name)) for key in (own, of_team, other)] == [
        "ok",
        "ok",
        "not_found name",
    ]
    assert len((await town.keys.list(town.auditor, KeyQuery(parent=town.home)))[0]) == 3
    draft = KeyDraft("x", fellow.name, town.ours.name, KeyQuota(town.home), 86_400, fellow.name)
    assert await _code(town.keys.create(town.auditor, town.home, draft)) == "not_found parent"


async def test_keys_of_a_suspended_organization_are_refused_until_it_is_resumed(town: Town) -> None:
    """Also a secret that was seen just before; nothing else of the key changes."""
    key, secret = await town.key(town.member, town.ours)
    foreign = (await town.team(town.abroad, "T")), town.foreign_admin
    _, other = await town.key(foreign[1], foreign[0])
    assert await town.code(secret) == "ok"
    request = pb.SuspendOrganizationRequest(name=town.home, reason="unpaid")
    answer = await town.service.SuspendOrganization(request, _context(OPERATOR))
    assert answer.organization.state == o.ORGANIZATION_STATE_SUSPENDED
    again = await town.service.SuspendOrganization(request, _context(OPERATOR))
    assert again.organization == answer.organization
    assert await town.code(secret) == "key_suspended"
    assert await town.code(other) == "ok"
    await town.service.ResumeOrganization(pb.ResumeOrganizationRequest(name=town.home), _context(OPERATOR))
    assert await town.code(secret) == "ok"
    assert await town.key_store.get(key.id) == key


@pytest.mark.parametrize("leaves", [False, True], ids=["suspended", "removed"])
@pytest.mark.parametrize("fate", ["", "suspend", "reassign", "revoke"])
async def test_the_keys_of_who_is_stopped_fare_as_asked_for_or_as_the_policy_says(
    town: Town, fate: str, leaves: bool
) -> None:
    """They are named in the answer, and refused at once where they are not somebody else's now."""
    key, secret = await town.key(town.member, town.ours)
    _, other = await town.key(town.admin, town.ours)
    assert await town.code(secret) == "ok"
    number = o.OrphanedKeys.Value(f"ORPHANED_KEYS_{fate.upper() or 'UNSPECIFIED'}")
    owner = town.admin.name if fate == "reassign" else ""
    stopping: dict[str, Any] = {"name": town.member.name, "reason": "left", "keys": number, "keys_owner": owner}
    answer: Any
    if leaves:
        answer = await town.service.DeleteMember(pb.DeleteMemberRequest(**stopping), _context(town.admin))
        again: Any = await town.service.DeleteMember(pb.DeleteMemberRequest(**stopping), _context(town.admin))
    else:
        answer = await town.service.SuspendMember(pb.SuspendMemberRequest(**stopping), _context(town.admin))
        again = await town.service.SuspendMember(pb.SuspendMemberRequest(**stopping), _context(town.admin))
    assert list(answer.changed_keys) == [key.name]
    assert not again.changed_keys
    codes = {"reassign": "ok", "revoke": "key_revoked"}
    assert await town.code(secret) == codes.get(fate, "key_suspended")
    assert await town.code(other) == "ok"
    kept = await town.key_store.get(key.id)
    assert kept is not None
    if fate == "reassign":
        admin_id = town.admin.name.rpartition("/")[2]
        assert (kept.owner_id, kept.rotation.responsible_id) == (admin_id, admin_id)
    member = (await town.service.GetMember(pb.GetMemberRequest(name=town.member.name), _context(OPERATOR))).member
    assert member.state == (o.MEMBER_STATE_REMOVED if leaves else o.MEMBER_STATE_SUSPENDED)
    assert await _code(town.key(town.member, town.ours)) == "not_found key.owner"
    resumed = town.service.ResumeMember(pb.ResumeMemberRequest(name=town.member.name), _context(town.admin))
    assert await _code(resumed) == ("failed_precondition name" if leaves else "ok")


async def test_a_policy_decides_where_the_request_says_nothing(town: Town) -> None:
    """It names who gets the keys, and is changed as its mask names, by version."""
    key, _ = await town.key(town.member, town.ours)
    policy = o.Policy(
        name=f"{town.home}/policy",
        self_approval=True,
        orphaned_keys=o.ORPHANED_KEYS_REASSIGN,
        orphaned_keys_owner=town.auditor.name,
    )
    mask = FieldMask(paths=["orphaned_keys", "orphaned_keys_owner"])
    update = pb.UpdatePolicyRequest(policy=policy, update_mask=mask)
    after = (await town.service.UpdatePolicy(update, _context(town.admin))).policy
    assert (after.self_approval, after.orphaned_keys_owner, after.etag) == (False, town.auditor.name, '"2"')
    update.policy.etag = '"1"'
    update.policy.reveal_period.FromTimedelta(timedelta(days=1))
    update.update_mask.paths.append("reveal_period")
    assert await _code(town.service.UpdatePolicy(update, _context(town.admin))) == "version_conflict etag"
    request = pb.SuspendMemberRequest(name=town.member.name, reason="x")
    answer = await town.service.SuspendMember(request, _context(town.admin))
    assert list(answer.changed_keys) == [key.name]
    kept = await town.key_store.get(key.id)
    assert kept is not None
    assert (kept.state, kept.owner_id) == (KeyState.ACTIVE, town.auditor.name.rpartition("/")[2])


async def test_a_policy_excludes_routes_by_their_tags(town: Town) -> None:
    """They are kept in their order, told, and gone when none is named."""
    for wanted in (["trains-on-data", "region:us"], []):
        policy = o.Policy(name=f"{town.home}/policy", excluded_route_tags=wanted)
        update = pb.UpdatePolicyRequest(policy=policy, update_mask=FieldMask(paths=["excluded_route_tags"]))
        await town.service.UpdatePolicy(update, _context(town.admin))
        kept = await town.service.GetPolicy(pb.GetPolicyRequest(name=policy.name), _context(town.admin))
        assert [*kept.policy.excluded_route_tags] == wanted


async def test_a_policy_can_switch_kept_answers_off(town: Town) -> None:
    """And on again; it is kept, and told."""
    for wanted in (True, False):
        policy = o.Policy(name=f"{town.home}/policy", replay_disabled=wanted)
        update = pb.UpdatePolicyRequest(policy=policy, update_mask=FieldMask(paths=["replay_disabled"]))
        await town.service.UpdatePolicy(update, _context(town.admin))
        kept = await town.service.GetPolicy(pb.GetPolicyRequest(name=policy.name), _context(town.admin))
        assert kept.policy.replay_disabled is wanted


@pytest.mark.parametrize(
    ("values", "paths", "code"),
    [
        ({}, ["stored_responses_enabled"], "unimplemented update_mask"),
        ({}, ["etag"], "invalid_request update_mask"),
        ({}, ["nonsense"], "invalid_request update_mask"),
        ({}, [], "invalid_request update_mask"),
        ({"orphaned_keys": o.ORPHANED_KEYS_REASSIGN}, ["orphaned_keys"], "invalid_request policy.orphaned_keys_owner"),
        (
            {"orphaned_keys_owner": f"organizations/{new_id('org')}/members/{new_id('user')}"},
            ["orphaned_keys_owner"],
            "not_found policy.orphaned_keys_owner",
        ),
    ],
)
async def test_a_policy_that_would_not_hold_is_refused(
    town: Town, values: dict[str, Any], paths: list[str], code: str
) -> None:
    """What this version does not enforce is not kept either."""
    policy = o.Policy(name=f"{town.home}/policy", **values)
    request = pb.UpdatePolicyRequest(policy=policy, update_mask=FieldMask(paths=paths))
    assert await _code(town.service.UpdatePolicy(request, _context(town.admin))) == code


async def test_the_last_administrator_keeps_the_role(town: Town) -> None:
    """Neither update nor suspension nor removal leaves an organization without one; with another, all go."""
    update = pb.UpdateMemberRequest(
        member=o.Member(name=town.admin.name, roles=[o.MEMBER_ROLE_MEMBER]), update_mask=FieldMask(paths=["roles"])
    )
    suspend = pb.SuspendMemberRequest(name=town.admin.name, reason="x")
    delete = pb.DeleteMemberRequest(name=town.admin.name, reason="x")
    c, s = _context(OPERATOR), town.service
    for asked in (s.UpdateMember(update, c), s.SuspendMember(suspend, c), s.DeleteMember(delete, c)):
        assert await _code(asked) == "failed_precondition name"
    await town.person(town.home, "eve", o.MEMBER_ROLE_ADMIN)
    assert await _code(s.UpdateMember(update, c)) == "ok"


async def test_preferences_are_the_callers_own(town: Town) -> None:
    """They are shown with who the caller is, and hold no organization out of its sight."""
    wanted = o.Preferences(theme=o.THEME_DARK, time_zone="Europe/Berlin", default_organization=town.home)
    mask = FieldMask(paths=["theme", "time_zone", "default_organization"])
    request = pb.UpdatePreferencesRequest(preferences=wanted, update_mask=mask)
    await town.service.UpdatePreferences(request, _context(town.member))
    caller = (await town.service.GetCaller(pb.GetCallerRequest(), _context(town.member))).caller
    assert caller.preferences == wanted
    assert [one.name for one in caller.memberships] == [town.member.name]
    assert caller.email == "mia@example.com"
    other = (await town.service.GetCaller(pb.GetCallerRequest(), _context(town.admin))).caller
    assert other.preferences == o.Preferences()
    request.preferences.default_organization = town.abroad
    code = await _code(town.service.UpdatePreferences(request, _context(town.member)))
    assert code == "not_found preferences.default_organization"
    request.preferences.time_zone = "../etc/passwd"
    code = await _code(town.service.UpdatePreferences(request, _context(town.member)))
    assert code == "invalid_request preferences.time_zone"
    kinds = frozenset({access_pb2.CALLER_KIND_API_KEY})
    key = Principal(kinds=kinds, name=f"{town.home}/keys/x", organization=town.home, key_id="x")
    told = (await town.service.GetCaller(pb.GetCallerRequest(), _context(key))).caller
    assert not told.HasField("preferences")


@pytest.mark.parametrize(
    ("member", "param"),
    [
        (o.Member(roles=[o.MEMBER_ROLE_MEMBER]), "member.subject"),
        (o.Member(subject="x"), "member.roles"),
        (o.Member(subject="a\r\nb", roles=[o.MEMBER_ROLE_MEMBER]), "member.subject"),
        (o.Member(subject="x" * 256, roles=[o.MEMBER_ROLE_MEMBER]), "member.subject"),
        (o.Member(email="\0", roles=[o.MEMBER_ROLE_MEMBER]), "member.email"),
        (o.Member(subject="x", roles=[o.MEMBER_ROLE_MEMBER], name="organizations/x/members/y"), "member.name"),
        (o.Member(subject="x", roles=[o.MEMBER_ROLE_MEMBER], state=o.MEMBER_STATE_ACTIVE), "member.state"),
        (o.Member(subject="x", roles=[o.MEMBER_ROLE_MEMBER], externally_managed=True), "member.externally_managed"),
        (o.Member(subject="x", roles=[o.MEMBER_ROLE_MEMBER], key_count=3), "member.key_count"),
        (o.Member(subject="x", roles=[o.MEMBER_ROLE_MEMBER], etag="1"), "member.etag"),
    ],
)
async def test_a_bad_member_is_refused_with_its_field(town: Town, member: o.Member, param: str) -> None:
    """Control characters, lengths, and fields of the gateway."""
    request = pb.CreateMemberRequest(parent=town.home, member=member)
    assert await _code(town.service.CreateMember(request, _context(town.admin))) == f"invalid_request {param}"
