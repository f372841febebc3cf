"""The command as a process of its own, and a small gateway for it to call."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def command_environment(**variables: str) -> dict[str, str]:
    """Returns an environment without what the developer's own shell says of gateways."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOKENDANCE_")}
    return {**kept, "COLUMNS": "100", "NO_COLOR": "1", **variables}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `tokendance` with arguments, standard input and variables; returns what came of it."""

    def call(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tokendance_cli", *arguments],
            input=stdin,
            env=command_environment(**variables),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


@dataclass
class Reply:
    """What the small gateway answers."""

    body: bytes = b"{}"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def json_reply(document: object, status: int = 200, **headers: str) -> Reply:
    """Returns a JSON answer with a request id."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(
        json.dumps(document).encode(),
        status,
        {"Content-Type": "application/json", "x-request-id": "req_1", **given},
    )


def sse_reply(*data: object, done: bool = True) -> Reply:
    """Returns a stream of server-sent events with keep-alive comments in between."""
    frames = [f"data: {json.dumps(one)}\n\n: alive\n\n" for one in data]
    if done:
        frames.append("data: [DONE]\n\n")
    headers = {"Content-Type": "text/event-stream; charset=utf-8", "x-request-id": "req_1"}
    return Reply("".join(frames).encode(), 200, headers)


class SmallGateway:
    """Answers whatever was last put into `reply` and keeps what it was asked."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("content-length", 0))
                body = self.rfile.read(size)
                headers = {name.lower(): value for name, value in self.headers.items()}
                gateway.asked.append((self.command, self.path, headers, json.loads(body) if body else None))
                self.send_response(gateway.reply.status)
                for name, value in gateway.reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(gateway.reply.body)

            do_POST = do_GET  # noqa: N815 - http.server's own name

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler


@pytest.fixture
def gateway() -> Iterator[SmallGateway]:
    """A gateway on loopback."""
    made = SmallGateway()
    yield made
    made.close()


@pytest.fixture
def as_holder(run: Run, gateway: SmallGateway) -> Run:
    """Runs `tokendance` as the holder of a key of the small gateway."""

    def call(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        given = {"TOKENDANCE_BASE_URL": gateway.url, "TOKENDANCE_API_KEY": "tdk_made-up", **variables}
        return run(*arguments, stdin=stdin, **given)

    return call
