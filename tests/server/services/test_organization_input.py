"""Bad input to every RPC of OrganizationsService, over SQLite: each text of each request, by what scanners send."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from prometheus_client import CollectorRegistry
from tests.pseudonyms import NamedAnew
from tests.server.services.edge import MESSAGE_LIMIT, METADATA_LIMIT, VALIDATOR
from tests.server.services.test_key_input import CONTROL, HUGE, PATTERNS, TOKEN, texts

from tokendance.gateway.v1 import access_pb2, organizations_service_pb2_grpc
from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance.ids import new_id
from tokendance.rpc import from_rpc
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.organizations import Member, MemberRole, Organization, Team
from tokendance_server.domain.people.desk import build_people
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import read_rules
from tokendance_server.services.admission import Admission
from tokendance_server.services.call import Trust
from tokendance_server.services.interceptors import Chain, DeadlinePolicy
from tokendance_server.services.local_channel import LocalChannel, MethodTable
from tokendance_server.services.organizations import OrganizationsService
from tokendance_server.services.records import Recorder
from tokendance_server.services.sign_in import SignIn
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.people import SqlPeopleStore
from tokendance_server.telemetry import Metrics

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
BOTH = frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN, access_pb2.CALLER_KIND_PLATFORM_ADMIN})
OWN = frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN})
RPCS = [method.name for method in pb.DESCRIPTOR.services_by_name["OrganizationsService"].methods]
# Texts of people, in which any printable character means itself.
FREE = frozenset(
    {"display_name", "contact", "description", "labels", "subject", "email", "reason", "request_id", "query", "models"}
)
# Texts that are compared with what the gateway gave out.
OPAQUE = frozenset({"etag", "page_token"})


@dataclass
class Tenant:
    """What one organization has."""

    organization: Organization
    team: Team
    member: Member


class _Tokens:
    """Takes every token for one of the same caller."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def identify(self, token: str) -> Principal:
        return self._principal


class Desk:
    """The servicer behind its chain on a database, and organizations in it as they are asked for."""

    def __init__(self, database: Database) -> None:
        self.people = SqlPeopleStore(database)
        clock, peppers = ManualClock(START), PepperRing.of(bytes(range(32)))
        verifier = Verifier(SqlKeyStore(database), peppers, clock, lambda: True)
        self._service = OrganizationsService(build_people(self.people, peppers, clock, verifier, NamedAnew()))

    async def tenant(self) -> Tenant:
        """Make an organization with a team, an administrator and a member in the team."""
        made = _tenant()
        async with self.people.tenant(made.organization.id) as opened:
            admin = replace(made.member, id=new_id("user"), subject="", email="", roles=(MemberRole.ADMIN,))
            for record in (made.organization, made.team, made.member, admin):
                await opened.put(record, START)
        return made

    async def code(
        self, rpc: str, request: Any, tenant: Tenant, kinds: frozenset[access_pb2.CallerKind.ValueType] = BOTH
    ) -> tuple[str, str, Any]:
        """Make a call of an administrator; return the code and field of the refusal, or `ok` and the answer."""
        home = tenant.organization.name
        caller = Principal(kinds, name=f"{home}/members/{new_id('user')}", organization=home)
        try:
            return "ok", "", await getattr(self._stub(caller), rpc)(request, metadata=TOKEN)
        except grpc.aio.AioRpcError as error:
            refused = from_rpc(error)
            return refused.code, refused.param or "", None

    def _stub(self, caller: Principal) -> Any:
        chain = Chain(
            Trust.NETWORK,
            rules=read_rules([pb.DESCRIPTOR]),
            keys=None,  # type: ignore[arg-type] # nobody comes with a key
            admission=Admission(10),
            deadlines=DeadlinePolicy(unary_s=5, stream_s=5, admin_s=5, margin_s=0.1),
            recorder=Recorder(Metrics(CollectorRegistry()), known_model=lambda _: False),
            validator=VALIDATOR,
            sign_in=SignIn(_Tokens(caller)),
        )
        table = MethodTable()
        target: Any = table
        organizations_service_pb2_grpc.add_OrganizationsServiceServicer_to_server(self._service, target)
        wrapped = {path: chain.wrap(path, handler) for path, handler in table.handlers.items()}
        channel: Any = LocalChannel(wrapped, max_message_bytes=MESSAGE_LIMIT, max_metadata_bytes=METADATA_LIMIT)
        return organizations_service_pb2_grpc.OrganizationsServiceStub(channel)


