"""Webhooks of a node as it runs: set up by its commands, told by a limit that is used up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.nodes import Node, running
from tests.e2e.operator_cli import create_key, documents, tokendance
from tests.e2e.upstream import Upstream, until

Call = tuple[dict[str, str], bytes]


@contextmanager
def receiving() -> Iterator[tuple[str, list[Call]]]:
    """Run a receiver on loopback; gives its URL and what it was sent."""
    calls: list[Call] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", calls
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def house(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of these tests alone."""
    with running("one", tmp_path_factory.mktemp("webhooks"), upstream.base_url, ["sim"]) as node:
        yield node


def command(folder: Path, *words: str) -> Any:
    """What a command printed as JSON."""
    done = tokendance("--data-dir", str(folder), "--format", "json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_a_limit_that_is_used_up_is_told_twice(house: Node) -> None:
    """At 80 and at 100 percent, signed with the secrets that the commands showed, and no third time."""
    key, secret = create_key(house.data_dir, "Told")
    name = str(key["name"])
    tokendance(
        "--data-dir",
        str(house.data_dir),
        "quota",
        "set",
        name,
        "--metric",
        "requests",
        "--window",
        "month",
        "--limit",
        "5",
    )
    with receiving() as (url, calls):
        made = command(house.data_dir, "webhooks", "create", "--display-name", "Pager", "--url", url)
        changed = command(house.data_dir, "webhooks", "rotate", made["name"])
        assert made["secret"] != changed["secret"]
        client = openai.OpenAI(api_key=secret, base_url=house.base_url, max_retries=0)
        for _ in range(5):
            client.chat.completions.create(model="demo-echo", messages=[{"role": "user", "content": "Hi"}])
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="demo-echo", messages=[{"role": "user", "content": "Hi"}])
        until(lambda: len(calls) >= 2)
        told = sorted((json.loads(body) for _, body in calls), key=lambda one: int(one["percent"]))
        assert [(one["percent"], one["spent"], one["limit"], one["subject"]) for one in told] == [
            (80, 4, 5, name),
            (100, 5, 5, name),
        ]
        for headers, body in calls:
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            for one in (made["secret"], changed["secret"]):
                mac = hmac.new(base64.b64decode(one.removeprefix("whsec_")), signed, hashlib.sha256).digest()
                assert f"v1,{base64.b64encode(mac).decode()}" in headers["webhook-signature"].split()
        (listed,) = documents(house.data_dir, "webhooks", "list")
        assert "secret" not in listed
        assert listed["last_success_time"]
        off = command(house.data_dir, "webhooks", "update", made["name"], "--disable", "--percent", "50")
        assert (off["disabled"], off["threshold_percents"]) == (True, [50])
        assert tokendance("--data-dir", str(house.data_dir), "webhooks", "update", made["name"]).returncode == 2
        command(house.data_dir, "webhooks", "delete", made["name"], "--yes")
        assert documents(house.data_dir, "webhooks", "list") == []
        assert len(calls) == 2
