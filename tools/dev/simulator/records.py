"""What the simulator remembers of each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Record:
    """One request; either its answer was written out (`ended`), or its client left first (`peer_left`).

    `time` is in seconds since the epoch; `body` is cut at the simulator's limit, `body_bytes` is its whole
    length; `bytes_sent` counts what was handed to the socket; `model` is empty for a body without one; `status`
    is 0 if no status line was sent in one piece; `tokens` are those of the prompt and of the whole answer.
    """

    method: str
    path: str
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes
    body_bytes: int
    time: float
    connection: int
    model: str = ""
    tokens: tuple[int, int] | None = None
    status: int = 0
    bytes_sent: int = 0
    ended: bool = False
    peer_left: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name; repeated ones joined by `, `."""
        joined: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined

    def header(self, name: bytes) -> str:
        """The first header of this lower-case name, or an empty text."""
        for raw_name, raw_value in self.raw_headers:
            if raw_name.lower() == name:
                return raw_value.decode("latin-1")
        return ""

    def as_json(self) -> dict[str, Any]:
        """The record for GET /_simulator/log; bytes that are no UTF-8 are replaced."""
        return {
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": self.body.decode("utf-8", "replace"),
            "body_bytes": self.body_bytes,
            "time": self.time,
            "connection": self.connection,
            "model": self.model,
            "tokens": self.tokens,
            "status": self.status,
            "bytes_sent": self.bytes_sent,
            "ended": self.ended,
            "peer_left": self.peer_left,
        }
