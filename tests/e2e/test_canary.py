"""Marked secrets and prompts go everywhere that a caller or an upstream can send them, and are found nowhere after."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import text
from tests.canaries import find
from tests.e2e.fault_table import FAULTS
from tests.e2e.nodes import PROVIDER_KEY, TOKENDANCE, Node, Process, clean_environment, running
from tests.e2e.operator_cli import tokendance
from tests.e2e.upstream import Upstream
from tests.servers import PostgresServer

from tokendance.credentials import API_KEY_PREFIX, checksum
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import completions_service_pb2, keys_service_pb2
from tokendance.gateway.v1.completions_service_pb2_grpc import CompletionsServiceStub
from tokendance.gateway.v1.keys_service_pb2_grpc import KeysServiceStub
from tokendance_server.stores.sql.database import Database

MARK = 'Canary-7f3a "+/=<&>é?'
PROMPT = f"prompt {MARK} of a caller"
SYSTEM = f"system {MARK} of a caller"
TOOL = f"tool {MARK} of a caller"
SEALED = "sk-Sealed-Canary-c41d-of-a-provider"
FOREIGN = "sk-ant-Canary-99ab-of-another-service"
HUB = "hub_Canary0123456789abcdef0123456789"
_BODY = "Canary0123456789" + "0" * 27
UNKNOWN = API_KEY_PREFIX + _BODY + checksum(API_KEY_PREFIX + _BODY)
MODELS = ["sim", "sim-echo", "sim-tools", *(model for model in FAULTS if model.startswith("fault:"))]
MESSAGES_MODELS = ["sim", "claude/sim", "claude/sim-tools", "claude/fault:cut", "fault:status:code=503", "fault:cut"]
# Where the development issuer is off; nothing but its form is right.
NO_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJDYW5hcnkifQ.Q2FuYXJ5LXNpZ25hdHVyZQ"
# What waits for seconds by nature leaks no more than the others.
SLOW = ("stall", "drip", "first", "slow", "keepalive")


def post(node: Node, path: str, body: Any, headers: Mapping[str, str], origin: str = "") -> bytes:
    """Send a request whatever it is; return the head and the body of its answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        (origin or node.origin) + path, data=data, headers={"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            head = str(answer.headers).encode()
            return head + bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers).encode() + error.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return repr(error).encode()


