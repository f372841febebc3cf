"""Revocation across nodes: two on one PostgreSQL, and one that cannot see what others change."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from google.protobuf import field_mask_pb2
from tests.e2e.nodes import (
    PROVIDER_KEY,
    Process,
    await_file,
    clean_environment,
    free_ports,
    start,
    stopping,
    wait_ready,
)
from tests.e2e.operator_cli import tokendance
from tests.e2e.test_postgresql import Nodes
from tests.e2e.upstream import Upstream
from tests.servers import PostgresServer

from tokendance import Client
from tokendance.gateway.v1 import keys_service_pb2 as pb

LONG = "sim:tokens=400:rate=20"


class Caller:
    """Asks one node for its models, over one connection, with the key it is given."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._connection = http.client.HTTPConnection(origin.removeprefix("http://"), timeout=10)

    def ask(self, secret: str) -> str:
        """Return `ok`, or the code of the refusal."""
        self._connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {secret}"})
        response = self._connection.getresponse()
        body = json.loads(response.read())
        if response.status == 200:
            return "ok"
        if response.status == 503:
            assert int(response.headers["Retry-After"]) >= 1
        code: str = body["error"]["code"]
        return code

    def asks_until(self, secret: str, code: str, within_s: float) -> float:
        """Ask until the answer is `code`; return how many seconds that took."""
        began = time.monotonic()
        while (answer := self.ask(secret)) != code:
            assert time.monotonic() - began < within_s, f"still {answer}"
            time.sleep(0.005)
        return time.monotonic() - began

    def stream(self, secret: str) -> http.client.HTTPResponse:
        """Begin a long stream, and return it behind its first event."""
        body = json.dumps({"model": LONG, "stream": True, "messages": [{"role": "user", "content": "Go on."}]})
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        response = self._connection.getresponse()
        assert response.status == 200
        assert response.readline().startswith(b"data: {")
        return response

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _two_nodes(
    server: PostgresServer, redis_url: str, folder: Path, **settings: str
) -> Iterator[tuple[Client, Caller, Caller]]:
    """Give the operator's client of one node, and a caller of each."""
    processes: list[Process] = []
    with server.database() as url, stopping(processes):
        nodes = Nodes(folder, url, processes)
        nodes.environment["TOKENDANCE_GATEWAY_SERVER__REDIS_URL"] = redis_url
        nodes.environment |= settings
        assert tokendance("migrate", "apply", **nodes.environment).returncode == 0
        origins = [nodes.serve(name)[1] for name in ("a", "b")]
        with (
            Client(f"unix:{folder / 'data-a' / 'admin.sock'}", api_key="") as client,
            closing(Caller(origins[0])) as mine,
            closing(Caller(origins[1])) as other,
        ):
            yield client, mine, other


def _made(client: Client) -> pb.CreateKeyResponse:
    """Make a key like the first one of the node."""
    *_, first = client.list_keys()
    wanted = pb.Key(
        purpose="Revoked soon", owner=first.owner, team=first.team, quota=first.quota, rotation=first.rotation
    )
    wanted.rotation.ClearField("due_time")
    return client.create_key("/".join(first.name.split("/")[:2]), wanted)


def _revoke(client: Client, mine: Caller, other: Caller, count: int) -> list[float]:
    """Make, use and revoke keys on one node; return how long the other one still took each, in seconds."""
    taken = []
    for _ in range(count):
        created = _made(client)
        assert [mine.ask(created.secret), other.ask(created.secret)] == ["ok", "ok"]
        client.revoke_key(created.key.name)
        assert mine.ask(created.secret) == "key_revoked"
        taken.append(other.asks_until(created.secret, "key_revoked", 2))
    return sorted(taken)


def test_a_key_revoked_on_one_node_is_refused_on_the_other(
    postgres_server: PostgresServer, redis_server: str, tmp_path: Path
) -> None:
    """A new key works on both at once; a revoked one is refused at once here, and within a second there."""
    with _two_nodes(postgres_server, redis_server, tmp_path) as (client, mine, other):
        assert _revoke(client, mine, other, 5)[-1] < 1


def test_a_key_changed_on_one_node_is_another_key_on_the_other(
    postgres_server: PostgresServer, redis_server: str, tmp_path: Path
) -> None:
    """Where it may call from, to and fro: at once here, and within a second there."""
    with _two_nodes(postgres_server, redis_server, tmp_path) as (client, mine, other):
        created = _made(client)
        secret = created.secret
        assert [mine.ask(secret), other.ask(secret)] == ["ok", "ok"]
        for networks, code in (["203.0.113.0/24"], "ip_not_allowed"), (["127.0.0.0/8"], "ok"):
            wanted = pb.Key(name=created.key.name, allowed_networks=networks)
            client.stubs.keys.UpdateKey(
                pb.UpdateKeyRequest(key=wanted, update_mask=field_mask_pb2.FieldMask(paths=["allowed_networks"]))
            )
            assert mine.ask(secret) == code
            assert other.asks_until(secret, code, 2) < 1


