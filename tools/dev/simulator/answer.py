"""The answer of a dialect before it is sent, and the bytes of HTTP/1.1 around it; does no I/O."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus

from .plan import Plan

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
LAST_CHUNK = b"0\r\n\r\n"

# What real upstreams add and a gateway must not hand on: tests look for these values in its answers.
UPSTREAM_HEADERS = (
    b"x-request-id: req_upstream_canary\r\n"
    b"openai-organization: upstream-org-canary\r\n"
    b"openai-model: upstream-model-canary\r\n"
    b"x-codex-primary-used-percent: 99-canary\r\n"
    b"server: upstream-server-canary\r\n"
)

# An answer up to this size goes out in one write without a task; more would defeat the write buffer's limit.
IMMEDIATE_BYTES = 256 * 1024


class Finish(enum.Enum):
    """How a script leaves the connection."""

    KEEP = enum.auto()  # kept alive, if the client wishes
    TRAP = enum.auto()  # kept alive, but closed without a byte when the next request arrives
    CLOSE = enum.auto()  # FIN
    RESET = enum.auto()  # RST
    STALL = enum.auto()  # open and silent until the client leaves


Step = bytes | float | Finish
"""One step of a script: bytes to write, seconds to wait since the last wait was due, or how to finish."""

Script = Iterator[Step]
"""What to do for one request; ends with a Finish, or with KEEP if it just ends."""

ErrorBody = Callable[[int, str, str, str], tuple[str, bytes]]
"""(status, reason or "auto", message, envelope form) -> (content type, body) of a dialect's error."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A whole answer of a dialect, as a document and as an event stream, so that a fault may mix them up.

    `stream` tells which of the two was asked for; each is rendered when first needed. `plan` is None for
    answers without a model (errors, lists); `tokens` are those of the prompt and of the answer, where they are counted.
    An Answer never changes and may be sent many times.
    """

    plan: Plan | None
    stream: bool
    render_body: Callable[[], bytes]
    render_events: Callable[[], tuple[bytes, ...]]
    error_body: ErrorBody
    status: int = 200
    tokens: tuple[int, int] | None = None

    @cached_property
    def body(self) -> bytes:
        """The JSON document."""
        return self.render_body()

    @cached_property
    def events(self) -> tuple[bytes, ...]:
        """The framed SSE events in order, the last one being [DONE]."""
        return self.render_events()

    @cached_property
    def pieces(self) -> tuple[bytes, ...]:
        """The events, or the JSON document in eight pieces: what `n` counts in `cut:n=3`."""
        if self.stream:
            return self.events
        size = max(1, -(-len(self.body) // 8))
        return tuple(self.body[at : at + size] for at in range(0, len(self.body), size))

    @cached_property
    def chunked(self) -> bool:
        """Whether the well-behaved form is chunked: streams, and documents whose parts take time."""
        plan = self.plan
        return self.stream or (plan is not None and (plan.fault == "slow-tokens" or plan.number("first") > 0))

    @cached_property
    def head(self) -> bytes:
        """The head that belongs to the chunked form of `pieces`."""
        return head(self.status, SSE if self.stream else JSON, None)

    @cached_property
    def wire(self) -> bytes:
        """The whole response as it crosses the wire when nothing goes wrong."""
        if not self.stream:
            return head(self.status, JSON, len(self.body)) + self.body
        return self.head + b"".join(map(chunk, self.events)) + LAST_CHUNK

    @cached_property
    def immediate(self) -> bytes | None:
        """`wire` if it can be written at once; None with a fault, a pace or a delay, or if it is too big."""
        plan = self.plan
        if plan is not None:
            scripted = plan.fault or plan.number("rate") or plan.number("delay") or plan.number("first")
            if scripted or len(self.wire) > IMMEDIATE_BYTES:
                return None
        return self.wire


def head(status: int, content_type: str, length: int | None, extra: bytes = b"") -> bytes:
    """Status line and headers; chunked if `length` is None; `extra` is whole header lines, each with CRLF."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\n{framing}\r\n".encode()
    return lines + UPSTREAM_HEADERS + extra + b"\r\n"


def chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body; nothing for no data, as an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def whole(status: int, content_type: str, body: bytes, extra: bytes = b"") -> bytes:
    """A complete response with a content-length."""
    return head(status, content_type, len(body), extra) + body
