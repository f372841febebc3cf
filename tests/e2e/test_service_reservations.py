"""Quota that an internal service holds and settles on a node, known by its client certificate."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from tests.certificates import SERVER_NAMES, Authority
from tests.e2e.nodes import Process, await_file, clean_environment, config_text, free_ports, start, stopping, wait_ready
from tests.e2e.operator_cli import create_key, documents, tokendance

from tokendance import Client, GatewayError
from tokendance.gateway.v1 import completion_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb

SERVICES = [
    {"certificate_name": "billing.gateway.example", "name": "billing"},
    {"certificate_name": "other.gateway.example", "name": "other"},
]


class House:
    """A node whose gRPC listener asks for certificates; it may be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.authority = Authority()
        files = self.authority.sign(SERVER_NAMES).write(folder, "grpc", self.authority.certificate)
        self._environment = clean_environment(
            TOKENDANCE_PROVIDER_SIM="x",
            TOKENDANCE_GATEWAY_SERVER__TLS__CERTIFICATE=str(files.certificate),
            TOKENDANCE_GATEWAY_SERVER__TLS__KEY=str(files.key),
            TOKENDANCE_GATEWAY_SERVER__TLS__CLIENT_CA=str(files.authority),
            TOKENDANCE_GATEWAY_SERVER__TLS__SERVICES=json.dumps(SERVICES),
        )
        folder.joinpath("gateway.toml").write_text(config_text("http://127.0.0.1:1/v1", ["sim"], 2))

    def start(self) -> Process:
        """Start it, and return when it is ready."""
        http, internal, self.grpc = free_ports(3)
        arguments = ["serve", "--config", "gateway.toml", "--data-dir", "data", "--key-file", "key"]
        arguments += ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}"]
        process = start("node", [*arguments, "--grpc", f"127.0.0.1:{self.grpc}"], self.folder, self._environment)
        wait_ready(process, f"http://127.0.0.1:{internal}")
        await_file(self.folder / "key")
        return process

    def client(self, service: str) -> Client:
        """A client with the certificate of a service."""
        presented = self.authority.sign((x509.DNSName(f"{service}.gateway.example"),))
        credentials = grpc.ssl_channel_credentials(self.authority.certificate, presented.key, presented.certificate)
        return Client(f"127.0.0.1:{self.grpc}", api_key="", credentials=credentials, timeout_s=5)

    def standing(self, key: str) -> tuple[int, int]:
        """What is spent and held of the key's one limit."""
        (quota,) = documents(self.data_dir, "quota", "show", key)
        (limit,) = quota["limits"]
        return int(limit.get("spent", 0)), int(limit.get("held", 0))


def test_a_service_holds_and_settles_across_a_restart(tmp_path: Path) -> None:
    """What is held is held by the node that comes after; only its maker may end it, and it is charged once."""
    house = House(tmp_path)
    processes = [house.start()]
    with stopping(processes):
        key = str(create_key(house.data_dir, "Billed by a service")[0]["name"])
        words = ["quota", "set", key, "--metric", "total-tokens", "--window", "total", "--limit", "1000"]
        assert tokendance("--data-dir", str(house.data_dir), *words).returncode == 0
        ask = pb.ReserveQuotaRequest(
            key=key, model="demo-echo", input_tokens=300, output_tokens=300, request_id="one", labels={"job": "night"}
        )
        with house.client("billing") as billing:
            made = billing.stubs.quota.ReserveQuota(ask).reservation
            assert (made.state, made.key) == (pb.RESERVATION_STATE_HELD, key)
            assert billing.stubs.quota.ReserveQuota(ask).reservation == made
            assert house.standing(key) == (0, 600)
            ask.request_id = "two"
            with pytest.raises(GatewayError) as refused:
                billing.stubs.quota.ReserveQuota(ask)
            assert (refused.value.code, refused.value.metadata["asked"]) == ("quota_held", "600")
        assert processes[0].stop() == 0
        processes.append(house.start())
        assert house.standing(key) == (0, 600)
        with house.client("other") as other, pytest.raises(GatewayError) as caught:
            other.stubs.quota.ReleaseReservation(pb.ReleaseReservationRequest(name=made.name))
        assert caught.value.code == "not_found"
        settle = pb.SettleQuotaRequest(
            name=made.name, usage=completion_pb2.Usage(input_tokens=250, output_tokens=90), cost_micros=7
        )
        with house.client("billing") as billing:
            first = billing.stubs.quota.SettleQuota(settle)
            again = billing.stubs.quota.SettleQuota(settle)
        assert (first.already_settled, again.already_settled) == (False, True)
        assert first.usage_record == again.usage_record
        record = first.usage_record
        assert (record.request_id, record.cost_micros, dict(record.labels)) == (made.request_id, 7, {"job": "night"})
        assert house.standing(key) == (340, 0)
        assert documents(house.data_dir, "requests", "show", made.request_id)
        assert processes[1].stop() == 0


def test_a_key_holds_nothing_this_way(tmp_path: Path) -> None:
    """The RPCs are for services: whoever has a key calls models instead."""
    house = House(tmp_path)
    with stopping([house.start()]):
        key = str(create_key(house.data_dir, "Curious")[0]["name"])
        with (
            Client(f"unix:{house.data_dir / 'admin.sock'}", api_key="") as operator,
            pytest.raises(GatewayError) as caught,
        ):
            operator.stubs.quota.ReserveQuota(pb.ReserveQuotaRequest(key=key, model="demo-echo"))
        assert caught.value.code == "permission_denied"
