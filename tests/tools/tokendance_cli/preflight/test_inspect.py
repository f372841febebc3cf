"""What an inspection tells of each setting that is insecure or could not start."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.tools.tokendance_cli.certificates import write_certificate

from tokendance_cli.node import Role
from tokendance_cli.preflight import inspect
from tokendance_cli.preflight.row import Row, State
from tokendance_cli.settings import GatewaySettings, load_settings

ANY_PORT = {"server": {"grpc": "127.0.0.1:0"}, "facade": {"http": "127.0.0.1:0", "internal": "127.0.0.1:0"}}
SECRET = "secret-of-the-test"

Look = Callable[..., dict[str, Row]]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """Inspects a file of settings; returns the rows by part. No secret may be in any of them."""

    def act(toml: str = "", *, role: Role = Role.ALL, mode: int = 0o600, **flags: dict[str, Any]) -> dict[str, Row]:
        config = tmp_path / "gateway.toml"
        config.write_text(toml, encoding="utf-8")
        config.chmod(mode)
        settings = load_settings(config, _merged(tmp_path, flags))
        rows = list(inspect(settings, role, config=config, key_file=None, loop="asyncio"))
        assert SECRET not in repr(rows)
        assert len({row.part for row in rows}) == len(rows)
        return {row.part: row for row in rows}

    monkeypatch.setenv("TOKENDANCE_PROVIDER_SET", SECRET)
    return act


def _merged(tmp_path: Path, flags: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    server = {**ANY_PORT["server"], "data_dir": tmp_path / "data", **flags.get("server", {})}
    return {"server": server, "facade": {**ANY_PORT["facade"], **flags.get("facade", {})}}


def _states(rows: dict[str, Row], *wanted: State) -> set[str]:
    return {part for part, row in rows.items() if row.state in wanted}


def test_defaults_would_start(look: Look) -> None:
    """Nothing is a problem; the demo is told as what it is, and what serves one node only as well."""
    rows = look()
    assert _states(rows, State.PROBLEM) == set()
    assert _states(rows, State.INSECURE) == {"provider demo"}
    assert _states(rows, State.LIMITED) == {"database", "counters"}


@pytest.mark.network
@pytest.mark.parametrize(
    ("table", "name", "part"),
    [("facade", "http", "REST"), ("facade", "internal", "internal"), ("server", "grpc", "gRPC")],
)
def test_listening_to_other_machines_is_insecure(look: Look, table: str, name: str, part: str) -> None:
    """None of them has TLS by itself."""
    row = look(**{table: {name: "0.0.0.0:0"}})[part]
    assert row.state is State.INSECURE
    assert "127.0.0.1" in row.do


@pytest.mark.network
@pytest.mark.parametrize(("table", "name", "part"), [("facade", "http", "REST"), ("server", "grpc", "gRPC")])
def test_a_certificate_makes_it_secure(look: Look, tmp_path: Path, table: str, name: str, part: str) -> None:
    """It is read as a start would read it; a key that others can read is told."""
    file = write_certificate(tmp_path, "127.0.0.1", (-1, 1))
    file.chmod(0o600)
    toml = f'[{table}.tls]\ncertificate = "{file}"\nkey = "{file}"\n'
    assert look(toml, **{table: {name: "0.0.0.0:0"}})[part].told == "0.0.0.0:0, with TLS"
    file.chmod(0o644)
    assert look(toml, **{table: {name: "0.0.0.0:0"}})[part].do == f"chmod 600 {file}"
    file.write_text("none", encoding="utf-8")
    row = look(toml, **{table: {name: "0.0.0.0:0"}})[part]
    assert (row.state, "holds no certificate" in row.told) == (State.PROBLEM, True)


def test_a_facade_shows_its_certificate_to_its_server(look: Look, tmp_path: Path) -> None:
    """Usable, open to others, or none at all."""
    file = write_certificate(tmp_path, "127.0.0.1", (-1, 1))
    file.chmod(0o600)
    toml = f'[facade.server_tls]\ncertificate = "{file}"\nkey = "{file}"\nca = "{file}"\n'
    far = {"server": "127.0.0.1:1"}
    assert look(toml, role=Role.FACADE, facade=far)["server"].state is State.ON
    file.chmod(0o640)
    assert look(toml, role=Role.FACADE, facade=far)["server"].state is State.INSECURE
    file.unlink()
    assert look(toml, role=Role.FACADE, facade=far)["server"].state is State.PROBLEM
    assert look(role=Role.FACADE, facade={"server": "127.0.0.1:1"})["server"].state is State.ON


def test_a_server_that_is_away_is_told_to_its_facade(look: Look) -> None:
    """It would start, and wait; with the way to set it right. A socket that is not there is not even asked."""
    row = look(role=Role.FACADE, facade={"server": "127.0.0.1:1"})["server's answer"]
    assert row.state is State.BROKEN
    assert row.do.startswith("start it, or correct facade.server")
    assert "server's answer" not in look(role=Role.FACADE)


def test_a_server_that_serves_is_told_to_its_facade(look: Look) -> None:
    """As its health says."""
    health = grpc_health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    service, states = "tokendance.gateway.v1.CompletionsService", health_pb2.HealthCheckResponse
    for status, state in ((states.SERVING, State.ON), (states.NOT_SERVING, State.LIMITED)):
        health.set(service, status)
        assert look(role=Role.FACADE, facade={"server": f"127.0.0.1:{port}"})["server's answer"].state is state
    server.stop(0).wait()


@pytest.mark.parametrize(
    ("table", "name", "part"),
    [("facade", "http", "REST"), ("facade", "internal", "internal"), ("server", "grpc", "gRPC")],
)
def test_a_taken_address_is_a_problem(look: Look, table: str, name: str, part: str) -> None:
    """Told before the node is stopped for it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        row = look(**{table: {name: f"127.0.0.1:{taken.getsockname()[1]}"}})[part]
    assert (row.state, "taken" in row.told) == (State.PROBLEM, True)


