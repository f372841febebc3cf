"""`tokendance keys` over the administration socket of a node that the test plays."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.tools.tokendance_cli.conftest import Run

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import (
    errors_pb2,
    keys_service_pb2_grpc,
    organization_pb2,
    organizations_service_pb2,
    organizations_service_pb2_grpc,
)
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.rpc import STATUS_DETAILS_KEY, status_code, to_status

REQUIRED = ["--purpose", "ci", "--owner", "ann", "--team", "core", "--rotated-by", "bob", "--rotation-days", "90"]


class FakeKeys(keys_service_pb2_grpc.KeysServiceServicer):
    """Keeps the keys that it is given; a second request id gives no secret; an owner `nobody` is refused."""

    def __init__(self) -> None:
        self.keys = [pb.Key(name="organizations/org_1/keys/key_0", purpose="first")]
        self.metadata: list[dict[str, Any]] = []
        self.request_ids: set[str] = set()
        self.lock = threading.Lock()

    def CreateKey(self, request: pb.CreateKeyRequest, context: Any) -> pb.CreateKeyResponse:
        with self.lock:
            context.send_initial_metadata((("x-request-id", "req_1"),))
            self.metadata.append(dict(context.invocation_metadata()))
            if request.key.owner.endswith("/nobody"):
                error = GatewayError(
                    errors_pb2.ERROR_REASON_INVALID_REQUEST, "No such member.", param="key.owner", request_id="req_1"
                )
                packed = to_status(error).SerializeToString()
                context.set_trailing_metadata(((STATUS_DETAILS_KEY, packed),))
                context.abort(status_code(error), error.message)
            again = request.request_id and request.request_id in self.request_ids
            self.request_ids.add(request.request_id)
            key = pb.Key()
            key.CopyFrom(request.key)
            key.name = f"{request.parent}/keys/key_{len(self.keys)}"
            key.state = pb.KEY_STATE_ACTIVE
            self.keys.append(key)
            return pb.CreateKeyResponse(key=key, secret="" if again else "tdk_new")

    def ListKeys(self, request: pb.ListKeysRequest, context: Any) -> pb.ListKeysResponse:
        if request.rotation_overdue:
            key = pb.Key(name="organizations/org_1/keys/key_late", owner="organizations/org_1/members/ann")
            key.rotation.responsible = "organizations/org_1/members/bob"
            key.rotation.due_time.FromSeconds(0)
            key.last_used_time.FromSeconds(60)
            return pb.ListKeysResponse(keys=[key])
        return pb.ListKeysResponse(keys=self.keys)

    def GetKey(self, request: pb.GetKeyRequest, context: Any) -> pb.GetKeyResponse:
        return pb.GetKeyResponse(key=next(key for key in self.keys if key.name.endswith(request.name)))


class FakeOrganizations(organizations_service_pb2_grpc.OrganizationsServiceServicer):
    """Knows of one organization until a test adds another."""

    def __init__(self) -> None:
        self.names = ["organizations/org_1"]

    def ListOrganizations(
        self, request: organizations_service_pb2.ListOrganizationsRequest, context: Any
    ) -> organizations_service_pb2.ListOrganizationsResponse:
        listed = [organization_pb2.Organization(name=name) for name in self.names]
        return organizations_service_pb2.ListOrganizationsResponse(organizations=listed)


class FakeNode:
    def __init__(self, data_dir: Path) -> None:
        self.keys = FakeKeys()  # type: ignore[abstract]  # the RPCs that no test calls
        self.organizations = FakeOrganizations()  # type: ignore[abstract]  # as above
        self._server = grpc.server(ThreadPoolExecutor(2))
        organizations_service_pb2_grpc.add_OrganizationsServiceServicer_to_server(self.organizations, self._server)
        keys_service_pb2_grpc.add_KeysServiceServicer_to_server(self.keys, self._server)
        self._server.add_insecure_port(f"unix:{data_dir / 'admin.sock'}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    """A node on the data directory `d` below the test's own."""
    (tmp_path / "d").mkdir()
    made = FakeNode(tmp_path / "d")
    yield made
    made.stop()