def _tenant() -> Tenant:
    organization = Organization(new_id("org"), "O", START)
    team = Team(organization.id, new_id("team"), "T", START)
    member = Member(organization.id, new_id("user"), "M", START, subject=new_id("s"), team_ids=(team.id,))
    return Tenant(organization, team, member)


def asked(rpc: str, tenant: Tenant) -> Any:
    """A good request of an RPC with every text that it may hold, but for etag and page token."""
    home, team, member = tenant.organization.name, tenant.team.name, tenant.member.name
    organization = o.Organization(display_name="New", contact="c", labels={"name": "value"})
    squad = o.Team(display_name="New", description="d", labels={"name": "value"})
    person = o.Member(subject="s", email="e@x", display_name="d", roles=[o.MEMBER_ROLE_MEMBER], teams=[team])
    rule = o.IssuanceRule(display_name="r", teams=[team], models=["m"])
    policy = o.Policy(
        name=f"{home}/policy",
        issuance_rules=[rule],
        orphaned_keys=o.ORPHANED_KEYS_REASSIGN,
        orphaned_keys_owner=member,
    )
    fate: Any = {"keys": o.ORPHANED_KEYS_REASSIGN, "keys_owner": member}
    requests: dict[str, Any] = {
        "GetCaller": pb.GetCallerRequest(),
        "UpdatePreferences": pb.UpdatePreferencesRequest(
            preferences=o.Preferences(time_zone="UTC", default_organization=home),
            update_mask=FieldMask(paths=["time_zone", "default_organization"]),
        ),
        "CreateOrganization": pb.CreateOrganizationRequest(organization=organization, request_id="r"),
        "GetOrganization": pb.GetOrganizationRequest(name=home),
        "ListOrganizations": pb.ListOrganizationsRequest(query="q"),
        "UpdateOrganization": pb.UpdateOrganizationRequest(
            organization=_named(organization, home), update_mask=FieldMask(paths=["display_name", "contact", "labels"])
        ),
        "SuspendOrganization": pb.SuspendOrganizationRequest(name=home, reason="x"),
        "ResumeOrganization": pb.ResumeOrganizationRequest(name=home),
        "EraseOrganization": pb.EraseOrganizationRequest(name=home, etag='"1"', reason="x"),
        "CreateTeam": pb.CreateTeamRequest(parent=home, team=squad, request_id="r"),
        "GetTeam": pb.GetTeamRequest(name=team),
        "ListTeams": pb.ListTeamsRequest(parent=home, query="q"),
        "UpdateTeam": pb.UpdateTeamRequest(
            team=_named(squad, team), update_mask=FieldMask(paths=["display_name", "description", "labels"])
        ),
        "DeleteTeam": pb.DeleteTeamRequest(name=team),
        "CreateMember": pb.CreateMemberRequest(parent=home, member=person, request_id="r"),
        "GetMember": pb.GetMemberRequest(name=member),
        "ListMembers": pb.ListMembersRequest(parent=home, team=team, query="q"),
        "UpdateMember": pb.UpdateMemberRequest(
            member=_named(person, member), update_mask=FieldMask(paths=["subject", "email", "display_name", "teams"])
        ),
        "SuspendMember": pb.SuspendMemberRequest(name=member, reason="x", **fate),
        "ResumeMember": pb.ResumeMemberRequest(name=member),
        "DeleteMember": pb.DeleteMemberRequest(name=member, reason="x", **fate),
        "EraseMember": pb.EraseMemberRequest(name=member, reason="x"),
        "GetPolicy": pb.GetPolicyRequest(name=f"{home}/policy"),
        "UpdatePolicy": pb.UpdatePolicyRequest(
            policy=policy, update_mask=FieldMask(paths=["issuance_rules", "orphaned_keys", "orphaned_keys_owner"])
        ),
    }
    return requests[rpc]


def _named(message: Any, name: str) -> Any:
    named = copy.deepcopy(message)
    named.name = name
    return named


def _last(path: str) -> str:
    return path.rpartition(".")[2].partition("[")[0]


def _value(message: Any, path: str) -> str:
    for part in path.split("."):
        name, _, index = part.partition("[")
        message = getattr(message, name)
        message = message[0] if index == "0]" else message
    return message if isinstance(message, str) else ""


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """An empty database."""
    database = await Database.open_sqlite(tmp_path / "gateway.db")
    yield Desk(database)
    await database.close()