@pytest.mark.long
def test_a_hundred_revocations_are_seen_within_a_second(
    postgres_server: PostgresServer, redis_server: str, tmp_path: Path
) -> None:
    """From the return of the call to the first refusal on the other node."""
    with _two_nodes(postgres_server, redis_server, tmp_path) as (client, mine, other):
        taken = _revoke(client, mine, other, 100)
    print(f"revocation seen after: median {taken[50]:.3f} s, 99th of 100 {taken[98]:.3f} s, longest {taken[99]:.3f} s")
    assert taken[98] <= 1


def _end_of(stream: http.client.HTTPResponse) -> tuple[str, float]:
    """Read a stream to its end; return the code of its last event, and how long that took."""
    began = time.monotonic()
    events = [line for line in stream if line.startswith(b"data: ")]
    error = json.loads(events[-1].removeprefix(b"data: "))["error"]
    assert error["request_id"] == stream.headers["x-request-id"]
    return error["code"], time.monotonic() - began


def test_streams_of_a_key_end_with_it_on_every_node(
    postgres_server: PostgresServer, redis_server: str, upstream: Upstream, tmp_path: Path
) -> None:
    """Within a second, with the reason as their last event; the streams of another key go on."""
    provider = {
        "name": "sim",
        "kind": "openai",
        "base_url": upstream.base_url,
        "credential": "env:TOKENDANCE_PROVIDER_S",
    }
    model = {"name": LONG, "routes": [{"provider": "sim", "upstream_model": LONG}]}
    settings = {
        "TOKENDANCE_GATEWAY_PROVIDERS": json.dumps([provider]),
        "TOKENDANCE_GATEWAY_MODELS": json.dumps([model]),
        "TOKENDANCE_GATEWAY_SERVER__EGRESS__ALLOW_LOOPBACK": "true",
        "TOKENDANCE_PROVIDER_S": PROVIDER_KEY,
    }

    def suspend(name: str) -> None:
        assert tokendance("--data-dir", str(tmp_path / "data-a"), "keys", "suspend", name).returncode == 0

    with _two_nodes(postgres_server, redis_server, tmp_path, **settings) as (client, mine, other):
        keys = [_made(client) for _ in range(3)]
        for created, end, code in (
            (keys[0], client.revoke_key, "key_revoked"),
            (keys[1], suspend, "key_suspended"),
        ):
            streams = [mine.stream(created.secret), other.stream(created.secret)]
            with closing(Caller(mine.origin)) as bystander:
                kept = bystander.stream(keys[2].secret)
                end(created.key.name)
                for stream in streams:
                    told, taken = _end_of(stream)
                    assert told == code
                    assert taken < 1
                assert kept.readline() == b"\n"
                assert kept.readline().startswith(b"data: {")


def test_a_node_that_cannot_see_changes_refuses_calls_until_it_sees_them_again(tmp_path: Path) -> None:
    """It says so on /readyz and to each caller, with a time to wait, and needs nobody to come back."""
    http_port, internal_port = free_ports(2)
    arguments = ["serve", "--data-dir", "data", "--grpc", "", "--key-file", "key"]
    arguments += ["--http", f"127.0.0.1:{http_port}", "--internal", f"127.0.0.1:{internal_port}"]
    environment = clean_environment(TOKENDANCE_GATEWAY_SERVER__CHANGES_STALE_AFTER_S="1")
    ready_url = f"http://127.0.0.1:{internal_port}/readyz"
    process = start("node", arguments, tmp_path, environment)
    with stopping([process]), closing(Caller(f"http://127.0.0.1:{http_port}")) as caller:
        wait_ready(process, ready_url.removesuffix("/readyz"))
        await_file(tmp_path / "key")
        secret = (tmp_path / "key").read_text().strip()
        assert caller.ask(secret) == "ok"
        (database,) = (tmp_path / "data").glob("*.db")
        with closing(sqlite3.connect(database)) as shell:
            shell.execute("ALTER TABLE changes RENAME TO gone")
            taken = caller.asks_until(secret, "key_store_unavailable", 3)
            assert taken > 0.4
            with pytest.raises(urllib.error.HTTPError) as not_ready:
                urllib.request.urlopen(ready_url, timeout=5)
            assert not_ready.value.code == 503
            not_ready.value.close()
            shell.execute("ALTER TABLE gone RENAME TO changes")
        caller.asks_until(secret, "ok", 3)
        wait_ready(process, ready_url.removesuffix("/readyz"))
        for event in ("changes_not_seen", "changes_seen_again"):
            assert process.text.count(event) == 1
        assert process.stop() == 0
