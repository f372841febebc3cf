"""Nodes under test: the product's own command in processes of its own, as one node or as facade and server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.certificates import FACADE_NAME, FACADE_NAMES, SERVER_NAMES, Authority

ROOT = Path(__file__).resolve().parents[2]
TOKENDANCE = Path(sys.executable).with_name("tokendance")
PROVIDER_KEY = "sk-upstream-canary-4f6cbb0f2f1d4f4e"
# The top-level domain is reserved: no resolver finds anything below it.
NO_SUCH_NAME = "upstream-canary.invalid"
PERSONAS = ("sim", "sim-echo", "sim-tools", "sim-tools-parallel", "sim-json", "sim-agent")
START_S = 20
STOP_S = 15

# A body larger than this is refused by the facade: the default would make the tests send 32 MiB.
BODY_LIMIT_BYTES = 1024 * 1024
ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
EVENT_LIMIT_BYTES = 1024 * 1024
KEEPALIVE_S = 0.3
HEADERS_AFTER_S = 1.5


# A provider that refuses its credential is not asked any more, so each of these has one of its own.
_REFUSING = {
    "fault:status:code=401": "locked",
    "fault:status:code=402": "unpaid",
    "fault:status:code=403": "barred",
    "fault:status:reason=insufficient_quota": "broke",
}
FACADE_SETTINGS = f"""\
max_body_bytes = {BODY_LIMIT_BYTES}
keepalive_s = {KEEPALIVE_S}
stream_headers_after_s = {HEADERS_AFTER_S}
"""


@dataclass(frozen=True)
class Process:
    """One process of a node. Its output is kept in files."""

    name: str
    popen: subprocess.Popen[bytes]
    output: Path
    log: Path

    @property
    def text(self) -> str:
        """Everything it wrote so far, on both streams."""
        return self.output.read_text(errors="replace") + self.log.read_text(errors="replace")

    def stop(self) -> int:
        """Ask it to end as an operator would; returns its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(STOP_S)


@dataclass(frozen=True)
class Node:
    """A running node: where it listens, what it wrote, and the key of its first start."""

    topology: str
    origin: str
    grpc: str
    internal: tuple[str, ...]
    api_key: str
    data_dir: Path
    processes: tuple[Process, ...] = field(repr=False)

    @property
    def base_url(self) -> str:
        """What an OpenAI SDK takes as its base URL."""
        return f"{self.origin}/v1"

    @property
    def text(self) -> str:
        """Everything that its processes wrote so far."""
        return "".join(f"--- {process.name}\n{process.text}" for process in self.processes)

    def environment(self, model: str = "demo-echo") -> dict[str, str]:
        """What a caller's program finds in its environment."""
        return clean_environment() | {
            "TOKENDANCE_API_KEY": self.api_key,
            "TOKENDANCE_BASE_URL": self.base_url,
            "TOKENDANCE_MODEL": model,
        }


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anything that speaks to the gateway or to SDKs."""
    foreign = ("TOKENDANCE", "OPENAI", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | more


def free_ports(count: int) -> list[int]:
    """Ports that are free now; all are held at once, so that no two are the same."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in opened:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in opened]


@contextmanager
def blackhole() -> Iterator[int]:
    """Give a port whose backlog is full: the kernel drops each SYN, as a firewall would."""
    with ExitStack() as stack:
        busy = stack.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(busy.getsockname())
        yield busy.getsockname()[1]


