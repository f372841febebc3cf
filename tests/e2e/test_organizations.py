"""Organizations, teams and members on a running node: the operator's lists, and keys that end with their owner."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.e2e.nodes import running
from tests.e2e.operator_cli import create_key, documents

from tokendance import Client
from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance_server.stores.paths import find_sockets


def _code(base_url: str, secret: str) -> str:
    request = urllib.request.Request(f"{base_url}/models", headers={"Authorization": f"Bearer {secret}"})
    try:
        with urllib.request.urlopen(request, timeout=10):
            return "ok"
    except urllib.error.HTTPError as error:
        code: str = json.load(error)["error"]["code"]
        return code


def test_the_keys_of_a_suspended_member_are_refused_within_a_second(tmp_path: Path) -> None:
    """Over the node's own socket; the lists show who is there and how many keys work."""
    with running("one", tmp_path, "http://127.0.0.1:9/v1", []) as node:
        key, secret = create_key(node.data_dir, "Reports")
        assert _code(node.base_url, secret) == "ok"
        (organization,) = documents(node.data_dir, "organizations", "list")
        (team,) = documents(node.data_dir, "teams", "list", "--organization", organization["name"])
        (member,) = documents(node.data_dir, "members", "list")
        assert (team["name"], member["name"]) == (key["team"], key["owner"])
        assert (member["state"], member["roles"]) == ("MEMBER_STATE_INVITED", ["MEMBER_ROLE_MEMBER"])
        with Client(f"unix:{find_sockets(node.data_dir).admin}", api_key="") as client:
            request = pb.SuspendMemberRequest(name=member["name"], reason="left")
            answer = client.stubs.organizations.SuspendMember(request)
        suspended = time.monotonic()
        assert key["name"] in answer.changed_keys
        assert answer.member.state == o.MEMBER_STATE_SUSPENDED
        assert _code(node.base_url, secret) == "key_suspended"
        assert time.monotonic() - suspended < 1
        (member,) = documents(node.data_dir, "members", "list")
        assert "key_count" not in member