@pytest.mark.parametrize("rpc", RPCS)
async def test_no_text_is_taken_for_what_it_is_not(desk: Desk, rpc: str) -> None:
    """Control characters and 10 kB are refused; wildcards find nothing, and in a text of people mean themselves."""
    tried, paths = 0, [path for path, _ in texts(asked(rpc, _tenant()))]
    tenant, code = await desk.tenant(), ""
    for path in paths:
        for kind, text in {**CONTROL, **PATTERNS, "huge": HUGE}.items():
            # Anew where something was done, because some calls end what the next one would need.
            if code == "ok" and not rpc.startswith(("Get", "List")):
                tenant = await desk.tenant()
            request = copy.deepcopy(asked(rpc, tenant))
            dict(texts(request))[path](request, text)
            code, _, answer = await desk.code(rpc, request, tenant)
            tried += 1
            where = f"{rpc} {path} {kind}: {code}"
            if _last(path) == "query" and kind != "huge":
                assert code == "ok", where
                assert not (answer.ListFields()), where
            elif _last(path) in OPAQUE:
                assert code in {"ok", "invalid_request", "version_conflict"}, where
            elif kind == "huge" or _last(path) not in FREE:
                assert code in {"invalid_request", "not_found"}, where
            elif kind in CONTROL:
                assert code == "invalid_request", where
            else:
                assert code in {"ok", "failed_precondition", "idempotency_conflict", "already_exists"}, where
    assert tried == len(paths) * 10


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc not in {"GetCaller", "CreateOrganization"}])
async def test_what_is_of_another_organization_is_not_there(desk: Desk, rpc: str) -> None:
    """Whatever field names it, and whether it exists there or nowhere; also to its own administrator."""
    abroad, tenant = await desk.tenant(), await desk.tenant()
    for foreign in (abroad, _tenant()):
        for path, _ in texts(asked(rpc, foreign)):
            theirs = _value(asked(rpc, foreign), path)
            if not theirs.startswith("organizations/"):
                continue
            request = copy.deepcopy(asked(rpc, tenant))
            dict(texts(request))[path](request, theirs)
            code, _, _ = await desk.code(rpc, request, tenant, OWN)
            # A list is narrowed within its organization, so that a foreign filter contradicts it.
            allowed = {"not_found", "invalid_request"} if path == "team" else {"not_found"}
            if rpc in {"SuspendOrganization", "ResumeOrganization", "EraseOrganization"}:
                # Never for an organization's administrator, and so it hears.
                allowed = {"permission_denied"}
            assert code in allowed, f"{rpc} {path}: {code}"


SET_BY_CALLERS = {
    "organization": {"display_name", "contact", "labels"},
    "team": {"display_name", "description", "labels"},
    "member": {"subject", "email", "display_name", "roles", "teams"},
}
OUTPUT_ONLY = [
    (noun, field.name)
    for noun, message in (("organization", o.Organization), ("team", o.Team), ("member", o.Member))
    for field in message.DESCRIPTOR.fields
    if field.name not in SET_BY_CALLERS[noun]
]


@pytest.mark.parametrize(("noun", "field"), OUTPUT_ONLY)
async def test_what_the_gateway_sets_nobody_else_sets(desk: Desk, noun: str, field: str) -> None:
    """Neither in something new nor by an update; a new field belongs into one of the two sets here."""
    tenant = await desk.tenant()
    create, update = f"Create{noun.title()}", f"Update{noun.title()}"
    request = asked(create, tenant)
    _set_any(getattr(request, noun), field)
    assert (await desk.code(create, request, tenant))[:2] == ("invalid_request", f"{noun}.{field}")
    changed = asked(update, tenant)
    if field not in ("name", "etag"):
        _set_any(getattr(changed, noun), field)
    changed.update_mask.paths[:] = [field]
    assert (await desk.code(update, changed, tenant))[:2] == ("invalid_request", "update_mask")
    changed.update_mask.paths[:] = ["display_name"]
    code, _, answer = await desk.code(update, changed, tenant)
    assert code == "ok"
    read = {"organization": pb.GetOrganizationRequest, "team": pb.GetTeamRequest, "member": pb.GetMemberRequest}[noun]
    kept = await desk.code(f"Get{noun.title()}", read(name=getattr(changed, noun).name), tenant)
    assert getattr(answer, noun) == getattr(kept[2], noun)


def _set_any(message: Any, name: str) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(message, name).FromSeconds(1)
    elif field.enum_type is not None or field.type == field.TYPE_INT32:
        setattr(message, name, 1)
    elif field.type == field.TYPE_BOOL:
        setattr(message, name, True)
    else:
        setattr(message, name, "x")
