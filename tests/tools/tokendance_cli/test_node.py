"""A node and what it may reach: loopback only where nobody but this machine reaches the node."""

import json
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from tests.tools.tokendance_cli.conftest import Run

from tokendance_cli.node import Role, is_loopback_only
from tokendance_cli.settings import load_settings
from tokendance_server.app import open_server
from tokendance_server.catalogue_settings import ProviderSettings
from tokendance_server.config import EgressSettings, ServerConfig

CONFIG = '[[providers]]\nname = "ollama"\nkind = "openai"\nbase_url = "http://localhost:9/v1"\n'
ANY_PORT = ["--http", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]


@pytest.mark.parametrize(
    ("role", "flags", "expected"),
    [
        (Role.ALL, {}, True),
        (Role.ALL, {"facade": {"http": "[::1]:0", "internal": "localhost:0"}, "server": {"grpc": "127.0.0.9:0"}}, True),
        (Role.ALL, {"facade": {"http": "unix:///run/gateway.sock"}, "server": {"grpc": ""}}, True),
        (Role.ALL, {"facade": {"http": "0.0.0.0:8080"}}, False),
        (Role.ALL, {"facade": {"internal": "[::]:8081"}}, False),
        (Role.ALL, {"server": {"grpc": "192.0.2.1:50051"}}, False),
        (Role.ALL, {"server": {"grpc": "127.example.com:50051"}}, False),
        (Role.ALL, {"server": {"grpc_public": "127.0.0.1:50053"}}, True),
        (Role.ALL, {"server": {"grpc_public": "0.0.0.0:50053"}}, False),
        (Role.SERVER, {}, False),
    ],
)
def test_only_a_whole_node_on_loopback_counts_as_such(
    role: Role, flags: dict[str, dict[str, object]], expected: bool
) -> None:
    """Every listener counts; what stands before a server of its own is not known."""
    assert is_loopback_only(load_settings(None, flags), role) is expected


def _refused(told: subprocess.CompletedProcess[str]) -> None:
    assert (told.returncode, told.stdout) == (2, "")
    assert "provider 'ollama': base_url: 127.0.0.1 is a loopback address" in told.stderr
    assert len([line for line in told.stderr.splitlines() if line]) == 2


def test_a_server_of_its_own_does_not_start_towards_loopback(run: Run, tmp_path: Path) -> None:
    """A line that names the provider and the setting."""
    (tmp_path / "gateway.toml").write_text(CONFIG, encoding="utf-8")
    _refused(run("serve", "--role", "server", "--config", "gateway.toml", "--data-dir", "d", *ANY_PORT))


def test_loopback_can_be_closed_by_the_environment(run: Run, tmp_path: Path) -> None:
    """For a node behind a proxy on the same machine."""
    (tmp_path / "gateway.toml").write_text(CONFIG, encoding="utf-8")
    closed = {"TOKENDANCE_GATEWAY_SERVER__EGRESS__ALLOW_LOOPBACK": "false"}
    _refused(run("serve", "--config", "gateway.toml", "--data-dir", "d", *ANY_PORT, **closed))


def test_networks_that_cannot_be_opened_are_told_with_the_other_mistakes(run: Run) -> None:
    """By the place where they stand."""
    told = run("serve", TOKENDANCE_GATEWAY_SERVER__EGRESS__ALLOW_PRIVATE='["10.0.0.0/8", "0.0.0.0/0"]')
    assert told.returncode == 2
    assert "SERVER__EGRESS__ALLOW_PRIVATE: server.egress.allow_private: 0.0.0.0/0 cannot be opened" in told.stderr
    told = run("serve", TOKENDANCE_GATEWAY_SERVER__EGRESS__ALLOW_PRIVATE="10.0.0.0/8,10.0.0.1/8")
    assert "server.egress.allow_private: 10.0.0.1/8 has host bits set" in told.stderr


async def _lines(data_dir: Path, egress: EgressSettings, *, loopback_only: bool, base_url: str) -> list[str]:
    providers = [ProviderSettings(name="p", kind="openai", base_url=base_url)] if base_url else []
    with capture_logs() as lines:
        server = await open_server(
            ServerConfig(data_dir=data_dir, grpc="", egress=egress),
            providers=providers,
            registry=CollectorRegistry(),
            loopback_only=loopback_only,
        )
        await server.stop(0)
    return [json.dumps(line, sort_keys=True) for line in lines if line["event"] == "egress_opened"]


async def test_a_node_says_once_what_it_opened(tmp_path: Path) -> None:
    """One line at start, and none where nothing is open or nothing goes out."""
    both = EgressSettings(allow_private=("10.0.0.0/8",))
    (line,) = await _lines(tmp_path / "a", both, loopback_only=True, base_url="http://localhost:9/v1")
    assert json.loads(line) == {
        "event": "egress_opened", "log_level": "info", "loopback": True, "private": ["10.0.0.0/8"]
    }  # fmt: skip
    public = "https://a.example/v1"
    assert await _lines(tmp_path / "b", EgressSettings(), loopback_only=False, base_url=public) == []
    assert await _lines(tmp_path / "c", EgressSettings(), loopback_only=True, base_url="") == []
