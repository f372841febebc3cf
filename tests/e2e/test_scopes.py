"""Who is told what on a running node: denied is what a role may never do; what is outside of its scope is not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents

from tokendance import Client, GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import audit_service_pb2 as audit_pb
from tokendance.gateway.v1 import keys_service_pb2 as keys_pb
from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance.gateway.v1 import quota_service_pb2 as quota_pb
from tokendance.ids import new_id
from tokendance.rpc import from_rpc
from tokendance_server.domain.identity.development import KEY_FILE, DevelopmentKey
from tokendance_server.domain.identity.roles import Grant
from tokendance_server.stores.paths import find_sockets

KINDS = {
    "member": access_pb2.CALLER_KIND_MEMBER,
    "organization admin": access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
    "auditor": access_pb2.CALLER_KIND_AUDITOR,
    "platform admin": access_pb2.CALLER_KIND_PLATFORM_ADMIN,
    "other tenant": access_pb2.CALLER_KIND_ORGANIZATION_ADMIN,
    "other tenant's member": access_pb2.CALLER_KIND_MEMBER,
    "key": access_pb2.CALLER_KIND_API_KEY,
    "nobody": access_pb2.CALLER_KIND_ANYONE,
}
ALL, RULERS = {"organization admin", "auditor", "platform admin"}, {"organization admin", "platform admin"}
MASK = FieldMask(paths=["display_name"])


@dataclass(frozen=True)
class Place:
    """A node with two organizations: a member sees one team and one key of the first, and not another team's."""

    node: Node
    home: str
    seen: dict[str, str]
    hidden: dict[str, str]
    credentials: dict[str, str]

    def code(self, who: str, service: str, rpc: str, request: Any) -> str:
        """Call over TCP; return the code of the refusal, or `ok`."""
        with Client(self.node.grpc, api_key=self.credentials[who]) as client:
            try:
                getattr(getattr(client.stubs, service), rpc)(request)
            except GatewayError as error:
                return error.code
        return "ok"

    def nobody(self, path: str, request: Any, answer: Any) -> str:
        """Call without a credential; return the code."""
        with grpc.insecure_channel(self.node.grpc) as channel:
            call = channel.unary_unary(
                path, request_serializer=type(request).SerializeToString, response_deserializer=answer
            )
            try:
                call(request, timeout=10)
            except grpc.RpcError as error:
                return from_rpc(error).code
        return "ok"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The node, and a credential of each kind of caller."""
    with running("one", tmp_path_factory.mktemp("scopes"), "http://127.0.0.1:9/v1", []) as node:
        yield _place(node)


def _place(node: Node) -> Place:
    first = documents(node.data_dir, "keys", "list")[-1]
    home = "/".join(first["name"].split("/")[:2])
    hidden_key, secret = create_key(node.data_dir, "Not the member's")
    with Client(f"unix:{find_sockets(node.data_dir).admin}", api_key="") as operator:
        stub = operator.stubs.organizations
        made = stub.CreateOrganization(pb.CreateOrganizationRequest(organization=o.Organization(display_name="Other")))
        other = made.organization.name
        team = stub.CreateTeam(pb.CreateTeamRequest(parent=home, team=o.Team(display_name="Seen"))).team.name

        def member(parent: str, subject: str, role: o.MemberRole.ValueType, *teams: str) -> str:
            wanted = o.Member(subject=subject, roles=[role], teams=teams)
            name: str = stub.CreateMember(pb.CreateMemberRequest(parent=parent, member=wanted)).member.name
            return name

        names = {
            "member": member(home, "member", o.MEMBER_ROLE_MEMBER, team),
            "organization admin": member(home, "admin", o.MEMBER_ROLE_ADMIN),
            "auditor": member(home, "auditor", o.MEMBER_ROLE_AUDITOR),
            "other tenant": member(other, "other", o.MEMBER_ROLE_ADMIN),
            "other tenant's member": member(other, "else", o.MEMBER_ROLE_MEMBER),
        }
        own = keys_pb.Key(purpose="Own", owner=names["member"], team=team)
        own.quota.inherited_from = team
        own.rotation.responsible = names["member"]
        own.rotation.period.FromSeconds(86_400)
        own_key = operator.create_key(home, own).key.name
    signing = DevelopmentKey((Path(node.data_dir) / KEY_FILE).read_bytes())
    credentials = {"key": secret, "platform admin": signing.sign(Grant("platform_admin"), datetime.now(UTC))}
    for who, name in names.items():
        role: Any = {"other tenant": "organization_admin", "other tenant's member": "member"}.get(
            who, who.replace(" ", "_")
        )
        grant = Grant(role, "/".join(name.split("/")[:2]))
        credentials[who] = signing.sign(grant, datetime.now(UTC), member=name, subject=name)
    return Place(
        node,
        home,
        {"team": team, "key": own_key, "member": names["member"]},
        {"team": hidden_key["team"], "key": hidden_key["name"], "member": hidden_key["owner"]},
        credentials,
    )


def calls(place: Place) -> list[tuple[str, str, Any, set[str]]]:
    """A sample of RPCs: service, RPC, request, and in whose scope the resource lies. Each may be repeated."""
    home, seen, hidden = place.home, place.seen, place.hidden
    whole, own = {*ALL, "member"}, {*ALL, "member"}
    nowhere = f"{home}/members/{new_id('user')}"
    rename = o.Organization(name=home, display_name="Home")
    return [
        ("organizations", "GetOrganization", pb.GetOrganizationRequest(name=home), whole),
        (
            "organizations",
            "UpdateOrganization",
            pb.UpdateOrganizationRequest(organization=rename, update_mask=MASK),
            RULERS,
        ),
        ("organizations", "ResumeOrganization", pb.ResumeOrganizationRequest(name=home), {"platform admin"}),
        ("organizations", "ListTeams", pb.ListTeamsRequest(parent=home), whole),
        ("organizations", "GetTeam", pb.GetTeamRequest(name=seen["team"]), own),
        ("organizations", "GetTeam", pb.GetTeamRequest(name=hidden["team"]), ALL),
        (
            "organizations",
            "UpdateTeam",
            pb.UpdateTeamRequest(team=o.Team(name=hidden["team"], display_name="T"), update_mask=MASK),
            RULERS,
        ),
        ("organizations", "GetMember", pb.GetMemberRequest(name=seen["member"]), own),
        ("organizations", "GetMember", pb.GetMemberRequest(name=hidden["member"]), ALL),
        ("organizations", "GetMember", pb.GetMemberRequest(name=nowhere), set()),
        ("organizations", "ResumeMember", pb.ResumeMemberRequest(name=hidden["member"]), RULERS),
        (
            "organizations",
            "EraseMember",
            pb.EraseMemberRequest(name=hidden["member"], reason="x", validate_only=True),
            RULERS,
        ),
        ("organizations", "GetPolicy", pb.GetPolicyRequest(name=f"{home}/policy"), whole),
        (
            "organizations",
            "UpdatePolicy",
            pb.UpdatePolicyRequest(
                policy=o.Policy(name=f"{home}/policy"), update_mask=FieldMask(paths=["self_approval"])
            ),
            RULERS,
        ),
        ("keys", "GetKey", keys_pb.GetKeyRequest(name=seen["key"]), own),
        ("keys", "GetKey", keys_pb.GetKeyRequest(name=hidden["key"]), ALL),
        ("keys", "ResumeKey", keys_pb.ResumeKeyRequest(name=hidden["key"]), RULERS),
        ("keys", "ListKeyRequests", keys_pb.ListKeyRequestsRequest(parent=home), whole),
        ("audit", "ListAuditEvents", audit_pb.ListAuditEventsRequest(parent=home), ALL),
        ("audit", "VerifyAuditChain", audit_pb.VerifyAuditChainRequest(parent=home), ALL),
        ("audit", "ListAuditEvents", audit_pb.ListAuditEventsRequest(parent="platform"), {"platform admin"}),
        ("quota", "GetQuota", quota_pb.GetQuotaRequest(subject=hidden["team"]), {*ALL, "key"}),
        ("quota", "GetQuota", quota_pb.GetQuotaRequest(subject=seen["key"]), own),
    ]


@pytest.mark.parametrize("who", [who for who in KINDS if who != "nobody"])
def test_denied_is_what_a_role_never_may_and_the_rest_is_not_there(place: Place, who: str) -> None:
    """Also within the caller's own organization; nobody learns from a refusal what there is."""
    for service, rpc, request, sees in calls(place):
        allowed = set(_access(service, rpc).allow)
        code = place.code(who, service, rpc, request)
        if KINDS[who] not in allowed:
            expected = "api_key_not_accepted" if who == "key" else "permission_denied"
        else:
            expected = "ok" if who in sees else "not_found"
        assert code == expected, f"{who}: {rpc} {request}"


def test_who_sends_nothing_is_let_in_nowhere(place: Place) -> None:
    """Before anything is looked up, so that what is there and what is not answer alike."""
    for service, rpc, request, _ in calls(place):
        method = _method(service, rpc)
        path = f"/{method.containing_service.full_name}/{rpc}"
        assert place.nobody(path, request, lambda raw: raw) == "missing_api_key", rpc


def _method(service: str, rpc: str) -> Any:
    module, name = {
        "organizations": (pb, "OrganizationsService"),
        "keys": (keys_pb, "KeysService"),
        "audit": (audit_pb, "AuditService"),
        "quota": (quota_pb, "QuotaService"),
    }[service]
    file: Any = module.DESCRIPTOR
    return file.services_by_name[name].methods_by_name[rpc]


def _access(service: str, rpc: str) -> access_pb2.Access:
    access: access_pb2.Access = _method(service, rpc).GetOptions().Extensions[access_pb2.access]
    return access
