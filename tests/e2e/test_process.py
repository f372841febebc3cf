"""The processes of a node: operators' commands on it, its end with calls running, and secrets that stay inside."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from tests.e2e.calls import rest, rpc
from tests.e2e.conftest import secrets_told
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import STOP_S, Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.upstream import Upstream, until

from tokendance import AsyncClient, GatewayError

LONG = "sim:tokens=400:rate=20"
SHORT = "sim:tokens=20:rate=20"


def test_operator_commands(node: Node) -> None:
    """Keys are listed, made and shown over the node's own socket; a secret is shown by none but create."""
    key, secret = create_key(node.data_dir, "Continuous integration", "--label", "stage=test")
    listed = documents(node.data_dir, "keys", "list")
    assert key["name"] in [one["name"] for one in listed]
    assert secret not in json.dumps(listed)
    done = tokendance("--data-dir", str(node.data_dir), "keys", "show", key["name"])
    assert done.returncode == 0
    assert "Continuous integration" in done.stdout
    assert secret not in done.stdout + done.stderr


async def test_new_key_works_at_once(node: Node) -> None:
    """The first call after create is answered, over REST and over gRPC."""
    _, secret = await asyncio.to_thread(create_key, node.data_dir, "Fresh")
    seen = await asyncio.gather(rest(node, "sim", stream=False, key=secret), rpc(node, "sim", stream=False, key=secret))
    assert [one.text for one in seen] == [SENTENCE] * 2


def test_commands_of_a_keys_holder(node: Node) -> None:
    """With a key and a base URL in the environment, models are listed and one is talked to."""
    environment = {
        name: value for name, value in node.environment("sim-echo").items() if name.startswith("TOKENDANCE_")
    }
    listed = tokendance("models", "list", "--format", "json", **environment)
    assert "demo-echo" in [model["id"] for model in json.loads(listed.stdout)]
    said = tokendance("chat", "sim-echo", "Good morning", **environment)
    assert said.stdout.strip() == "Good morning"
    assert "TOKENDANCE_REQUEST_ID=req_" in said.stderr
    failed = tokendance("chat", "fault:cut", "Good morning", **environment)
    assert failed.returncode == 1
    assert failed.stdout.strip() == "The quick"
    assert "stream_interrupted" in failed.stderr
    assert "TOKENDANCE_REQUEST_ID=req_" in failed.stderr


async def test_nothing_secret_is_written_down(node: Node) -> None:
    """Whatever happens to a call, its prompt, its key and the provider's key are in no log and no file."""
    messages = [{"role": "user", "content": "prompt-canary"}]
    for model in ("sim-echo", "fault:status:code=401", "fault:error-event", "fault:cut"):
        for stream in (False, True):
            await rest(node, model, stream=stream, messages=messages)
            await rpc(node, model, stream=stream, user="end-user")
    await rest(node, "sim", stream=False, temperature="prompt-canary")
    assert secrets_told(node) == []


def test_stopped_node_is_told(tmp_path: Path) -> None:
    """A command on a data directory without a running node is one clear line and its own exit code."""
    done = tokendance("--data-dir", str(tmp_path), "keys", "list")
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == f"tokendance: No node is running on the data directory {tmp_path}."


def test_unwritable_directory_is_told() -> None:
    """A data directory that cannot be made is one clear line."""
    done = tokendance("serve", "--data-dir", "/dev/null/data")
    assert done.returncode == 1
    assert "/dev/null/data" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("topology", ["one", "split"])
async def test_end_with_running_streams(topology: str, upstream: Upstream, tmp_path: Path) -> None:
    """Asked to end, a node lets short streams finish, tells long ones why they stop, and frees the upstream."""
    with running(topology, tmp_path, upstream.base_url, [LONG, SHORT], stop_grace_s=2) as node:
        upstream.forget()
        calls = [
            asyncio.create_task(rest(node, SHORT, stream=True)),
            asyncio.create_task(rest(node, LONG, stream=True)),
        ]
        direct = asyncio.create_task(read_directly(node))
        await asyncio.to_thread(until, lambda: len(upstream.log()) == 3)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        exits = await asyncio.gather(*(asyncio.to_thread(process.stop) for process in node.processes))
        took_s = time.monotonic() - began
        short, long = await asyncio.gather(*calls)
        failure, text = await direct
        assert set(exits) == {0}, node.text
        assert 1 < took_s < STOP_S / 2
        assert short.done
        assert not short.code
        assert (long.status, long.code, long.done) == (200, "service_stopping", False)
        assert long.error["request_id"] == long.request_id
        assert (failure.code, failure.retryable) == ("service_stopping", True)
        assert long.text.startswith("The quick")
        assert text.startswith("The quick")
        assert all(record["peer_left"] for record in upstream.log(LONG))
        assert secrets_told(node) == []


async def read_directly(node: Node) -> tuple[GatewayError, str]:
    """A long stream over gRPC with our own client: how it failed, and what of it came before."""
    text = ""
    async with AsyncClient(node.grpc, api_key=node.api_key) as client:
        try:
            async for event in client.stream(LONG, "Hello"):
                text += event.text.text
        except GatewayError as failure:
            return failure, text
    raise AssertionError("the stream came to its end")


async def test_facade_without_its_server(upstream: Upstream, tmp_path: Path) -> None:
    """A facade whose server is gone says so to callers and to its probes, without an address, and recovers."""
    with running("split", tmp_path, upstream.base_url, ["sim"], stop_grace_s=1) as node:
        facade, server = node.processes
        assert (await rest(node, "sim", stream=False)).done
        assert await asyncio.to_thread(server.stop) == 0
        for stream in (False, True):
            seen = await rest(node, "sim", stream=stream)
            assert (seen.status, seen.code) == (503, "service_stopping")
            assert 1 <= int(seen.retry_after) <= 60
            assert "sock" not in seen.raw
            assert "127.0.0.1" not in seen.raw
        assert facade.popen.poll() is None
