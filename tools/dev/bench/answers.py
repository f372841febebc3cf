"""Finds where HTTP/1.1 answers end, as cheaply as a driver can; does no I/O and understands nothing else of them."""

from __future__ import annotations

import re
from typing import Protocol

_OK = b"HTTP/1.1 200"
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

# Each mark has seven bytes, so that six bytes kept from the last packet complete a torn one and hold no whole one.
_EVENT = b"data: {"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_KEPT = 6
_DONE = b"[DONE]"


class UnexpectedAnswerError(RuntimeError):
    """An answer that is no measurement: another status than 200, or a stream that was cut."""


class Reader(Protocol):
    """Reads one answer after the other."""

    events: int

    def feed(self, data: bytes) -> bool:
        """Takes what arrived; True if an answer is complete, after which the next one may come.

        Raises UnexpectedAnswerError.
        """


class Document:
    """Answers that say their length."""

    def __init__(self) -> None:
        self.events = 0
        self._got = b""
        self._size = 0

    def feed(self, data: bytes) -> bool:
        """See Reader."""
        self._got += data
        if not self._size:
            end = self._got.find(_HEAD_END)
            if end < 0:
                return False
            length = _LENGTH.search(self._got, 0, end + 2)
            if length is None or not self._got.startswith(_OK):
                raise UnexpectedAnswerError(f"Not the answer that was hoped for: {self._got[:600]!r}")
            self._size = end + len(_HEAD_END) + int(length[1])
        if len(self._got) < self._size:
            return False
        self._got = b""
        self._size = 0
        return True


class EventStream:
    """Chunked answers of server-sent events that end with [DONE]; `events` counts those with JSON, of all answers."""

    def __init__(self) -> None:
        self.events = 0
        self._got = b""
        self._begun = False
        self._done = False

    def feed(self, data: bytes) -> bool:
        """See Reader."""
        got = self._got + data
        if not self._begun:
            if _HEAD_END not in got:
                self._got = got
                return False
            if not got.startswith(_OK):
                raise UnexpectedAnswerError(f"Not the answer that was hoped for: {got[:600]!r}")
            self._begun = True
        self.events += got.count(_EVENT)
        self._done = self._done or _DONE in got
        self._got = got[-_KEPT:]
        if not got.endswith(_LAST_CHUNK):
            return False
        if not self._done:
            raise UnexpectedAnswerError(f"A stream ended without [DONE]: {got[-600:]!r}")
        self._got = b""
        self._begun = self._done = False
        return True