def bodies(model: str, *, stream: bool) -> dict[str, Any]:
    """A chat request with marked texts in every place that holds one."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": TOOL})}}
    return {
        "model": model,
        "stream": stream,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": TOOL},
            {"role": "user", "content": PROMPT},
        ],
        "stop": [PROMPT[:20]],
        "prediction": {"type": "content", "content": PROMPT},
    }


def message(model: str, *, stream: bool) -> dict[str, Any]:
    """The same in Anthropic's form."""
    call = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": TOOL}}
    thought = {"type": "thinking", "thinking": PROMPT, "signature": "Canary-signature"}
    return {
        "model": model,
        "stream": stream,
        "max_tokens": 100,
        "system": [{"type": "text", "text": SYSTEM}],
        "messages": [
            {"role": "user", "content": PROMPT},
            {"role": "assistant", "content": [thought, call]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": TOOL}]},
        ],
        "tools": [{"name": "f", "description": TOOL, "input_schema": {"type": "object"}}],
        "of_a_later_version": PROMPT,
    }


def call_everything(node: Node, token: str) -> dict[str, bytes]:
    """Call models well and badly, with credentials right, wrong and misplaced; return the answers that are errors."""
    mine = {"Authorization": f"Bearer {node.api_key}"}
    answers: dict[str, bytes] = {}
    for model in MODELS:
        if any(slow in model for slow in SLOW):
            continue
        for stream in (False, True):
            answers[f"{model} {stream}"] = post(node, "/v1/chat/completions", bodies(model, stream=stream), mine)
    for model in MESSAGES_MODELS:
        for stream in (False, True):
            answers[f"messages {model} {stream}"] = post(node, "/v1/messages", message(model, stream=stream), mine)
    # The echo gives the prompt back, and has to.
    for model in ("sim-echo True", "sim-echo False"):
        del answers[model]
    wrong: list[tuple[str, Mapping[str, str]]] = [
        (f"/v1/chat/completions?key={node.api_key}", {}),
        (f"/v1/chat/completions?prompt={urllib.parse.quote(PROMPT)}", mine),
        (f"/v1/{urllib.parse.quote(PROMPT)}", mine),
        ("/v1/chat/completions", {"Cookie": f"key={node.api_key}"}),
        ("/v1/chat/completions", mine | {"x-api-key": FOREIGN}),
        ("/v1/chat/completions", mine | {"User-Agent": PROMPT.encode().decode("latin-1")}),
    ]
    for credential in (UNKNOWN, token, FOREIGN, HUB, f"{node.api_key}x", SEALED):
        wrong += [("/v1/chat/completions", {"Authorization": f"Bearer {credential}"})]
        wrong += [("/v1/chat/completions", {"Authorization": f"Basic {credential}"})]
    for number, (path, headers) in enumerate(wrong):
        answers[f"wrong {number}"] = post(node, path, bodies("sim", stream=False), headers)
    broken = [
        json.dumps({"model": "sim", "messages": PROMPT}).encode(),
        f'{{"model": "{PROMPT[:10]}'.encode(),
        PROMPT.encode(),
    ]
    broken += [json.dumps({"model": PROMPT[:60], "messages": []}).encode()]
    for number, body in enumerate(broken):
        answers[f"broken {number}"] = post(node, "/v1/chat/completions", body, mine)
        answers[f"broken message {number}"] = post(node, "/v1/messages", body, mine)
    for path in ("/admin/v1/organizations", "/metrics", f"/{node.api_key}", f"/livez?token={token}"):
        for credential in (node.api_key, FOREIGN, token):
            headers = {"Authorization": f"Bearer {credential}"}
            answers[f"internal {path[:9]} {credential[:4]}"] = post(
                node, path, {"a": PROMPT}, headers, node.internal[0]
            )
    return answers


async def call_over_grpc(node: Node, token: str) -> dict[str, bytes]:
    """The same over gRPC: what came back in errors."""
    part = pb.Part(text=pb.Text(text=PROMPT))
    message = pb.Message(role=pb.ROLE_USER, parts=[part])
    told: dict[str, bytes] = {}
    async with grpc.aio.insecure_channel(node.grpc) as channel:
        calls: Any = CompletionsServiceStub(channel)
        keys: Any = KeysServiceStub(channel)
        for model in ("sim", "fault:status:code=503", "fault:cut", PROMPT[:20]):
            for credential in (node.api_key, UNKNOWN, FOREIGN, token, HUB):
                request = completions_service_pb2.CreateCompletionRequest(
                    completion=pb.CompletionRequest(model=model, messages=[message])
                )
                metadata = (("authorization", f"Bearer {credential}"), ("x-prompt-bin", PROMPT.encode()))
                try:
                    await calls.CreateCompletion(request, metadata=metadata, timeout=10)
                except grpc.aio.AioRpcError as error:
                    told[f"grpc {model[:10]} {credential[:6]}"] = (
                        repr(error).encode() + repr(error.trailing_metadata()).encode()
                    )
        try:
            check = keys_service_pb2.CheckKeyRequest(secret=UNKNOWN)
            await keys.CheckKey(check, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
        except grpc.aio.AioRpcError as error:
            told["grpc check"] = repr(error).encode()
    return told


def commands(node: Node) -> dict[str, bytes]:
    """What operators' commands print of it all."""
    at = ("--data-dir", str(node.data_dir))
    config = str(node.data_dir.parent / "gateway.toml")
    printed = {
        " ".join(words[:2]): tokendance(*at, *words)
        for words in (
            ("keys", "list", "--format", "json"),
            ("providers", "show", "sealed"),
            ("providers", "list", "--format", "json"),
            ("models", "list"),
            ("audit", "list", "--format", "json"),
            ("audit", "verify"),
            ("secrets", "status"),
        )
    }
    printed["serve --check"] = tokendance(
        "serve", "--check", "--config", config, *at, TOKENDANCE_PROVIDER_SIM=PROVIDER_KEY
    )
    for key in (node.api_key, UNKNOWN, FOREIGN):
        printed[f"doctor {key[:6]}"] = tokendance("doctor", TOKENDANCE_API_KEY=key, TOKENDANCE_BASE_URL=node.base_url)
    return {name: (one.stdout + one.stderr).encode() for name, one in printed.items()}


def files_of(node: Node) -> dict[str, bytes]:
    """Everything that the node has written, but for the secrets' own places."""
    own = {"pepper", "ring", "identity.pem"}
    found = {
        str(path): path.read_bytes() for path in node.data_dir.rglob("*") if path.is_file() and path.name not in own
    }
    return found | {"output": node.text.encode()}


async def dump(url: str) -> bytes:
    """Return every row of every table of a PostgreSQL database, as text."""
    database = await Database.open_postgresql(url)
    try:
        async with database.read() as connection:
            names = (
                (await connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")))
                .scalars()
                .all()
            )
        rows: list[str] = []
        for name in names:
            async with database.read() as connection:
                rows += (await connection.execute(text(f'SELECT t::text FROM "{name}" t'))).scalars().all()
        return "\n".join(rows).encode()
    finally:
        await database.close()


@contextmanager
def marked(folder: Path, upstream: Upstream, **settings: str) -> Iterator[Node]:
    """Run a node that logs all it can, with a provider whose credential is sealed."""
    with running("one", folder, upstream.base_url, MODELS, settings={"SERVER__LOG_LEVEL": "debug", **settings}) as node:
        file = folder / "catalogue.yaml"
        file.write_text(
            json.dumps({"providers": [{"name": "sealed", "kind": "openai", "base_url": upstream.base_url}]})
        )
        at = ("--data-dir", str(node.data_dir))
        assert tokendance(*at, "apply", "-f", str(file), "--yes").returncode == 0
        done = subprocess.run(
            [TOKENDANCE, *at, "providers", "credential", "set", "sealed"],
            input=SEALED,
            env=clean_environment(),
            text=True,
            timeout=30,
            check=True,
            capture_output=True,
        )
        assert SEALED not in done.stdout + done.stderr
        yield node


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_no_secret_and_no_prompt_is_left_anywhere(
    store: str, upstream: Upstream, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Not in logs, metrics, databases, audit, errors, commands or the list of processes, nor where a node died."""
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.database() as url:
        settings = {} if store == "sqlite" else {"SERVER__DATABASE_URL": url, "SERVER__EGRESS__ALLOW_LOOPBACK": "true"}
        if settings:
            assert tokendance("migrate", "apply", TOKENDANCE_GATEWAY_SERVER__DATABASE_URL=url).returncode == 0
        with marked(tmp_path, upstream, **settings) as node:
            token = tokendance(
                "--data-dir", str(node.data_dir), "id", "token", "--role", "platform_admin"
            ).stdout.strip()
            secrets = {
                "api key": node.api_key,
                "provider key": PROVIDER_KEY,
                "sealed credential": SEALED,
                "id token": token or NO_TOKEN,
                "unknown key": UNKNOWN,
                "foreign key": FOREIGN,
                "hub session": HUB,
                "prompt": PROMPT,
                "system prompt": SYSTEM,
                "tool call": TOOL,
                "upstream's own words": "upstream-error-canary",
            }
            artefacts = call_everything(node, secrets["id token"])
            artefacts |= asyncio.run(call_over_grpc(node, secrets["id token"]))
            artefacts |= commands(node)
            for page in ("/metrics", "/readyz"):
                with urllib.request.urlopen(node.internal[0] + page, timeout=10) as answer:
                    artefacts[page] = answer.read()
            process: Process = node.processes[0]
            artefacts["command line"] = Path(f"/proc/{process.popen.pid}/cmdline").read_bytes()
            if store == "postgresql":
                artefacts["postgresql"] = asyncio.run(dump(url))
            # Whatever a crash would print: the stacks of a process that is told to abort in the middle of its calls.
            process.popen.send_signal(signal.SIGABRT)
            process.popen.wait(20)
            artefacts |= files_of(node)
        assert len(artefacts) > 100
        assert find(secrets, artefacts) == []
