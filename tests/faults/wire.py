"""Bytes on a socket: HTTP/1.1 as no client would send it, and what came back."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.nodes import Node

CHAT = "/v1/chat/completions"
GOOD = b'{"model":"sim-echo","messages":[{"role":"user","content":"Hello"}]}'
STREAMED = b'{"model":"%b","stream":true,"messages":[{"role":"user","content":"Hello"}]}'


@dataclass(frozen=True)
class Reply:
    """Everything that came until the connection ended, or nothing more did. `status` 0: no answer at all."""

    status: int
    head: str
    body: bytes
    closed: bool
    took_s: float

    @property
    def error(self) -> Mapping[str, Any]:
        """The error in the body, checked to be in our form."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert error.keys() >= {"message", "type", "param", "code", "request_id", "origin"}
        assert f"x-request-id: {error['request_id']}" in self.head
        assert "server: tokendance gateway" in self.head
        return error


def connect(address: str, *, receive_bytes: int = 0) -> socket.socket:
    """Open a connection to `host:port`, or to an origin, perhaps with a small receive buffer."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    opened = socket.socket()
    if receive_bytes:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    opened.settimeout(10)
    opened.connect((host, int(port)))
    return opened


def head(node: Node, *lines: str, method: str = "POST", path: str = CHAT, host: str = "Host: a") -> bytes:
    """The head of a good request, with more lines. An empty `host` leaves that line out."""
    start = [f"{method} {path} HTTP/1.1", *([host] if host else [])]
    rest = [f"Authorization: Bearer {node.api_key}", "Content-Type: application/json", *lines]
    return "\r\n".join([*start, *rest, "", ""]).encode("latin-1")


def posted(node: Node, body: bytes, *lines: str, path: str = CHAT) -> Reply:
    """Send one request with a body, and return its answer."""
    return exchange(node, [head(node, f"Content-Length: {len(body)}", "Connection: close", *lines, path=path), body])


def exchange(node: Node, pieces: Iterable[bytes], *, within_s: float = 8, gap_s: float = 0) -> Reply:
    """Send pieces for as long as they are taken, then read; the node's own close ends it early."""
    began = time.monotonic()
    with connect(node.origin) as opened:
        try:
            for piece in pieces:
                opened.sendall(piece)
                if gap_s:
                    time.sleep(gap_s)
        except OSError:
            pass  # closed while we send: what was answered before can still be read
        return read(opened, began, within_s)


def read(opened: socket.socket, began: float, within_s: float = 8) -> Reply:
    """Read all that comes within the time."""
    received, closed = b"", False
    until = time.monotonic() + within_s
    while (left := until - time.monotonic()) > 0:
        opened.settimeout(left)
        try:
            data = opened.recv(1 << 20)
        except TimeoutError:
            break
        except OSError:
            closed = True
            break
        if not data:
            closed = True
            break
        received += data
    while received.startswith(b"HTTP/1.1 100"):
        received = received.partition(b"\r\n\r\n")[2]
    top, _, body = received.partition(b"\r\n\r\n")
    status = int(top[9:12]) if top.startswith(b"HTTP/1.") else 0
    return Reply(status, top.decode("latin-1").lower(), body, closed, time.monotonic() - began)
