"""A key from the member who asks for it to its first model call, and every way of cheating refused, on one node."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import documents, tokendance

from tokendance import Client, GatewayError
from tokendance.gateway.v1 import keys_service_pb2 as keys_pb
from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance_server.stores.paths import find_sockets


class Office:
    """A node whose organization has a team, an administrator, and two members of the team."""

    def __init__(self, node: Node) -> None:
        self.node = node
        (self.organization,) = (one["name"] for one in documents(node.data_dir, "organizations", "list"))
        (self.team,) = (one["name"] for one in documents(node.data_dir, "teams", "list"))
        with Client(f"unix:{find_sockets(node.data_dir).admin}", api_key="") as client:

            def member(subject: str, role: o.MemberRole.ValueType) -> str:
                wanted = o.Member(subject=subject, roles=[role], teams=[self.team])
                request = pb.CreateMemberRequest(parent=self.organization, member=wanted)
                return client.stubs.organizations.CreateMember(request).member.name

            self.names = {
                "asker": member("asker", o.MEMBER_ROLE_MEMBER),
                "colleague": member("colleague", o.MEMBER_ROLE_MEMBER),
                "admin": member("admin", o.MEMBER_ROLE_ADMIN),
            }
        self.tokens = {who: self._token(who) for who in self.names}

    def _token(self, who: str) -> str:
        role = "organization_admin" if who == "admin" else "member"
        words = ("id", "token", "--role", role, "--organization", self.organization, "--member", self.names[who])
        token: str = documents(self.node.data_dir, *words)["token"]
        return token

    def code(self, who: str, rpc: str, name: str, **more: str) -> str:
        """Call an RPC about a request as somebody; return the code of the refusal, or `ok`."""
        request = getattr(keys_pb, f"{rpc}Request")(name=name, **more)
        with Client(f"unix:{find_sockets(self.node.data_dir).admin}", api_key=self.tokens[who]) as client:
            try:
                getattr(client.stubs.keys, rpc)(request)
            except GatewayError as error:
                return error.code
        return "ok"

    def keys(self, who: str, *words: str) -> Any:
        """Run `tokendance keys …` as somebody; return what it prints as JSON."""
        done = tokendance(
            *("--data-dir", str(self.node.data_dir), "--format", "json", "keys", *words),
            TOKENDANCE_ID_TOKEN=self.tokens[who],
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ask(self, who: str) -> str:
        """Ask for a key of the team; return the request's name."""
        wanted = keys_pb.Key(
            purpose="Reports",
            team=self.team,
            quota=keys_pb.KeyQuota(inherited_from=self.team),
            rotation=keys_pb.KeyRotation(responsible=self.names[who]),
        )
        wanted.rotation.period.FromSeconds(30 * 86_400)
        request = keys_pb.RequestKeyRequest(parent=self.organization, key=wanted)
        with Client(f"unix:{find_sockets(self.node.data_dir).admin}", api_key=self.tokens[who]) as client:
            return client.stubs.keys.RequestKey(request).key_request.name

    def use(self, secret: str) -> str:
        """Call the demo model; return `ok`, or the code of the refusal."""
        body = {"model": "demo-echo", "messages": [{"role": "user", "content": "hello"}]}
        request = urllib.request.Request(
            f"{self.node.base_url}/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                assert "hello" in response.read().decode()
                return "ok"
        except urllib.error.HTTPError as error:
            code: str = json.load(error)["error"]["code"]
            return code

    def let_it_lapse(self, request: str) -> None:
        """Move the time until which a request can be revealed into the past, where no clock can be moved."""
        with sqlite3.connect(self.node.data_dir / "gateway.db") as database:
            database.execute(
                "UPDATE key_requests SET reveal_expire_time = '2026-01-01 00:00:00' WHERE id = ?",
                (request.rpartition("/")[2],),
            )
        database.close()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An office on a node of its own; its models are the demo's."""
    with running("one", tmp_path_factory.mktemp("office"), "http://127.0.0.1:9/v1", []) as node:
        yield Office(node)


def test_a_key_goes_from_member_to_admin_to_secret_to_a_model_call(office: Office, tmp_path: Path) -> None:
    """Each by its own command, with its own token; the secret is in no other answer and no log."""
    words = ["--purpose", "Reports", "--team", office.team, "--rotated-by", office.names["asker"]]
    words += ["--rotation-days", "30", "--inherit-quota", "team", "--request-id", "once"]
    asked = office.keys("asker", "request", *words)
    assert (asked["state"], asked["requester"]) == ("KEY_REQUEST_STATE_PENDING", office.names["asker"])
    assert asked["key"]["owner"] == office.names["asker"]
    assert office.keys("asker", "request", *words) == asked
    request_id = asked["name"].rpartition("/")[2]
    (waiting,) = office.keys("admin", "requests", "--state", "pending")
    assert waiting == asked
    granted = office.keys("admin", "approve", request_id, "--allow-model", "demo-echo", "--reason", "Fine")
    assert granted["state"] == "KEY_REQUEST_STATE_APPROVED"
    assert granted["key"]["allowed_models"] == ["demo-echo"]
    assert "secret" not in json.dumps(granted)
    done = tokendance(
        *("--data-dir", str(office.node.data_dir), "keys", "reveal", request_id, "--key-file", str(tmp_path / "k")),
        TOKENDANCE_ID_TOKEN=office.tokens["asker"],
    )
    assert done.returncode == 0, done.stderr
    secret = (tmp_path / "k").read_text().strip()
    assert office.use(secret) == "ok"
    shown = documents(office.node.data_dir, "keys", "show", granted["key"]["name"])
    assert (shown["state"], shown["secret_suffix"]) == ("KEY_STATE_ACTIVE", secret[-4:])
    events = documents(office.node.data_dir, "audit", "list", "--organization", office.organization)
    actions = [event["action"] for event in events]
    for action in ("key_request.create", "key_request.approve", "key_request.reveal", "key.reveal"):
        assert actions.count(action) == 1
    for text in (done.stdout, done.stderr, office.node.text, json.dumps(events)):
        assert secret not in text


def test_nobody_cheats(office: Office) -> None:
    """Own approval, somebody else's reveal, before the grant, twice, and late: each is refused."""
    approve, deny, reveal = "ApproveKeyRequest", "DenyKeyRequest", "RevealKey"
    own = office.ask("admin")
    assert office.code("admin", approve, own) == "failed_precondition"
    asked = office.ask("asker")
    assert office.code("asker", approve, asked) == "permission_denied"
    assert office.code("asker", deny, asked, reason="x") == "permission_denied"
    assert office.code("asker", reveal, asked) == "failed_precondition"
    assert office.code("admin", approve, asked) == "ok"
    assert office.code("admin", reveal, asked) == "failed_precondition"
    assert office.code("colleague", reveal, asked) == "not_found"
    assert office.code("asker", reveal, asked) == "ok"
    assert office.code("asker", reveal, asked) == "failed_precondition"
    late = office.ask("asker")
    assert office.code("admin", approve, late) == "ok"
    office.let_it_lapse(late)
    assert office.code("asker", reveal, late) == "failed_precondition"
    denied = office.ask("asker")
    assert office.code("admin", deny, denied, reason="Use the team's") == "ok"
    assert office.code("asker", reveal, denied) == "failed_precondition"


def test_of_reveals_at_once_one_gets_the_secret(office: Office) -> None:
    """Over connections of their own."""
    asked = office.ask("asker")
    assert office.code("admin", "ApproveKeyRequest", asked) == "ok"
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: office.code("asker", "RevealKey", asked), range(4)))
    assert sorted(codes) == [*["failed_precondition"] * 3, "ok"]
