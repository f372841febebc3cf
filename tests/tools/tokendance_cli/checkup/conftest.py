"""A gateway that answers by a script, each of its answers replaceable by what a checkup may meet instead."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tokendance.credentials import base62, checksum
from tokendance_cli.checkup import examine
from tokendance_cli.checkup.finding import Finding, Spent, Subject

BODY = "tdk_" + base62(0x8F3A5C1D0E7B294610FEDCBA98765432123456789ABCDEF00F1E2D3C4B5A6978, 43)
KEY = BODY + checksum(BODY)
REQUEST_ID = "req_01m88bd9qae1yrjpmdgxehj3cz"
MODELS = [
    {"id": "fast", "aliases": ["quick"], "capabilities": ["completions", "tools"]},
    {"id": "vectors", "aliases": [], "capabilities": ["embeddings"]},
]
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


@dataclass(frozen=True)
class Scripted:
    """One answer: its body in pieces, with pauses in seconds between them. None for a header leaves it out."""

    pieces: tuple[bytes | float, ...]
    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)


def answer(document: Any, status: int = 200, **headers: str | None) -> Scripted:
    """An answer of the gateway."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    base = {"content-type": "application/json", "x-request-id": REQUEST_ID}
    return Scripted((json.dumps(document).encode(),), status, {**base, **given})


def refused(code: str, status: int, message: str = "No.") -> Scripted:
    """A refusal of the gateway."""
    return answer({"error": {"message": message, "code": code}}, status, x_tokendance_error_code=code)


def page(status: int, **headers: str) -> Scripted:
    """What something else on the way answers."""
    return Scripted((b"<html>page-of-others</html>",), status, {"content-type": "text/html", **headers})


def events(*pieces: Any, done: bool = True) -> Scripted:
    """A stream; numbers are pauses."""
    sent = tuple(one if isinstance(one, float) else f"data: {json.dumps(one)}\n\n".encode() for one in pieces)
    end = (b"data: [DONE]\n\n",) if done else ()
    return Scripted((*sent, *end), 200, {"content-type": "text/event-stream", "x-request-id": REQUEST_ID})


class ScriptedGateway:
    """Answers by `script`, whose names are `open` (without a key), `models`, `completion` and `stream`.

    `elsewhere` answers every path that is none of `/v1`; `asked` keeps path and credential of each request.
    """

    def __init__(self) -> None:
        self.script = {
            "open": refused("missing_api_key", 401),
            "models": answer({"object": "list", "data": MODELS}),
            "completion": answer({"choices": [{"message": {"content": "OK"}}], "usage": USAGE}),
            "stream": events({"choices": [{}]}, 0.02, {"choices": [{}]}, {"choices": [], "usage": USAGE}),
            "elsewhere": refused("not_found", 404),
        }
        self.asked: list[tuple[str, str | None]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def keys_seen(self) -> list[str]:
        """The credentials that were sent here."""
        return [key for _, key in self.asked if key is not None]

    def examine(self, **changes: Any) -> dict[str, Finding]:
        """Findings of a checkup of this gateway, by check."""
        skip = changes.pop("skip_completion", False)
        spent = changes.pop("spent", None) or Spent()
        subject = Subject(**{"base_url": self.url, "credential": KEY, "source": "TOKENDANCE_API_KEY", **changes})
        return {one.check: one for one in examine(subject, spent, skip_completion=skip)}

    def _choose(self, path: str, key: str | None, body: Any) -> Scripted:
        if path == "/livez" and "livez" in self.script:
            return self.script["livez"]
        if path not in ("/v1/models", "/v1/chat/completions"):
            return self.script["elsewhere"]
        if key is None:
            return self.script["open"]
        if path == "/v1/models":
            return self.script["models"]
        return self.script["stream" if body.get("stream") else "completion"]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                key = self.headers.get("authorization")
                gateway.asked.append((self.path, key))
                chosen = gateway._choose(self.path, key, json.loads(body) if body else None)
                self.send_response_only(chosen.status)
                headers = {"date": formatdate(time.time(), usegmt=True), **chosen.headers}
                for name, value in headers.items():
                    if value is not None:
                        self.send_header(name, value)
                self.end_headers()
                for piece in chosen.pieces:
                    if isinstance(piece, float):
                        time.sleep(piece)
                    else:
                        self.wfile.write(piece)
                        self.wfile.flush()

            do_POST = do_GET  # noqa: N815 - http.server's own name

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own proxies are no part of a test."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def scripted() -> Iterator[ScriptedGateway]:
    """A gateway that serves all that a checkup asks for."""
    made = ScriptedGateway()
    yield made
    made.close()
