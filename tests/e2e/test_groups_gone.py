"""Somebody whose groups at the identity provider say no more that they belong to an organization."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import documents
from tests.e2e.upstream import Upstream
from tests.identity_provider import AUDIENCE, running_identity_provider

from tokendance import Client
from tokendance.gateway.v1 import keys_service_pb2, organization_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb


def test_they_are_suspended_with_their_keys_at_the_next_token(upstream: Upstream, tmp_path: Path) -> None:
    """Refused at once, listed as suspended; being in the group again does not undo what only a person may."""
    with running("one", tmp_path, upstream.base_url, ["sim"]) as node:
        organization = documents(node.data_dir, "organizations", "list")[0]["name"]
    with running_identity_provider(tmp_path) as provider:
        settings = {
            "SERVER__IDENTITY__ISSUER": provider.issuer,
            "SERVER__IDENTITY__AUDIENCE": AUDIENCE,
            "SERVER__IDENTITY__GROUPS": json.dumps([{"value": "acme", "role": "member", "organization": organization}]),
        }
        with (
            running("one", tmp_path, upstream.base_url, ["sim"], settings=settings) as node,
            Client(f"unix:{node.data_dir / 'admin.sock'}", api_key="") as operator,
        ):
            _invite(operator, organization, "boss", organization_pb2.MEMBER_ROLE_ADMIN)
            member = _invite(operator, organization, "mia", organization_pb2.MEMBER_ROLE_MEMBER)
            assert _ask(node, provider.token_of("mia")) == "permission_denied"
            provider.entitle("mia", "acme", "everybody")
            assert _ask(node, provider.token_of("mia")) == member
            key = _key(operator, organization, member)
            provider.entitle("mia", "everybody")
            before = provider.token_of("mia")
            assert _ask(node, before) == "permission_denied"
            assert _state(operator, member) == organization_pb2.MEMBER_STATE_SUSPENDED
            assert operator.get_key(key).state == keys_service_pb2.KEY_STATE_SUSPENDED
            provider.entitle("mia", "acme")
            assert _ask(node, provider.token_of("mia")) == "permission_denied"


def _ask(node: Node, token: str) -> str:
    request = urllib.request.Request(
        f"{node.internal[0]}/admin/v1/caller", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(json.load(answer)["caller"]["name"])
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["x-tokendance-error-code"])


def _invite(operator: Client, organization: str, subject: str, role: organization_pb2.MemberRole.ValueType) -> str:
    wanted = organization_pb2.Member(subject=subject, roles=[role])
    request = pb.CreateMemberRequest(parent=organization, member=wanted)
    return operator.stubs.organizations.CreateMember(request).member.name


def _key(operator: Client, organization: str, owner: str) -> str:
    *_, first = operator.list_keys()
    wanted = keys_service_pb2.Key(
        purpose="Of a member", owner=owner, team=first.team, quota=first.quota, rotation=first.rotation
    )
    wanted.rotation.ClearField("due_time")
    return operator.create_key(organization, wanted).key.name


def _state(operator: Client, member: str) -> organization_pb2.MemberState.ValueType:
    return operator.stubs.organizations.GetMember(pb.GetMemberRequest(name=member)).member.state
