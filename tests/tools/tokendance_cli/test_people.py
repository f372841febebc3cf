"""`tokendance organizations, teams, members, policies` on a node that the test plays."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.tools.tokendance_cli.conftest import Run

from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance.gateway.v1 import organizations_service_pb2_grpc
from tokendance_cli.failures import CommandError
from tokendance_cli.tenant_view import member_lines, policy_lines
from tokendance_cli.tenant_words import agree, given

HOME = "organizations/org_1"


class FakeOrganizations(organizations_service_pb2_grpc.OrganizationsServiceServicer):
    """Has one of each, at the version "3", and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ListOrganizations(self, request: Any, context: Any) -> Any:
        return pb.ListOrganizationsResponse(organizations=[o.Organization(name=HOME, display_name="Home")])

    def GetOrganization(self, request: Any, context: Any) -> Any:
        return pb.GetOrganizationResponse(organization=o.Organization(name=HOME, display_name="Home", etag='"3"'))

    def UpdateOrganization(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.UpdateOrganizationResponse(organization=request.organization)

    def EraseOrganization(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.EraseOrganizationResponse(summary=o.ErasureSummary(members=2, keys=7))

    def ListMembers(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        if not request.page_token:
            return pb.ListMembersResponse(members=[o.Member(name=f"{HOME}/members/a")], next_page_token="more")
        return pb.ListMembersResponse(members=[o.Member(name=f"{HOME}/members/b", email="b@example.com")])

    def GetMember(self, request: Any, context: Any) -> Any:
        return pb.GetMemberResponse(member=o.Member(name=request.name, etag='"3"', key_count=1))

    def CreateMember(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.CreateMemberResponse(member=request.member)

    def UpdateMember(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.UpdateMemberResponse(member=request.member)

    def DeleteMember(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.DeleteMemberResponse(changed_keys=[f"{HOME}/keys/k"])

    def EraseMember(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.EraseMemberResponse(summary=o.ErasureSummary(members=1, keys=1, audit_events=4))

    def GetPolicy(self, request: Any, context: Any) -> Any:
        return pb.GetPolicyResponse(policy=o.Policy(name=request.name, etag='"3"'))

    def UpdatePolicy(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        return pb.UpdatePolicyResponse(policy=request.policy)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeOrganizations]:
    """A node on the data directory `d` below the test's own."""
    (tmp_path / "d").mkdir()
    server = grpc.server(ThreadPoolExecutor(2))
    people = FakeOrganizations()  # type: ignore[abstract] # the RPCs that no test calls
    organizations_service_pb2_grpc.add_OrganizationsServiceServicer_to_server(people, server)
    server.add_insecure_port(f"unix:{tmp_path / 'd' / 'admin.sock'}")
    server.start()
    yield people
    server.stop(None).wait()


def test_what_was_read_is_what_changes(run: Run, node: FakeOrganizations) -> None:
    """The version goes along, and only what was said is in the mask; a version by hand wins."""
    told = run("--data-dir", "d", "organizations", "update", "org_1", "--contact", "ops", "--clear", "labels")
    assert told.returncode == 0, told.stderr
    (asked,) = node.asked
    assert (asked.organization.name, asked.organization.etag) == (HOME, '"3"')
    assert sorted(asked.update_mask.paths) == ["contact", "labels"]
    run("--data-dir", "d", "organizations", "update", "org_1", "--contact", "ops", "--etag", '"2"')
    assert node.asked[-1].organization.etag == '"2"'
    assert run("--data-dir", "d", "organizations", "update", "org_1").returncode == 2
    assert len(node.asked) == 2


def test_ids_become_names_of_the_only_organization(run: Run, node: FakeOrganizations) -> None:
    """Of a member and of its teams; a role is a word."""
    words = ("members", "invite", "--email", "a@example.com", "--role", "auditor", "--team", "team_1")
    assert run("--data-dir", "d", *words).returncode == 0
    assert (node.asked[-1].parent, list(node.asked[-1].member.teams)) == (HOME, [f"{HOME}/teams/team_1"])
    assert list(node.asked[-1].member.roles) == [o.MEMBER_ROLE_AUDITOR]
    assert run("--data-dir", "d", *words, "--role", "king").returncode == 2
    assert run("--data-dir", "d", "members", "update", "user_1", "--clear", "teams").returncode == 0
    update = node.asked[-1]
    assert (update.member.name, list(update.update_mask.paths)) == (f"{HOME}/members/user_1", ["teams"])


def test_lists_run_over_pages(run: Run, node: FakeOrganizations) -> None:
    """As JSON and as a table."""
    told = run("--data-dir", "d", "--format", "json", "members", "list")
    assert [one["name"][-1] for one in json.loads(told.stdout)] == ["a", "b"]
    table = run("--data-dir", "d", "members", "list", "--organization", "org_1").stdout.splitlines()
    assert (table[0].split()[0], "b@example.com" in table[2]) == ("MEMBER", True)
    assert node.asked[-1].parent == HOME


@pytest.mark.parametrize(
    "words",
    [
        ("members", "remove", "user_1", "--reason", "left"),
        ("members", "erase", "user_1", "--reason", "asked for"),
        ("organizations", "erase", "org_1", "--reason", "gone"),
    ],
    ids=lambda words: f"{words[0]} {words[1]}",
)
def test_what_destroys_asks_first(run: Run, node: FakeOrganizations, words: tuple[str, ...]) -> None:
    """Where nobody can answer it is wrong usage, and nothing was done; an erasure was counted at most."""
    told = run("--data-dir", "d", *words)
    assert (told.returncode, "--yes" in told.stderr) == (2, True)
    assert all(one.validate_only for one in node.asked)
    assert run("--data-dir", "d", *words, "--yes").returncode == 0
    assert not getattr(node.asked[-1], "validate_only", False)
    assert run("--data-dir", "d", *words[:3]).returncode == 2, "a reason is needed"


def test_an_erasure_can_be_counted_only(run: Run, node: FakeOrganizations) -> None:
    """Without a question; what was done says so."""
    told = run("--data-dir", "d", "members", "erase", "user_1", "--reason", "x", "--dry-run")
    assert (told.returncode, "only counted" in told.stdout) == (0, True)
    assert [one.validate_only for one in node.asked] == [True]
    told = run("--data-dir", "d", "--format", "json", "organizations", "erase", "org_1", "--reason", "x", "--yes")
    assert json.loads(told.stdout) == {"members": "2", "keys": "7"}
    assert (node.asked[-1].etag, node.asked[-1].validate_only) == ('"3"', False)


def test_a_policy_is_set_word_by_word(run: Run, node: FakeOrganizations) -> None:
    """Another rule for keys clears who got them before; no is a word, too."""
    words = ("policies", "set", "org_1", "--orphaned-keys", "revoke", "--no-self-approval", "--max-rotation-days", "9")
    assert run("--data-dir", "d", *words, "--clear", "reveal").returncode == 0
    asked = node.asked[-1]
    assert (asked.policy.name, asked.policy.etag) == (f"{HOME}/policy", '"3"')
    assert asked.policy.max_rotation_period.seconds == 9 * 86_400
    assert sorted(asked.update_mask.paths) == [
        "max_rotation_period",
        "orphaned_keys",
        "orphaned_keys_owner",
        "reveal_period",
        "self_approval",
    ]
    reassign = ("policies", "set", "--orphaned-keys", "reassign", "--orphaned-keys-owner", "user_1")
    assert run("--data-dir", "d", *reassign).returncode == 0
    assert node.asked[-1].policy.orphaned_keys_owner == f"{HOME}/members/user_1"


@pytest.mark.parametrize("clear", [["purpose"], ["labels"], []])
def test_words_that_make_no_sense_are_wrong_usage(clear: list[str]) -> None:
    """What cannot be cleared, what is also given anew, and nothing at all."""
    message = o.Organization(labels={"a": "b"}) if clear else o.Organization()
    with pytest.raises(CommandError) as caught:
        given(message, clear, {"labels": "labels"})
    assert caught.value.exit_code == 2


def test_a_yes_by_option_asks_nobody() -> None:
    """The way of scripts."""
    agree("All is lost.", yes=True)


def test_records_say_what_is_not_set() -> None:
    """What holds where a policy says nothing; a member's roles and state in words."""
    lines = dict(policy_lines(o.Policy(issuance_rules=[o.IssuanceRule(display_name="r", max_keys_per_member=2)])))
    assert (lines["orphaned keys"], lines["reveal within"], lines["self approval"]) == ("suspend", "7 days", "no")
    assert lines["issuance rule 1"] == "r | teams any | models any | at most any quota | lifetime any | 2 keys each"
    member = o.Member(roles=[o.MEMBER_ROLE_ADMIN], state=o.MEMBER_STATE_INVITED)
    assert dict(member_lines(member))["roles"] == "admin"
    assert dict(member_lines(member))["state"] == "invited"