@pytest.mark.network
def test_an_address_of_another_machine_is_a_problem(look: Look) -> None:
    """One for documentation, which no machine has."""
    row = look(facade={"http": "192.0.2.1:8080"})["REST"]
    assert (row.state, "no address of this machine" in row.told) == (State.PROBLEM, True)


def test_two_listeners_on_one_address_are_a_problem(look: Look) -> None:
    """Both would be free alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    row = look(server={"grpc": address}, facade={"http": address})["gRPC"]
    assert (row.state, "the same address as REST" in row.told) == (State.PROBLEM, True)


@pytest.mark.network
def test_reflection_beyond_loopback_is_insecure(look: Look) -> None:
    """It is off there by itself, and on by wish only."""
    assert look(server={"grpc": "0.0.0.0:0"})["reflection"].state is State.OFF
    assert look("[server]\nreflection = true\n", server={"grpc": "0.0.0.0:0"})["reflection"].state is State.INSECURE
    assert look("[server]\nreflection = true\n")["reflection"].state is State.ON
    assert look(server={"grpc": ""})["reflection"].state is State.OFF


@pytest.mark.parametrize(
    ("toml", "part"),
    [
        ('[facade]\ncors_origins = ["*"]\n', "CORS"),
        ('[facade]\ntrusted_proxies = ["0.0.0.0/0"]\n', "trusted proxies"),
        ('[facade]\ntrusted_proxies = ["10.0.0.1", "::/0"]\n', "trusted proxies"),
    ],
)
def test_believing_everybody_is_insecure(look: Look, toml: str, part: str) -> None:
    """Any page, or any caller as a proxy."""
    assert look(toml)[part].state is State.INSECURE


def test_some_pages_and_proxies_are_on(look: Look) -> None:
    """They are named."""
    rows = look('[facade]\ncors_origins = ["https://a.example"]\ntrusted_proxies = ["10.0.0.1", "unix"]\n')
    assert (rows["CORS"].state, rows["trusted proxies"].state) == (State.ON, State.ON)
    assert rows["trusted proxies"].told == "10.0.0.1, unix"


@pytest.mark.network
def test_opened_networks_are_insecure_where_others_call(look: Look) -> None:
    """A node on loopback alone may reach loopback; one that others call reaches no more than it must."""
    assert look()["egress"].state is State.ON
    assert look(facade={"http": "0.0.0.0:0"})["egress"].told == "public addresses only"
    rows = look('[server.egress]\nallow_private = ["10.0.0.0/8"]\n', facade={"http": "0.0.0.0:0"})
    assert rows["egress"].state is State.INSECURE


PROVIDER = '[[providers]]\nname = "p"\nkind = "openai"\nbase_url = "{url}"\ncredential = "{credential}"\n'


@pytest.mark.parametrize(
    ("url", "credential", "state", "words"),
    [
        ("https://api.example/v1", "env:TOKENDANCE_PROVIDER_SET", State.ON, "key from env:TOKENDANCE_PROVIDER_SET"),
        ("https://api.example/v1", "", State.ON, "without a key"),
        ("https://api.example/v1", "env:TOKENDANCE_PROVIDER_UNSET", State.PROBLEM, "is not set"),
        ("https://api.example/v1", "file:none", State.PROBLEM, "cannot be read"),
        ("https://api.example/v1", "file:../other", State.PROBLEM, "outside of the secrets directory"),
        ("http://api.example/v1", "", State.INSECURE, "without TLS"),
        ("http://127.0.0.1:8000/v1", "", State.ON, "127.0.0.1"),
        ("http://10.0.0.1/v1", "", State.PROBLEM, "allow_private"),
        ("http://169.254.169.254/v1", "", State.PROBLEM, "metadata"),
        ("https://u:pass@api.example/v1", "", State.PROBLEM, "no user"),
    ],
)
def test_providers(look: Look, url: str, credential: str, state: State, words: str) -> None:
    """Their address may be reached, their credential be found, and neither be read by others."""
    row = look(PROVIDER.format(url=url, credential=credential))["provider p"]
    assert (row.state, words in f"{row.told} {row.do}") == (state, True), row


@pytest.mark.parametrize(("mode", "state"), [(0o600, State.ON), (0o640, State.INSECURE), (0o604, State.INSECURE)])
def test_a_secret_that_others_read_is_insecure(look: Look, tmp_path: Path, mode: int, state: State) -> None:
    """The file is named, with the command that closes it."""
    file = tmp_path / "data" / "secrets" / "key"
    file.parent.mkdir(parents=True)
    file.parent.parent.chmod(0o700)
    file.write_text(SECRET, encoding="utf-8")
    file.chmod(mode)
    row = look(PROVIDER.format(url="https://api.example/v1", credential="file:key"))["provider p"]
    assert row.state is state
    assert row.do == ("" if state is State.ON else f"chmod 600 {file}")


def test_two_providers_of_one_name_are_a_problem(look: Look, tmp_path: Path) -> None:
    """A route could not tell them apart."""
    two = PROVIDER.format(url="https://a.example/v1", credential="") * 2
    config = tmp_path / "two.toml"
    config.write_text(two, encoding="utf-8")
    settings: GatewaySettings = load_settings(config, _merged(tmp_path, {}))
    rows = list(inspect(settings, Role.ALL, config=config, key_file=None, loop="asyncio"))
    assert [row.state for row in rows if row.part == "provider p"] == [State.PROBLEM, State.PROBLEM]


def test_models(look: Look) -> None:
    """Routes lead to providers that are there, and no two models answer to one name."""
    models = "".join(
        f'[[models]]\nname = "{name}"\naliases = {aliases}\n'
        f'routes = [{{ provider = "{provider}", upstream_model = "u" }}]\n'
        for name, aliases, provider in (("good", "[]", "p"), ("lost", "[]", "q"), ("a", '["b"]', "p"), ("b", "[]", "p"))
    )
    rows = look(PROVIDER.format(url="https://a.example/v1", credential="") + models)
    assert {part for part, row in rows.items() if part.startswith("model ") and row.state is State.PROBLEM} == {
        "model lost",
        "model a",
        "model b",
    }
    assert rows["model good"].told == "p/u"


def test_settings_that_others_read_or_change_are_insecure(look: Look) -> None:
    """Reading matters where a password is in them; writing always."""
    held = f'[server]\ndatabase_url = "postgresql://u:{SECRET}@127.0.0.1/gw"\n'
    assert look(mode=0o644)["settings"].state is State.ON
    assert look(held, mode=0o644)["settings"].state is State.INSECURE
    assert look(held, mode=0o600)["settings"].state is State.ON
    assert look(mode=0o622)["settings"].state is State.INSECURE


def test_a_directory_that_cannot_be_used_is_a_problem(look: Look, tmp_path: Path) -> None:
    """A file in its place, one below a file, and one that is open to others."""
    (tmp_path / "file").touch()
    assert look(server={"data_dir": tmp_path / "file"})["data"].state is State.PROBLEM
    assert look(server={"data_dir": tmp_path / "file" / "below"})["data"].state is State.PROBLEM
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    assert look()["data"].state is State.ON
    (tmp_path / "data" / "something").touch()
    row = look()["data"]
    assert (row.state, row.do) == (State.PROBLEM, f"chmod 700 {tmp_path / 'data'}")


def test_a_pepper_that_cannot_be_used_is_a_problem(look: Look, tmp_path: Path) -> None:
    """Missing beside a database, open to others, or none at all."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    assert look()["pepper"].state is State.ON
    (data / "gateway.db").touch()
    assert "missing beside a database" in look()["pepper"].told
    pepper = data / "pepper"
    pepper.write_bytes(bytes(range(32)))
    pepper.chmod(0o644)
    assert look()["pepper"].do == f"chmod 600 {pepper}"
    pepper.chmod(0o600)
    assert look()["pepper"].state is State.ON
    pepper.write_bytes(bytes(32))
    assert look()["pepper"].state is State.PROBLEM
    assert look('[server]\npepper = "env:TOKENDANCE_GATEWAY_PEPPER_UNSET"\n')["pepper"].state is State.PROBLEM


def test_each_role_is_inspected_for_what_it_is(look: Look) -> None:
    """A facade has no data and a server no REST; a server that is not there yet is waited for."""
    facade = look(role=Role.FACADE)
    assert {"data", "pepper", "database", "gRPC", "egress"} & set(facade) == set()
    assert facade["server"].state is State.LIMITED
    server = look(role=Role.SERVER)
    assert server["REST"].state is State.OFF
    assert {"CORS", "server"} & set(server) == set()
