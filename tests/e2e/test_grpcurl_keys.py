"""The life of a key from a shell: created, rotated and revoked with grpcurl, signed in with an access token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import documents, tokendance
from tests.e2e.programs import run_shell
from tests.e2e.upstream import Upstream

CALL = 'grpcurl -plaintext -H "authorization: Bearer $ID_TOKEN" -d "$REQUEST" {address} {rpc}'
KEYS = "tokendance.gateway.v1.KeysService"


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of one process, which has a development issuer."""
    with running("one", tmp_path_factory.mktemp("grpcurl"), upstream.base_url, ["sim"]) as node:
        yield node


class Shell:
    """A platform administrator with a shell."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder
        done = tokendance("--data-dir", str(node.data_dir), "id", "token", "--role", "platform_admin")
        assert done.returncode == 0, done.stderr
        self.token = done.stdout.strip()

    def call(self, rpc: str, **request: Any) -> Any:
        """Return the answer of an RPC of the keys' service."""
        line = CALL.format(address=self.node.grpc, rpc=f"{KEYS}/{rpc}")
        environment = self.node.environment() | {"ID_TOKEN": self.token, "REQUEST": json.dumps(request)}
        return json.loads(run_shell(line, environment, self.folder))

    def works(self, secret: str) -> bool:
        """Tell whether a model answers a secret."""
        with openai.OpenAI(api_key=secret, base_url=self.node.base_url, max_retries=0) as client:
            try:
                client.models.list()
            except openai.AuthenticationError:
                return False
        return True


def test_a_key_lives_and_ends(house: Node, tmp_path: Path) -> None:
    """What grpcurl makes is a key like any other: it works, its old secret outlives a rotation, and it ends at once."""
    shell = Shell(house, tmp_path)
    first = documents(house.data_dir, "keys", "list")[-1]
    owner, team = (first[name] for name in ("owner", "team"))
    wanted = {
        "purpose": "Made from a shell",
        "owner": owner,
        "team": team,
        "quota": {"inheritedFrom": team},
        "rotation": {"period": "2592000s", "responsible": owner},
    }
    made = shell.call("CreateKey", parent=owner.rpartition("/members/")[0], key=wanted)
    assert made["key"]["purpose"] == wanted["purpose"]
    assert shell.works(made["secret"])
    rotated = shell.call("RotateKey", name=made["key"]["name"], overlap="60s")
    assert rotated["secret"] != made["secret"]
    assert shell.works(rotated["secret"])
    assert shell.works(made["secret"])
    revoked = shell.call("RevokeKey", name=made["key"]["name"], reason="The shell is done with it")
    assert revoked["key"]["state"] == "KEY_STATE_REVOKED"
    assert not shell.works(rotated["secret"])
    assert not shell.works(made["secret"])


def test_a_key_governs_no_keys(house: Node, tmp_path: Path) -> None:
    """With an API key in place of the token nothing is made."""
    shell = Shell(house, tmp_path)
    shell.token = house.api_key
    with pytest.raises(AssertionError, match="needs a TokenDance ID session"):
        shell.call("RevokeKey", name="organizations/org_x/keys/key_x")
