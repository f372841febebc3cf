"""People who were stopped, on two nodes that share a PostgreSQL: refused on the one where nobody stopped them."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.e2e.nodes import Process, stopping, wait_ready
from tests.e2e.operator_cli import tokendance
from tests.e2e.test_postgresql import Nodes
from tests.identity_provider import AUDIENCE, IdentityProvider, running_identity_provider
from tests.servers import PostgresServer

from tokendance import Client
from tokendance.gateway.v1 import organization_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb


@dataclass(frozen=True)
class Pair:
    """The operator of one node, and where the other one is administered."""

    operator: Client
    other: str
    provider: IdentityProvider

    def ask(self, token: str) -> str:
        """Return who the other node takes a bearer for, or why it does not let them in."""
        request = urllib.request.Request(f"{self.other}/admin/v1/caller", headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(json.load(answer)["caller"]["name"])
        except urllib.error.HTTPError as error:
            with error:
                return str(error.headers["x-tokendance-error-code"])

    def until(self, token: str, expected: str) -> float:
        """Ask until the answer is the expected one; return how many seconds that took."""
        began = time.monotonic()
        while (answer := self.ask(token)) != expected:
            assert time.monotonic() - began < 2, f"still {answer}"
            time.sleep(0.005)
        return time.monotonic() - began


@pytest.fixture(scope="module")
def pair(
    postgres_server: PostgresServer, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two nodes that take the tokens of one provider."""
    folder = tmp_path_factory.mktemp("pair")
    processes: list[Process] = []
    with (
        running_identity_provider(folder) as provider,
        postgres_server.database() as url,
        stopping(processes),
    ):
        nodes = Nodes(folder, url, processes)
        nodes.environment |= {
            "TOKENDANCE_GATEWAY_SERVER__REDIS_URL": redis_server,
            "TOKENDANCE_GATEWAY_SERVER__IDENTITY__ISSUER": provider.issuer,
            "TOKENDANCE_GATEWAY_SERVER__IDENTITY__AUDIENCE": AUDIENCE,
            # This machine is the provider's, too, and nodes on a database of many are not for this machine alone.
            "TOKENDANCE_GATEWAY_SERVER__EGRESS__ALLOW_LOOPBACK": "true",
        }
        assert tokendance("migrate", "apply", **nodes.environment).returncode == 0
        internals = []
        for name in ("a", "b"):
            process, _, internal = nodes.start(name)
            wait_ready(process, internal)
            internals.append(internal)
        with Client(f"unix:{folder / 'data-a' / 'admin.sock'}", api_key="") as operator:
            yield Pair(operator, internals[1], provider)


@pytest.mark.parametrize("what", ["member", "organization", "removal"])
def test_the_other_node_refuses_within_a_second(pair: Pair, what: str) -> None:
    """A token that was good a moment ago, and good again a moment after its bearer may come back."""
    stubs = pair.operator.stubs.organizations
    wanted = organization_pb2.Organization(display_name=f"Of the test of the {what}")
    organization = stubs.CreateOrganization(pb.CreateOrganizationRequest(organization=wanted)).organization.name
    member = organization_pb2.Member(roles=[organization_pb2.MEMBER_ROLE_MEMBER], email=f"{what}@example.com")
    name = stubs.CreateMember(pb.CreateMemberRequest(parent=organization, member=member)).member.name
    token = pair.provider.token_of(what)
    assert pair.ask(token) == name
    if what == "member":
        stubs.SuspendMember(pb.SuspendMemberRequest(name=name, reason="of the test"))
    elif what == "organization":
        stubs.SuspendOrganization(pb.SuspendOrganizationRequest(name=organization, reason="of the test"))
    else:
        stubs.DeleteMember(pb.DeleteMemberRequest(name=name, reason="of the test"))
    assert pair.until(token, "permission_denied") < 1
    if what == "member":
        stubs.ResumeMember(pb.ResumeMemberRequest(name=name))
        assert pair.until(token, name) < 1


def test_an_invitation_is_seen_by_the_other_node_within_a_second(pair: Pair) -> None:
    """Also by who was refused there just before."""
    token = pair.provider.token_of("late")
    assert pair.ask(token) == "permission_denied"
    stubs = pair.operator.stubs.organizations
    wanted = organization_pb2.Organization(display_name="Of somebody late")
    organization = stubs.CreateOrganization(pb.CreateOrganizationRequest(organization=wanted)).organization.name
    member = organization_pb2.Member(roles=[organization_pb2.MEMBER_ROLE_MEMBER], subject="late")
    name = stubs.CreateMember(pb.CreateMemberRequest(parent=organization, member=member)).member.name
    assert pair.until(token, name) < 1
