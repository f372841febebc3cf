"""TLS of every listener of one node, with certificates that the tests make: who gets in, and who is believed."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.certificates import SERVER_NAMES, Authority, Certificate
from tests.e2e.nodes import TOKENDANCE, Process, await_file, clean_environment, config_text, free_ports, start, stopping

from tokendance import Client, GatewayError
from tokendance.gateway.v1 import keys_service_pb2, models_service_pb2, quota_service_pb2, status_service_pb2
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance.gateway.v1.access_pb2 import CALLER_KIND_API_KEY, CALLER_KIND_SERVICE
from tokendance.rpc import from_rpc

BILLING = (x509.DNSName("billing.gateway.example"),)
SPIFFE = "spiffe://example.com/metering"
SERVICES = [
    {"certificate_name": "billing.gateway.example", "name": "billing"},
    {"certificate_name": SPIFFE, "name": "metering"},
]
START_S = 20


@dataclass(frozen=True)
class House:
    """The node, and where its doors are."""

    authority: Authority
    folder: Path
    process: Process
    http: int
    internal: int
    inside: str
    outside: str
    api_key: str
    admin_socket: Path

    def credentials(self, presented: Certificate | None = None) -> grpc.ChannelCredentials:
        """What somebody brings who trusts the node."""
        pems = (None, None) if presented is None else (presented.key, presented.certificate)
        return grpc.ssl_channel_credentials(self.authority.certificate, *pems)

    def client(self, presented: Certificate | None = None, *, api_key: str = "", outside: bool = False) -> Client:
        """A client of either gRPC listener."""
        target = self.outside if outside else self.inside
        return Client(target, api_key=api_key, credentials=self.credentials(presented), timeout_s=5)

    def billing(self, **options: Any) -> Certificate:
        """A certificate of the service `billing`."""
        return self.authority.sign(BILLING, **options)

    def renew(self) -> None:
        """Replace the certificates of all listeners, as an operator's tools do."""
        for name in ("grpc", "outside", "rest", "internal"):
            self.authority.sign(SERVER_NAMES).write(self.folder, name, self.authority.certificate)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A node whose listeners all speak TLS; its gRPC listener asks for certificates."""
    folder = tmp_path_factory.mktemp("house")
    authority = Authority()
    files = {
        name: authority.sign(SERVER_NAMES).write(folder, name, authority.certificate)
        for name in ("grpc", "outside", "rest", "internal")
    }
    tables = {"grpc": "SERVER__TLS", "outside": "SERVER__GRPC_PUBLIC_TLS", "rest": "FACADE__TLS"}
    tables["internal"] = "FACADE__INTERNAL_TLS"
    told = {f"{tables[name]}__CERTIFICATE": str(one.certificate) for name, one in files.items()}
    told |= {f"{tables[name]}__KEY": str(one.key) for name, one in files.items()}
    told |= {"SERVER__TLS__CLIENT_CA": str(files["grpc"].authority), "SERVER__TLS__SERVICES": json.dumps(SERVICES)}
    http, internal, first, second = free_ports(4)
    folder.joinpath("gateway.toml").write_text(config_text("http://127.0.0.1:1/v1", ["sim"], 2))
    arguments = ["serve", "--config", "gateway.toml", "--data-dir", "data", "--key-file", "key"]
    arguments += ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}"]
    arguments += ["--grpc", f"127.0.0.1:{first}", "--grpc-public", f"127.0.0.1:{second}"]
    environment = clean_environment(TOKENDANCE_PROVIDER_SIM="x")
    environment |= {f"TOKENDANCE_GATEWAY_{name}": value for name, value in told.items()}
    process = start("node", arguments, folder, environment)
    with stopping([process]):
        await_file(folder / "key")
        yield House(
            authority,
            folder,
            process,
            http,
            internal,
            f"127.0.0.1:{first}",
            f"127.0.0.1:{second}",
            (folder / "key").read_text().strip(),
            folder / "data" / "admin.sock",
        )
        assert process.stop() == 0
        assert "Warning" not in process.text


def code(client: Client) -> str:
    """Return who the gateway takes a caller for, or with which code it refuses."""
    with client:
        try:
            return client.stubs.organizations.GetCaller(pb.GetCallerRequest()).caller.name
        except GatewayError as error:
            return error.code


@pytest.mark.parametrize(
    ("name", "service"),
    [(BILLING[0], "services/billing"), (x509.UniformResourceIdentifier(SPIFFE), "services/metering")],
    ids=["DNS", "URI"],
)
def test_a_service_is_known_by_its_certificate(house: House, name: x509.GeneralName, service: str) -> None:
    """With the role of a service: what people govern stays closed to it."""
    with house.client(house.authority.sign([name])) as client:
        caller = client.stubs.organizations.GetCaller(pb.GetCallerRequest()).caller
        assert (caller.name, list(caller.kinds)) == (service, [CALLER_KIND_SERVICE])
        checked = client.stubs.keys.CheckKey(keys_service_pb2.CheckKeyRequest(secret=house.api_key))
        assert checked.key.name
        with pytest.raises(GatewayError) as caught:
            client.stubs.keys.ListKeys(keys_service_pb2.ListKeysRequest(parent="organizations/-"))
        assert caught.value.code == "permission_denied"


def test_a_certificate_calls_no_model(house: House) -> None:
    """A key does, over the same connection; and then the key is who calls."""
    with house.client(house.billing()) as client:
        with pytest.raises(GatewayError, match="calls no model") as caught:
            client.complete("demo-echo", "Hi")
        assert caught.value.code == "missing_api_key"
    with house.client(house.billing(), api_key=house.api_key) as client:
        assert client.complete("demo-echo", "Hi").choices
        caller = client.stubs.organizations.GetCaller(pb.GetCallerRequest()).caller
        assert list(caller.kinds) == [CALLER_KIND_API_KEY]


@pytest.mark.parametrize(
    "names",
    [
        (x509.DNSName("web.gateway.example"),),
        (x509.DNSName("x.billing.gateway.example"),),
        (x509.RFC822Name("billing.gateway.example"),),
        (),
    ],
    ids=["another", "below", "e-mail", "none"],
)
def test_a_certificate_of_somebody_else_is_nobodys(house: House, names: tuple[x509.GeneralName, ...]) -> None:
    """Let in by the authority, and still without a credential; a key counts as from everybody."""
    other = house.authority.sign(names, common_name="billing.gateway.example")
    assert code(house.client(other)) == "missing_api_key"
    with house.client(other, api_key=house.api_key) as client:
        assert list(client.list_models())


def test_a_certificate_with_two_services_is_neither(house: House) -> None:
    """Which one acted could not be told."""
    both = house.authority.sign([*BILLING, x509.UniformResourceIdentifier(SPIFFE)])
    assert code(house.client(both)) == "permission_denied"


@pytest.mark.parametrize("stranger", ["no certificate", "another authority", "expired"])
def test_strangers_get_as_far_as_the_handshake(house: House, stranger: str) -> None:
    """Also with a good key."""
    presented = {
        "another authority": Authority().sign(BILLING),
        "expired": house.billing(valid_for=timedelta(minutes=-1)),
    }
    client = house.client(presented.get(stranger), api_key=house.api_key)
    assert code(client) == "service_stopping"  # gRPC's bare UNAVAILABLE: there was no connection


def test_the_command_line_brings_a_certificate(house: House, tmp_path: Path) -> None:
    """As its credential, where the context names no issuer; without one it gets no further than the handshake."""
    files = house.billing().write(tmp_path, "billing")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(house.authority.certificate)
    environment = clean_environment(XDG_CONFIG_HOME=str(tmp_path))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [TOKENDANCE, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)

    setting = ("context", "set", "billing", "--server", house.inside, "--ca", str(ca), "--use")
    done = run(*setting, "--client-certificate", str(files.certificate), "--client-key", str(files.key))
    assert done.returncode == 0, done.stderr
    told = run("whoami")
    assert told.returncode == 0, told.stderr
    assert "services/billing" in told.stdout
    assert run("context", "set", "billing", "--client-certificate", "", "--client-key", "").returncode == 0
    assert "not signed in" in run("whoami").stderr


@pytest.mark.parametrize("port", ["http", "internal"])
def test_rest_shows_a_certificate_of_its_authority(house: House, port: str) -> None:
    """Whoever trusts another one sends nothing; there is no plaintext beside it."""
    path = "/v1/models" if port == "http" else "/readyz"
    status = _get(house, port, path, house.authority.certificate)
    assert status == (401 if port == "http" else 200)
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        _get(house, port, path, Authority().certificate)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"http://127.0.0.1:{getattr(house, port)}{path}", timeout=5)


def test_outside_callers_find_only_what_is_for_them(house: House) -> None:
    """What else there is looks as if there were nothing, whatever the credential; nothing describes itself."""
    with house.client(api_key=house.api_key, outside=True) as client:
        assert client.complete("demo-echo", "Hi").choices
        assert list(client.list_models())
        others: list[tuple[Any, Any]] = [
            (client.stubs.keys.ListKeys, keys_service_pb2.ListKeysRequest(parent="organizations/-")),
            (client.stubs.keys.CheckKey, keys_service_pb2.CheckKeyRequest(secret="tdk_x")),
            (client.stubs.organizations.GetCaller, pb.GetCallerRequest()),
            (client.stubs.models.DeleteModel, models_service_pb2.DeleteModelRequest(name="models/demo-echo")),
            (client.stubs.status.CreateIncident, status_service_pb2.CreateIncidentRequest()),
        ]
        for call, request in others:
            with pytest.raises(GatewayError) as caught:
                call(request)
            assert caught.value.code == "unimplemented"
            assert "no such" in caught.value.message.lower()
    with grpc.secure_channel(house.outside, house.credentials()) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
        with pytest.raises(grpc.RpcError) as failed:
            next(asked)
        assert from_rpc(failed.value).code == "unimplemented"


def test_nobody_signs_in_outside(house: House) -> None:
    """A token is refused as on the public REST listener, where no people are."""
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.eA"
    with house.client(api_key=token, outside=True) as client, pytest.raises(GatewayError) as caught:
        list(client.list_models())
    assert caught.value.code == "id_token_not_accepted"
    with house.client(outside=True) as client, pytest.raises(GatewayError) as caught:
        client.stubs.quota.GetQuota(quota_service_pb2.GetQuotaRequest())
    assert caught.value.code == "missing_api_key"
    # What anybody may see needs nobody's name.
    with house.client(outside=True) as client:
        client.list_models()


def test_certificates_are_renewed_under_load(house: House) -> None:
    """No call fails while every listener's certificate is replaced, again and again; new connections see it."""
    done = threading.Event()
    failures: list[str] = []
    counts = {"grpc": 0, "rest": 0, "outside": 0}

    def load(kind: str) -> None:
        certificate = house.billing()
        while not done.is_set():
            try:
                if kind == "rest":
                    _get(house, "http", "/v1/models", house.authority.certificate)
                elif kind == "grpc":
                    with house.client(certificate) as client:
                        client.stubs.organizations.GetCaller(pb.GetCallerRequest())
                else:
                    with house.client(api_key=house.api_key, outside=True) as client:
                        list(client.list_models())
            except (OSError, GatewayError) as error:
                failures.append(f"{kind}: {error}")
            counts[kind] += 1

    threads = [threading.Thread(target=load, args=(kind,)) for kind in counts for _ in range(2)]
    before = _shown(house)
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            house.renew()
            time.sleep(0.2)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert min(counts.values()) > 5, counts
    after = _shown(house)
    assert set(before) == set(after)
    assert all(before[name] != after[name] for name in before)


def _get(house: House, port: str, path: str, authority: bytes) -> int:
    context = ssl.create_default_context(cadata=authority.decode())
    request = urllib.request.Request(f"https://127.0.0.1:{getattr(house, port)}{path}")
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _shown(house: House) -> dict[str, str]:
    """Return the certificate that each listener shows to those who bring none."""
    ports = {"rest": house.http, "internal": house.internal, "outside": int(house.outside.rpartition(":")[2])}
    return {name: ssl.get_server_certificate(("127.0.0.1", port)) for name, port in ports.items()}
