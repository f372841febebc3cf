"""Facade and server over TCP: restarts, renewals, and facades that are none, with real processes."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.certificates import FACADE_NAME, FACADE_NAMES, SERVER_NAMES, Authority
from tests.e2e.calls import rest
from tests.e2e.nodes import (
    ROOT,
    TOKENDANCE,
    Node,
    Process,
    await_file,
    clean_environment,
    free_ports,
    running,
    start,
    stopping,
    wait_ready,
)
from tests.e2e.test_examples import BLOCK
from tests.e2e.test_listeners import ask, lines_of
from tests.e2e.upstream import Upstream, until

from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.caller_pb2 import CallerAssertion

OTHER_NAMES = (x509.DNSName("billing.gateway.example"),)


@pytest.fixture
def node(upstream: Upstream, tmp_path: Path) -> Iterator[Node]:
    """A node of its own: what happens to it here is too much for one that is shared."""
    with running("tls", tmp_path, upstream.base_url, ["sim"], stop_grace_s=2) as started:
        yield started


async def test_headers_that_look_like_assertions_are_nothing(node: Node) -> None:
    """A caller of REST cannot speak for itself through the facade, whatever it writes, in any field."""
    forged = CallerAssertion(
        request_id="req_0123456789abcdefghijklmnop",
        surface=errors_pb2.SURFACE_MESSAGES,
        address="192.0.2.7",
        user_agent="forged/1.0",
        client_kind="forged-kind",
        client_version="9.9.9",
        http_route="POST /v1/forged",
        direct=True,
        host="forged.example",
    )
    assert {field.name for field, _ in forged.ListFields()} == set(CallerAssertion.DESCRIPTOR.fields_by_name)
    written = base64.b64encode(forged.SerializeToString()).decode()
    headers: dict[str, Any] = {
        "x-tokendance-caller-bin": written,
        "x-request-id": forged.request_id,
        "x-forwarded-for": "192.0.2.7",
    }
    _, answered, _ = await ask(f"{node.base_url}/models", key=node.api_key, **headers)
    request_id = answered["x-request-id"]
    assert request_id != forged.request_id
    until(lambda: bool(lines_of(node, request_id)))
    (line,) = lines_of(node, request_id)
    assert line["surface"] == "models"
    for word in ("forged", "192.0.2.7", forged.request_id):
        assert word not in node.text


async def test_a_server_that_is_started_again_is_found_by_its_facade(node: Node, tmp_path: Path) -> None:
    """Meanwhile the facade says that it is not ready, and answers with an error that may be tried again."""
    facade, server = node.processes
    internal, server_internal = node.internal
    environment = _environment_of(server)
    assert await asyncio.to_thread(server.stop) == 0
    seen = await rest(node, "sim", stream=False)
    assert (seen.status, seen.code) == (503, "service_stopping")
    assert (await ask(f"{internal}/readyz"))[0] == 503
    processes: list[Process] = []
    with stopping(processes):
        assert isinstance(server.popen.args, list)
        processes.append(start("server-again", server.popen.args[1:], tmp_path, environment))
        await asyncio.to_thread(wait_ready, processes[0], server_internal)
        began = time.monotonic()
        await asyncio.to_thread(wait_ready, facade, internal)
        assert time.monotonic() - began < 5
        assert (await rest(node, "sim", stream=True)).done


def _environment_of(process: Process) -> dict[str, str]:
    pairs = Path(f"/proc/{process.popen.pid}/environ").read_text(encoding="utf-8").split("\0")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs if pair)}


async def test_a_renewed_authority_needs_no_restart(node: Node, tmp_path: Path) -> None:
    """First both authorities are believed, then the certificates change, then the old one goes; no call fails."""
    renewed = Authority()
    together = (tmp_path / "server-ca.pem").read_bytes() + renewed.certificate
    _replace(tmp_path, together)
    renewed.sign(SERVER_NAMES).write(tmp_path, "server")
    renewed.sign(FACADE_NAMES).write(tmp_path, "facade")
    await _serves_until(node, "facade.pem", 1)
    _replace(tmp_path, renewed.certificate)
    await _serves_until(node, "facade.pem", 2)
    assert "certificates_not_renewed" not in node.text


def _replace(folder: Path, authorities: bytes) -> None:
    for side in ("server", "facade"):
        new = folder / "new"
        new.write_bytes(authorities)
        new.replace(folder / f"{side}-ca.pem")


async def _serves_until(node: Node, certificate: str, times: int) -> None:
    """Call until the facade has said so many times that it goes by new certificates."""
    async with asyncio.timeout(20):
        while sum("certificates_renewed" in line and certificate in line for line in node.text.splitlines()) < times:
            assert (await rest(node, "sim", stream=False)).done
            await asyncio.sleep(0.1)


async def test_a_facade_of_another_name_serves_nobody(node: Node, tmp_path: Path) -> None:
    """It is not ready; callers learn that a retry is of no use, and nothing of certificates; its operator is told all.

    Once the server takes its name it serves, without a restart.
    """
    facade, _ = node.processes
    environment = _environment_of(facade)
    assert await asyncio.to_thread(facade.stop) == 0
    authority = Authority()
    other = authority.sign(OTHER_NAMES).write(tmp_path, "facade")
    together = (tmp_path / "server-ca.pem").read_bytes() + authority.certificate
    (tmp_path / "server-ca.pem").write_bytes(together)
    assert other.problems() == []
    processes: list[Process] = []
    with stopping(processes):
        assert isinstance(facade.popen.args, list)
        processes.append(start("facade-again", facade.popen.args[1:], tmp_path, environment))
        await asyncio.to_thread(until, lambda: "server_refused_facade" in processes[0].text)
        for _ in range(3):
            seen = await rest(node, "sim", stream=False)
            assert (seen.status, seen.code) == (500, "gateway_misconfigured")
            assert "certificate" not in seen.raw
        status, answered, _ = await ask(f"{node.base_url}/models", key=node.api_key)
        assert (status, answered["x-should-retry"]) == (500, "false")
        assert "retry-after" not in answered
        ready, _, text = await ask(f"{node.internal[0]}/readyz")
        assert ready == 503
        assert "the client certificate is not one of a facade's" in text
        (line,) = [json.loads(line) for line in processes[0].text.splitlines() if "server_refused_facade" in line]
        assert "the client certificate is not one of a facade's" in line["details"]
        told = await asyncio.to_thread(_doctor, node, tmp_path)
        assert told.returncode == 1
        assert "FAILED   key" in told.stdout
        assert "Do not retry; tell the operator of the gateway" in told.stdout
        checked = await asyncio.to_thread(_check, facade.popen.args[1:], tmp_path, environment)
        assert checked["server's answer"] == "broken"
        authority.sign(FACADE_NAMES).write(tmp_path, "facade")
        await asyncio.to_thread(wait_ready, processes[0], node.internal[0])
        assert (await rest(node, "sim", stream=False)).done
        assert "server_takes_facade" in processes[0].text


def _check(command: list[str], folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """The states of `serve --check` for a process; its ports are taken, which is a problem of another part."""
    told = subprocess.run(
        [TOKENDANCE, *command, "--check", "--format", "json"],
        capture_output=True, text=True, check=False, timeout=20, cwd=folder, env=environment,
    )  # fmt: skip
    return {row["part"]: row["state"] for row in json.loads(told.stdout)}


def _doctor(node: Node, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(TOKENDANCE_API_KEY=node.api_key, TOKENDANCE_BASE_URL=node.base_url)
    command: list[str | Path] = [TOKENDANCE, "doctor"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, cwd=folder, env=environment)


def test_mistakes_in_certificates_are_told_at_once(tmp_path: Path) -> None:
    """Before anything is opened: no data directory is made."""
    signed = Authority().sign(SERVER_NAMES, valid_for=timedelta(minutes=-1)).write(tmp_path, "old")
    other = Authority().sign(SERVER_NAMES).write(tmp_path, "other")
    (tmp_path / "gateway.toml").write_text(
        f"""
        [server]
        facade_grpc = "127.0.0.1:0"
        [server.tls]
        certificate = "{signed.certificate}"
        key = "{signed.key}"
        [server.facade_tls]
        certificate = "{signed.certificate}"
        key = "{other.key}"
        client_ca = "missing.pem"
        identities = ["{FACADE_NAME}"]
        [facade.tls]
        certificate = "{other.key}"
        key = "{other.key}"
        """
    )
    told = _serve(tmp_path, "--config", "gateway.toml")
    assert told.returncode == 2
    lines = told.stderr.splitlines()
    assert lines[0] == "tokendance: The certificates cannot be used:"
    assert len(lines) == 5
    assert "server.tls: " in lines[1]
    assert "old.pem has expired on" in lines[1]
    assert lines[2].endswith("server.facade_tls: missing.pem cannot be read: No such file or directory")
    assert "other.key is not the private key of" in lines[3]
    assert "facade.tls: " in lines[4]
    assert lines[4].endswith("holds no certificate in PEM")
    assert not (tmp_path / ".tokendance").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("192.0.2.1:50052", "that server would not believe who the callers are"),
        ("gateway.internal:50052", "see docs/operations/split.md"),
        ("gateway.internal", "an address is given as host:port"),
        ("127.0.0.1:0", "the port of the server is needed"),
        ("dns:///gateway.internal:1", "a server is given as host:port"),
    ],
)
def test_a_target_that_would_believe_nothing_is_refused(tmp_path: Path, target: str, words: str) -> None:
    """Keys in plaintext to another machine are never what somebody wants."""
    told = _serve(tmp_path, "--role", "facade", "--server", target)
    assert told.returncode == 2
    assert words in told.stderr


async def test_a_target_on_this_machine_without_certificates_is_warned_of(upstream: Upstream, tmp_path: Path) -> None:
    """It serves, and its server counts every caller as the facade itself."""
    with running("one", tmp_path, upstream.base_url, ["sim"]) as node:
        http, internal = free_ports(2)
        addresses = ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}"]
        command = ["serve", "--role", "facade", "--server", node.grpc, *addresses]
        processes = [start("plain", command, tmp_path, clean_environment())]
        with stopping(processes):
            await asyncio.to_thread(wait_ready, processes[0], f"http://127.0.0.1:{internal}")
            _, answered, _ = await ask(f"http://127.0.0.1:{http}/v1/models", key=node.api_key)
            until(lambda: "does not believe who the callers are" in processes[0].text)
            # Not the id that the facade gave: what it asserted was dropped.
            assert answered["x-request-id"] not in node.text


def _serve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ports = ["--http", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    command: list[str | Path] = [TOKENDANCE, "serve", *ports, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=20, cwd=folder, env=clean_environment()
    )


async def test_the_page_about_it_works(tmp_path: Path) -> None:
    """Its commands make the certificates, its two files start the two roles, and a call gets through."""
    http, internal, server_internal, facade_grpc = free_ports(4)
    page = (ROOT / "docs" / "operations" / "split.md").read_text(encoding="utf-8")
    for written, used in (
        ("gateway.internal:50052", f"127.0.0.1:{facade_grpc}"),
        ("10.0.0.5:50052", f"127.0.0.1:{facade_grpc}"),
        ("IP:10.0.0.5", "IP:127.0.0.1"),
        ("127.0.0.1:8080", f"127.0.0.1:{http}"),
    ):
        assert written in page
        page = page.replace(written, used)
    blocks = dict(BLOCK.findall(page))
    assert set(blocks) == {"certificates", "server", "facade", "serve-server", "serve-facade"}
    await asyncio.to_thread(_run_lines, blocks["certificates"], tmp_path)
    for role in ("server", "facade"):
        (tmp_path / f"{role}.toml").write_text(blocks[role], encoding="utf-8")
    processes: list[Process] = []
    with stopping(processes):
        for role, port in (("server", server_internal), ("facade", internal)):
            command = blocks[f"serve-{role}"].split()
            assert command[0] == "tokendance"
            more = ["--internal", f"127.0.0.1:{port}", *(["--key-file", "key"] if role == "server" else [])]
            processes.insert(0, start(role, [*command[1:], *more], tmp_path, clean_environment()))
            await asyncio.to_thread(wait_ready, processes[0], f"http://127.0.0.1:{port}")
        await asyncio.to_thread(await_file, tmp_path / "key")
        status, _, text = await ask(f"http://127.0.0.1:{http}/v1/models", key=(tmp_path / "key").read_text().strip())
        assert status == 200
        assert "demo-echo" in text


def _run_lines(text: str, folder: Path) -> None:
    done = subprocess.run(["sh", "-euc", text], check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
