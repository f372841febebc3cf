"""One node as a user would start it: the `tokendance serve` command, a configuration file, an empty data directory."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .http_load import HOST
from .processes import Process

READY_TIMEOUT_S = 30
POLL_S = 0.005


@dataclass(frozen=True)
class Node:
    """A node that is ready, with the seconds that it took."""

    process: Process
    port: int
    grpc_port: int
    authorization: str
    ready_s: float

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()


def write_config(folder: Path, upstream: str, models: Sequence[str]) -> None:
    """Writes gateway.toml: models that are called at the upstream as they are here."""
    # Nothing is shed because the machine is busy: what a call costs is measured, and each has to be answered.
    lines = [
        "[server.limits]",
        "loop_lag_s = 60",
        "",
        "[[providers]]",
        'name = "simulator"',
        'kind = "openai"',
        f"base_url = {json.dumps(upstream)}",
        "",
    ]
    for model in models:
        name = json.dumps(model)
        lines += ["[[models]]", f"name = {name}", f'routes = [{{ provider = "simulator", upstream_model = {name} }}]']
    (folder / "gateway.toml").write_text("\n".join(lines) + "\n")


async def start_node(folder: Path, cores: frozenset[int]) -> Node:
    """Starts a node whose gateway.toml and data are in `folder`, and waits until it says that it is ready.

    The first start in a folder makes its key, which later ones use again. Raises RuntimeError.
    """
    http, internal, grpc = _free_ports(3)
    key = folder / "key"
    command = [str(Path(sys.executable).with_name("tokendance")), "serve", "--data-dir", str(folder / "data")]
    command += ["--config", str(folder / "gateway.toml"), "--key-file", str(key)]
    for flag, port in (("--http", http), ("--internal", internal), ("--grpc", grpc)):
        command += [flag, f"{HOST}:{port}"]
    began = time.perf_counter()
    process = Process(command, cores, folder / "node.log")
    try:
        while not await _is_ready(internal):
            if not process.running:
                raise RuntimeError(f"The node ended before it was ready: {process.last_words()}")
            if time.perf_counter() - began > READY_TIMEOUT_S:
                raise RuntimeError(f"The node was not ready after {READY_TIMEOUT_S} s: {process.last_words()}")
            await asyncio.sleep(POLL_S)
        ready_s = time.perf_counter() - began
        return Node(process, http, grpc, f"Bearer {key.read_text().strip()}", ready_s)
    except BaseException:
        process.stop()
        raise


async def _is_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await reader.read()).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
    finally:
        writer.close()


def _free_ports(count: int) -> list[int]:
    """Ports that are free now. Ours to use in a moment: the node prints its ports for people, not for programs."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
