"""A client that speaks HTTP/2 by the letter, and may do with it what no client would."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import h2.settings
from tests.e2e.nodes import Node
from tests.faults.wire import connect

STREAM = "/tokendance.gateway.v1.CompletionsService/StreamCompletion"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame, whatever its kind allows."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Attacker:
    """One connection. `window` is the first window of each stream; None leaves the default.

    `status` holds the gRPC status by stream where one came, `received` the bytes of messages; `gone` is the error code
    of a GOAWAY, and `closed` tells that the connection ended.
    """

    def __init__(self, address: str, *, window: int | None = None) -> None:
        self.socket = connect(address)
        # Nothing that we send is checked, so that what is wrong can be sent.
        config = h2.config.H2Configuration(client_side=True, validate_outbound_headers=False)
        self.http2 = h2.connection.H2Connection(config)
        self.http2.initiate_connection()
        if window is not None:
            self.http2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.status: dict[int, str] = {}
        self.reset: dict[int, int] = {}
        self.received: dict[int, int] = {}
        self.refill = window is None
        self.gone: int | None = None
        self.closed = False
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def call(
        self,
        node: Node,
        message: bytes,
        *,
        path: str = STREAM,
        headers: Sequence[tuple[str, str]] = (),
        flag: int = 0,
        length: int | None = None,
        end: bool = True,
    ) -> int:
        """Begin an RPC with one message; returns its stream."""
        stream: int = self.http2.get_next_available_stream_id()
        self.http2.send_headers(
            stream,
            [
                (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a"),
                ("content-type", "application/grpc"), ("te", "trailers"),
                ("authorization", f"Bearer {node.api_key}"), *headers,
            ],
        )  # fmt: skip
        framed = struct.pack(">BI", flag, len(message) if length is None else length) + message
        self.http2.send_data(stream, framed, end_stream=end)
        self.flush()
        return stream

    def flush(self) -> None:
        """Send what is due; an attack goes on when the node has had enough of it."""
        data = self.http2.data_to_send()
        try:
            if data:
                self.socket.sendall(data)
        except OSError:
            self.closed = True

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def read(self, within_s: float = 0.05) -> None:
        """Take in what comes within the time, at least once."""
        self.socket.settimeout(max(within_s, 0.001))
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            return
        except OSError:
            self.closed = True
            return
        if not data:
            self.closed = True
            return
        for event in self.http2.receive_data(data):
            self._take(event)
        self.flush()

    def until(self, condition: Callable[[], bool], within_s: float = 8) -> None:
        """Read until something holds; raises AssertionError where it does not come to be."""
        end = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            if self.closed:
                time.sleep(0.02)
            else:
                self.read()

    def status_of(self, stream: int, within_s: float = 8) -> str:
        """The gRPC status with which a call ended, `reset` where it was reset, `closed` where the connection ended."""
        self.until(lambda: stream in self.status or stream in self.reset or self.closed, within_s)
        return self.status.get(stream, "reset" if stream in self.reset else "closed")

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived):
            for name, value in event.headers or ():
                if bytes(name) == b"grpc-status":
                    self.status[event.stream_id or 0] = bytes(value).decode()
        elif isinstance(event, h2.events.DataReceived):
            stream = event.stream_id or 0
            self.received[stream] = self.received.get(stream, 0) + len(event.data or b"")
            if self.refill:
                self.http2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        elif isinstance(event, h2.events.StreamReset):
            self.reset[event.stream_id or 0] = int(event.error_code or 0)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.gone = int(event.error_code or 0)