def config_text(upstream_url: str, models: Sequence[str], stop_grace_s: float, silent_port: int = 1) -> str:
    """The configuration of a server: the demo and every model of the simulator, by the simulator's own names.

    `patient/NAME` is the same model behind a provider with long timeouts, `refused` one where nobody listens,
    `nameless` one whose host has no address, `silent` one that never takes a
    connection, `claude/NAME` is a model that speaks Anthropic's Messages, and `acme/sim` has an alias and a public
    description.
    """
    quick = {"first_byte_timeout_s": 1.0, "idle_timeout_s": 0.8, "total_timeout_s": 20}
    providers: list[Mapping[str, Any]] = [
        {"name": "demo", "kind": "demo"},
        {"name": "sim", "kind": "openai", "base_url": upstream_url, "credential": "env:TOKENDANCE_PROVIDER_SIM"}
        | quick,
        {"name": "patient", "kind": "openai", "base_url": upstream_url, "credential": "env:TOKENDANCE_PROVIDER_SIM"},
        *(
            {"name": name, "kind": "openai", "base_url": upstream_url, "credential": "env:TOKENDANCE_PROVIDER_SIM"}
            | quick
            for name in _REFUSING.values()
        ),
        {"name": "claude", "kind": "anthropic", "base_url": upstream_url, "credential": "env:TOKENDANCE_PROVIDER_SIM"},
        {
            "name": "responses",
            "kind": "openai",
            "base_url": upstream_url,
            "credential": "env:TOKENDANCE_PROVIDER_SIM",
            "capabilities": ["responses"],
        },
        {"name": "refused", "kind": "openai", "base_url": f"http://127.0.0.1:{free_ports(1)[0]}/v1"},
        {
            "name": "silent",
            "kind": "openai",
            "base_url": f"http://127.0.0.1:{silent_port}/v1",
            "connect_timeout_s": 0.5,
        },
        {"name": "nameless", "kind": "openai", "base_url": f"https://{NO_SUCH_NAME}/v1"},
    ]
    everything = ["completions", "embeddings", "tools", "structured_output"]
    catalogue: list[Mapping[str, Any]] = [
        {"name": "demo-echo", "capabilities": everything, "routes": [_route("demo", "demo-echo")]},
        {"name": "refused", "capabilities": everything, "routes": [_route("refused", "any")]},
        {"name": "silent", "capabilities": everything, "routes": [_route("silent", "any")]},
        {"name": "nameless", "capabilities": everything, "routes": [_route("nameless", "any")]},
        {"name": "acme/sim", "aliases": ["short"], "owned_by": "acme", "routes": [_route("sim", "sim")]},
    ]
    catalogue += [
        {"name": one, "capabilities": everything, "routes": [_route(_REFUSING.get(one, "sim"), one)]} for one in models
    ]
    catalogue += [
        {"name": f"patient/{one}", "capabilities": everything, "routes": [_route("patient", one)]}
        for one in models
        if not one.startswith("fault:")
    ]
    catalogue += [
        {"name": f"claude/{one}", "capabilities": everything, "routes": [_route("claude", one)]}
        for one in (*PERSONAS, "fault:reasoning", "fault:reasoning:base=sim-tools", "fault:cut")
    ]
    catalogue += [
        {"name": f"responses/{one}", "capabilities": everything, "routes": [_route("responses", one)]}
        for one in (*PERSONAS, "fault:reasoning", "fault:reasoning:base=sim-tools", "fault:cut", "fault:error-event")
    ]
    # Agents choose their tools by the names of models that they know.
    catalogue += [
        {"name": name, "capabilities": everything, "routes": [_route(provider, "sim-agent")]}
        for name, provider in (("gpt-5.5", "sim"), ("gpt-6-sol", "responses"), ("gpt-6-luna", "sim"))
    ]
    lines = [
        "[server]",
        f"stop_grace_s = {stop_grace_s}",
        "",
        "[server.limits]",
        f"upstream_answer_bytes = {ANSWER_LIMIT_BYTES}",
        f"upstream_event_bytes = {EVENT_LIMIT_BYTES}",
        "",
        "[facade]",
        FACADE_SETTINGS,
    ]
    tables: Sequence[Mapping[str, Any]]
    for name, tables in (("providers", providers), ("models", catalogue)):
        for table in tables:
            lines += [f"[[{name}]]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
    return "\n".join(lines)


def _route(provider: str, model: str) -> dict[str, str]:
    return {"provider": provider, "upstream_model": model}


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def start(
    name: str,
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    program: Sequence[str | Path] = (TOKENDANCE,),
) -> Process:
    """Run `tokendance`, or a program that becomes it, with its output in files of `folder`."""
    output, log = folder / f"{name}.out", folder / f"{name}.log"
    with output.open("wb") as out, log.open("wb") as err:
        popen = subprocess.Popen([*program, *arguments], stdout=out, stderr=err, env=environment, cwd=folder)
    return Process(name, popen, output, log)


@contextmanager
def stopping(processes: Sequence[Process]) -> Iterator[None]:
    """End the processes afterwards, whatever happened, in the order given."""
    try:
        yield
    finally:
        for process in processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()


def wait_ready(process: Process, internal: str) -> None:
    """Return when the process says that it is ready; raises AssertionError with its output where it ends first."""
    until = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{internal}/readyz", timeout=2) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        assert process.popen.poll() is None, f"{process.name} ended with {process.popen.returncode}:\n{process.text}"
        assert time.monotonic() < until, f"{process.name} is not ready after {START_S} s:\n{process.text}"
        time.sleep(0.03)


def await_file(path: Path) -> None:
    """Return when the file is there; a node writes its key file right after it is ready."""
    until = time.monotonic() + START_S
    while not path.exists():
        assert time.monotonic() < until, f"{path} is not written"
        time.sleep(0.01)


def mutual_tls(folder: Path, address: str) -> tuple[dict[str, str], dict[str, str]]:
    """Make an authority and the certificates of both roles; returns what the server is told, and the facade."""
    authority = Authority()
    server = authority.sign(SERVER_NAMES).write(folder, "server", authority.certificate)
    facade = authority.sign(FACADE_NAMES).write(folder, "facade", authority.certificate)
    return (
        {
            "TOKENDANCE_GATEWAY_SERVER__FACADE_GRPC": address,
            "TOKENDANCE_GATEWAY_SERVER__FACADE_TLS__CERTIFICATE": str(server.certificate),
            "TOKENDANCE_GATEWAY_SERVER__FACADE_TLS__KEY": str(server.key),
            "TOKENDANCE_GATEWAY_SERVER__FACADE_TLS__CLIENT_CA": str(server.authority),
            "TOKENDANCE_GATEWAY_SERVER__FACADE_TLS__IDENTITIES": FACADE_NAME,
        },
        {
            "TOKENDANCE_GATEWAY_FACADE__SERVER_TLS__CERTIFICATE": str(facade.certificate),
            "TOKENDANCE_GATEWAY_FACADE__SERVER_TLS__KEY": str(facade.key),
            "TOKENDANCE_GATEWAY_FACADE__SERVER_TLS__CA": str(facade.authority),
        },
    )


@contextmanager
def running(
    topology: str,
    folder: Path,
    upstream_url: str,
    models: Sequence[str],
    *,
    stop_grace_s: float = 20,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Node]:
    """Run a node with its data below `folder`: `one`, `split` over the socket file, or split over TCP with `tls`.

    `settings` win over the file: names as in the environment without their prefix, such as `FACADE__KEEPALIVE_S`.
    """
    told = {f"TOKENDANCE_GATEWAY_{name}": value for name, value in (settings or {}).items()}
    grace = f"[server]\nstop_grace_s = {stop_grace_s}\n"
    folder.joinpath("facade.toml").write_text(f"{grace}\n[facade]\n{FACADE_SETTINGS}")
    data, key_file = folder / "data", folder / "key"
    http, internal, server_internal, grpc, facade_grpc = free_ports(5)
    serve = ["serve", "--data-dir", str(data), "--config", "gateway.toml", "--grpc", f"127.0.0.1:{grpc}"]
    serve += ["--key-file", str(key_file)]
    facade = ["--http", f"127.0.0.1:{http}", "--internal", f"127.0.0.1:{internal}"]
    secrets = clean_environment(TOKENDANCE_PROVIDER_SIM=PROVIDER_KEY) | told
    processes: list[Process] = []
    with blackhole() as silent_port, stopping(processes):
        folder.joinpath("gateway.toml").write_text(config_text(upstream_url, models, stop_grace_s, silent_port))
        if topology == "one":
            processes.append(start("node", [*serve, *facade], folder, secrets))
            internals = [f"http://127.0.0.1:{internal}"]
            wait_ready(processes[0], internals[0])
        else:
            internals = [f"http://127.0.0.1:{internal}", f"http://127.0.0.1:{server_internal}"]
            role = ["--role", "server", "--internal", f"127.0.0.1:{server_internal}"]
            # A server on its own cannot know who reaches its facade, so its upstream on loopback is opened by hand.
            opened = secrets | {"TOKENDANCE_GATEWAY_SERVER__EGRESS__ALLOW_LOOPBACK": "true"}
            target = f"unix://{data / 'facade.sock'}"
            presented: dict[str, str] = {}
            if topology == "tls":
                target = f"127.0.0.1:{facade_grpc}"
                known, presented = mutual_tls(folder, target)
                opened |= known
            server = start("server", [*serve, *role], folder, opened)
            processes.append(server)
            wait_ready(server, internals[1])
            role = ["serve", "--role", "facade", "--config", "facade.toml", "--server", target]
            # The facade first in the list, so that it is asked first to end.
            processes.insert(0, start("facade", [*role, *facade], folder, clean_environment() | told | presented))
            wait_ready(processes[0], internals[0])
        await_file(key_file)
        yield Node(
            topology=topology,
            origin=f"http://127.0.0.1:{http}",
            grpc=f"127.0.0.1:{grpc}",
            internal=tuple(internals),
            api_key=key_file.read_text().strip(),
            data_dir=data,
            processes=tuple(processes),
        )
