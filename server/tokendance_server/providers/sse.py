"""Server-sent events: bytes as they arrive to whole events, by the WHATWG rules. Does no I/O."""

from __future__ import annotations

import re

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2

SseEvent = tuple[bytes, bytes]
"""(event name, data): the name is empty where the stream gives none."""

DEFAULT_EVENT_BYTES = 8 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseParser:
    """Cuts a stream into events; holds what is not complete yet.

    Lines end with CRLF, LF or CR and with nothing else: U+2028 is a legal character inside JSON. An event or a line
    larger than `event_bytes` raises provider_error. What the end of the body leaves incomplete is discarded.

    One departure from the rules, which would skip it: a field `error` is an event of that name, since some servers
    write their failures so.
    """

    def __init__(self, event_bytes: int = DEFAULT_EVENT_BYTES) -> None:
        self._limit = event_bytes
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""
        self._skip_line_feed = False
        self._at_start = True

    def feed(self, data: bytes) -> list[SseEvent]:
        """Return the events that these bytes complete, in order. Raises provider_error."""
        if self._at_start:
            data = self._without_mark(data)
        if not data:
            return []
        events: list[SseEvent] = []
        if (
            data.endswith(b"\n\n")
            and not self._line
            and not self._data
            and not self._name
            and not self._skip_line_feed
            and b"\r" not in data
        ):
            # Nearly every packet of nearly every server: whole events of one line each, all of them data.
            if data.startswith(b"data: ") and len(data) <= self._limit:
                payloads = data[6:-2].split(b"\n\ndata: ")
                if data.count(b"\n") == 2 * len(payloads):
                    return [(b"", payload) for payload in payloads]
            for block in data[:-2].split(b"\n\n"):
                name, payload = b"", block
                if block.startswith(b"event: "):
                    name, _, payload = block[7:].partition(b"\n")
                if payload.startswith(b"data: ") and b"\n" not in payload and len(block) <= self._limit:
                    events.append((name, payload[6:]))
                else:
                    self._feed_lines(block + b"\n\n", events)
            return events
        self._feed_lines(data, events)
        return events

    def _without_mark(self, data: bytes) -> bytes:
        """Take off a byte order mark, or keep its beginning back until it is known to be one."""
        data = bytes(self._line) + data
        self._line.clear()
        if len(data) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(data):
            self._line += data
            return b""
        self._at_start = False
        return data.removeprefix(_BYTE_ORDER_MARK)

    def _feed_lines(self, data: bytes, events: list[SseEvent]) -> None:
        start = 0
        if self._skip_line_feed:
            start = 1 if data.startswith(b"\n") else 0
            self._skip_line_feed = False
        for end in _LINE_END.finditer(data, start):
            line = data[start : end.start()]
            start = end.end()
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line.clear()
            if line:
                self._take(line)
            else:
                self._dispatch(events)
        self._skip_line_feed = data.endswith(b"\r")
        self._line += data[start:]
        self._check(len(self._line))

    def _take(self, line: bytes) -> None:
        self._check(len(line))
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._keep(value)
        elif name == b"event":
            self._name = value
        elif name == b"error":
            self._name = b"error"
            self._keep(value)

    def _keep(self, value: bytes) -> None:
        self._data.append(value)
        self._data_bytes += len(value) + 1
        self._check(0)

    def _dispatch(self, events: list[SseEvent]) -> None:
        if self._data:
            events.append((self._name, self._data[0] if len(self._data) == 1 else b"\n".join(self._data)))
            self._data = []
            self._data_bytes = 0
        self._name = b""

    def _check(self, line_bytes: int) -> None:
        if self._data_bytes + line_bytes > self._limit:
            raise GatewayError(
                errors_pb2.ERROR_REASON_PROVIDER_ERROR,
                "The provider sent one event larger than the gateway takes; send the request again.",
                origin="provider",
            )