def test_create_sends_every_word(run: Run, node: FakeNode) -> None:
    """Ids become resource names of the only organization; the secret is shown; no key of a holder is sent."""
    told = run(
        "--data-dir", "d", "keys", "create", *REQUIRED, "--limit", "requests/minute=60",
        "--allow-model", "m", "--allow-network", "10.0.0.0/8", "--label", "stage=test", "--expires", "2100-01-31",
        "--format", "json", TOKENDANCE_API_KEY="tdk_holder",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    created = json.loads(told.stdout)
    assert created["secret"] == "tdk_new"
    assert created["key"] == {
        "name": "organizations/org_1/keys/key_1",
        "purpose": "ci",
        "owner": "organizations/org_1/members/ann",
        "team": "organizations/org_1/teams/core",
        "quota": {
            "limits": {"rules": [{"metric": "LIMIT_METRIC_REQUESTS", "window": "LIMIT_WINDOW_MINUTE", "limit": "60"}]}
        },
        "rotation": {"period": "7776000s", "responsible": "organizations/org_1/members/bob"},
        "expire_time": "2100-01-31T00:00:00Z",
        "allowed_models": ["m"],
        "allowed_networks": ["10.0.0.0/8"],
        "labels": {"stage": "test"},
        "state": "KEY_STATE_ACTIVE",
    }
    assert told.stderr.endswith("TOKENDANCE_REQUEST_ID=req_1\n")
    assert "authorization" not in node.keys.metadata[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [("team", "organizations/org_1/teams/core"), ("organization", "organizations/org_1"), ("a/b", "a/b")],
)
def test_quota_may_be_inherited(run: Run, node: FakeNode, words: str, expected: str) -> None:
    """Team and organization stand for the key's own."""
    told = run("--data-dir", "d", "keys", "create", *REQUIRED, "--inherit-quota", words)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[:2] == ["secret", "tdk_new"]
    assert node.keys.keys[-1].quota.inherited_from == expected


def test_secret_may_go_to_a_file(run: Run, node: FakeNode, tmp_path: Path) -> None:
    """With --key-file the secret is in the file alone."""
    told = run("--data-dir", "d", "keys", "create", *REQUIRED, "--inherit-quota", "team", "--key-file", "k")
    assert told.returncode == 0
    assert "tdk_new" not in told.stdout + told.stderr
    assert (tmp_path / "k").read_text(encoding="utf-8") == "tdk_new\n"


def test_repeat_tells_that_there_is_no_secret(run: Run, node: FakeNode) -> None:
    """A repeat with the same request id says why no secret is shown."""
    for expected in ("shown this once", "earlier call"):
        told = run("--data-dir", "d", "keys", "create", *REQUIRED, "--inherit-quota", "team", "--request-id", "r")
        assert expected in told.stderr


def test_refusal_is_told_with_its_field(run: Run, node: FakeNode) -> None:
    """What the node refuses comes with code, field and request id."""
    words = ["nobody" if word == "ann" else word for word in REQUIRED]
    told = run("--data-dir", "d", "keys", "create", *words, "--inherit-quota", "team")
    assert (told.returncode, told.stdout) == (1, "")
    assert "invalid_request: No such member. (key.owner)" in told.stderr
    assert told.stderr.endswith("TOKENDANCE_REQUEST_ID=req_1\n")


def test_organization_must_be_named_where_there_are_two(run: Run, node: FakeNode) -> None:
    """Nothing is guessed; a named organization, or one told by a resource name, is taken."""
    node.organizations.names.append("organizations/org_2")
    create = ["--data-dir", "d", "keys", "create", *REQUIRED, "--inherit-quota", "team"]
    told = run(*create)
    assert told.returncode == 2
    assert "organizations/org_1, organizations/org_2" in told.stderr
    assert run(*create, "--organization", "org_2").returncode == 0
    assert node.keys.keys[-1].team == "organizations/org_2/teams/core"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--inherit-quota", "team", "--limit", "requests/minute=1"],
        ["--limit", "requests"],
        ["--inherit-quota", "team", "--expires", "soon"],
        ["--inherit-quota", "team", "--label", "bare"],
        ["--inherit-quota", "team", "--rotation-days", "0"],
    ],
)
def test_wrong_usage_creates_nothing(run: Run, node: FakeNode, words: list[str]) -> None:
    """Words that cannot be read are exit code 2, and no key is made."""
    assert run("--data-dir", "d", "keys", "create", *REQUIRED, *words).returncode == 2
    assert len(node.keys.keys) == 1


def test_list_and_show(run: Run, node: FakeNode) -> None:
    """One line a key, and one key in full; as JSON, the messages themselves."""
    variables = {"TOKENDANCE_GATEWAY_SERVER__DATA_DIR": "d"}
    lines = run("keys", "list", **variables).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["KEY", "key_0"]
    assert json.loads(run("keys", "list", "--data-dir", "d", "--format", "json").stdout)[0]["purpose"] == "first"
    assert "organizations/org_1/keys/key_0" in run("keys", "show", "key_0", **variables).stdout


def test_overdue_keys_are_listed_with_who_should_have_rotated_them(run: Run, node: FakeNode) -> None:
    """And since when; and when they were used last."""
    told = run("--data-dir", "d", "keys", "list", "--overdue")
    header, line = told.stdout.splitlines()
    assert header.split()[-3:] == ["ROTATED_BY", "ROTATION_DUE", "LAST_USED"]
    assert line.split()[0] == "key_late"
    assert line.split()[-4:] == ["bob", "1970-01-01", "1970-01-01", "00:01:00Z"]


def test_no_node_is_exit_code_3(run: Run, tmp_path: Path) -> None:
    """With no node on the directory, or a dead one's socket left, the line says how to start one."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "admin.sock").touch()
    for data_dir in ("d", "none"):
        told = run("--data-dir", data_dir, "keys", "list")
        assert (told.returncode, told.stdout) == (3, "")
        assert f"tokendance serve --data-dir {data_dir}" in told.stderr


def test_socket_may_be_elsewhere(run: Run, node: FakeNode, tmp_path: Path) -> None:
    """A path too long for a socket is found through the data directory."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sockets.json").write_text(json.dumps({"folder": str(tmp_path / "d")}), encoding="utf-8")
    assert run("--data-dir", "other", "keys", "list").returncode == 0
