"""`tokendance keys request, requests, approve, deny, reveal` on a node that the test plays."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.tools.tokendance_cli.conftest import Run

from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import keys_service_pb2_grpc
from tokendance_cli.failures import CommandError
from tokendance_cli.key_request_view import changed_wish
from tokendance_cli.key_update import Words

ASKED = "organizations/org_1/keyRequests/kreq_1"
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


class FakeKeys(keys_service_pb2_grpc.KeysServiceServicer):
    """Has two pages with a request each, and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.credentials: set[str] = set()

    def RequestKey(self, request: pb.RequestKeyRequest, context: Any) -> pb.RequestKeyResponse:
        self._keep(request, context)
        made = pb.KeyRequest(name=ASKED, key=request.key, state=pb.KEY_REQUEST_STATE_PENDING)
        return pb.RequestKeyResponse(key_request=made)

    def ListKeyRequests(self, request: pb.ListKeyRequestsRequest, context: Any) -> pb.ListKeyRequestsResponse:
        self._keep(request, context)
        if not request.page_token:
            other = pb.KeyRequest(name="organizations/org_1/keyRequests/kreq_0", state=pb.KEY_REQUEST_STATE_DENIED)
            return pb.ListKeyRequestsResponse(key_requests=[other], next_page_token="more")
        return pb.ListKeyRequestsResponse(key_requests=[wanted()])

    def ApproveKeyRequest(self, request: pb.ApproveKeyRequestRequest, context: Any) -> pb.ApproveKeyRequestResponse:
        self._keep(request, context)
        return pb.ApproveKeyRequestResponse(key_request=wanted())

    def DenyKeyRequest(self, request: pb.DenyKeyRequestRequest, context: Any) -> pb.DenyKeyRequestResponse:
        self._keep(request, context)
        return pb.DenyKeyRequestResponse(key_request=wanted())

    def RevealKey(self, request: pb.RevealKeyRequest, context: Any) -> pb.RevealKeyResponse:
        self._keep(request, context)
        return pb.RevealKeyResponse(key=pb.Key(name="organizations/org_1/keys/key_1"), secret="tdk_new")

    def _keep(self, request: Any, context: Any) -> None:
        self.asked.append(request)
        self.credentials.add(dict(context.invocation_metadata()).get("authorization", ""))


def wanted() -> pb.KeyRequest:
    """The request on the second page."""
    key = pb.Key(
        purpose="ci",
        owner="organizations/org_1/members/ann",
        team="organizations/org_1/teams/core",
        quota=pb.KeyQuota(inherited_from="organizations/org_1"),
        rotation=pb.KeyRotation(responsible="organizations/org_1/members/bob"),
        allowed_models=["a", "b"],
        labels={"a": "1"},
    )
    key.rotation.period.FromSeconds(86_400)
    key.expire_time.FromSeconds(4_000_000_000)
    return pb.KeyRequest(name=ASKED, key=key, state=pb.KEY_REQUEST_STATE_PENDING, etag='"1"')


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeKeys]:
    """A node on the data directory `d` below the test's own."""
    (tmp_path / "d").mkdir()
    server, keys = grpc.server(ThreadPoolExecutor(2)), FakeKeys()  # type: ignore[abstract] # the RPCs that no test calls
    keys_service_pb2_grpc.add_KeysServiceServicer_to_server(keys, server)
    server.add_insecure_port(f"unix:{tmp_path / 'd' / 'admin.sock'}")
    server.start()
    yield keys
    server.stop(None).wait()


def test_a_request_needs_no_owner_and_carries_the_token(run: Run, node: FakeKeys) -> None:
    """Who asks is who is signed in."""
    words = ["--purpose", "ci", "--team", "organizations/org_1/teams/core", "--rotated-by", "bob"]
    words += ["--rotation-days", "90", "--limit", "requests/minute=60"]
    told = run("--data-dir", "d", "keys", "request", *words, "--request-id", "r", TOKENDANCE_ID_TOKEN=TOKEN)
    assert told.returncode == 0, told.stderr
    (asked,) = node.asked
    assert (asked.parent, asked.request_id, asked.key.owner) == ("organizations/org_1", "r", "")
    assert asked.key.rotation.responsible == "organizations/org_1/members/bob"
    assert node.credentials == {f"Bearer {TOKEN}"}
    assert run("--data-dir", "d", "keys", "request", *words, "--inherit-quota", "team").returncode == 2


def test_requests_are_listed_over_pages(run: Run, node: FakeKeys) -> None:
    """Narrowed by the word for the state."""
    told = run("--data-dir", "d", "--format", "json", "keys", "requests", "--state", "pending")
    assert [one["name"][-6:] for one in json.loads(told.stdout)] == ["kreq_0", "kreq_1"]
    assert {one.state for one in node.asked} == {pb.KEY_REQUEST_STATE_PENDING}
    assert run("--data-dir", "d", "keys", "requests").stdout.splitlines()[2].split()[:2] == ["kreq_1", "pending"]
    assert run("--data-dir", "d", "keys", "requests", "--state", "lost").returncode == 2


def test_an_approval_is_of_the_version_that_was_looked_at(run: Run, node: FakeKeys) -> None:
    """By the id alone too; as asked for, nothing of the key is sent."""
    assert run("--data-dir", "d", "keys", "approve", "kreq_1", "--reason", "Fine").returncode == 0
    approval = node.asked[-1]
    assert (approval.name, approval.etag, approval.reason, approval.HasField("key")) == (ASKED, '"1"', "Fine", False)
    run("--data-dir", "d", "keys", "approve", "kreq_1", "--allow-model", "c", "--clear", "expiry")
    changed = node.asked[-1].key
    assert (list(changed.allowed_models), changed.HasField("expire_time"), changed.name) == (["c"], False, "")
    told = run("--data-dir", "d", "keys", "approve", "kreq_2")
    assert (told.returncode, "There is no request kreq_2" in told.stderr) == (1, True)


def test_a_denial_has_a_reason_and_a_reveal_may_go_to_a_file(run: Run, node: FakeKeys, tmp_path: Path) -> None:
    """The file is looked at first, because there is no second time."""
    assert run("--data-dir", "d", "keys", "deny", ASKED).returncode == 2
    assert run("--data-dir", "d", "keys", "deny", ASKED, "--reason", "x").returncode == 0
    assert (node.asked[-1].name, node.asked[-1].reason) == (ASKED, "x")
    before = len(node.asked)
    assert run("--data-dir", "d", "keys", "reveal", ASKED, "--key-file", "no/k").returncode != 0
    assert len(node.asked) == before
    told = run("--data-dir", "d", "keys", "reveal", ASKED, "--key-file", "k")
    assert (told.returncode, "tdk_new" in told.stdout + told.stderr) == (0, False)
    assert (tmp_path / "k").read_text() == "tdk_new\n"


def test_what_is_not_said_stays_as_asked_for() -> None:
    """Each word takes the place of one field, whole."""
    asked = wanted()
    changed = changed_wish(asked, Words(purpose="cd", rotation_days=2, labels=("b=2",), limits=("requests/day=5",)))
    expected = wanted().key
    expected.purpose = "cd"
    expected.rotation.period.FromSeconds(2 * 86_400)
    expected.labels.clear()
    expected.labels["b"] = "2"
    assert [rule.limit for rule in changed.quota.limits.rules] == [5]
    expected.quota.CopyFrom(changed.quota)
    assert changed == expected
    assert asked == wanted()
    with pytest.raises(CommandError, match="contradict"):
        changed_wish(asked, Words(models=("a",), clear=("models",)))
