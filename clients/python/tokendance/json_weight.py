"""How much work a JSON text makes for whoever parses it, told without parsing it.

A parser takes a hundred times longer for a megabyte of names than for a megabyte of text. What is inside texts weighs
nothing, so that a long prompt, a picture in base64 or JSON pasted into a prompt is no heavier than its quotes.
"""

from __future__ import annotations

MAX_WEIGHT = 500_000
"""The most that is parsed: half a million numbers, or 40,000 objects of two short texts each."""

NEVER_HEAVY_BYTES = MAX_WEIGHT // 2
"""No text of so few bytes is heavy."""


class Weight:
    """Adds up pieces of one text: a comma weighs 1, a text 1, a name and a bracket that opens 2."""

    def __init__(self) -> None:
        self.total = 0
        self._inside = False
        self._carried = b""

    def add(self, piece: bytes) -> None:
        """Weigh the next piece, wherever it was cut."""
        # Without its escapes, each quote that is left begins or ends a text. Pairs of backslashes go first.
        bare = (self._carried + piece).replace(b"\\\\", b"").replace(b'\\"', b"")
        self._carried = b"\\" if bare.endswith(b"\\") else b""
        parts = bare.split(b'"')
        self.total += _structure(b"".join(parts[self._inside :: 2])) + (len(parts) - self._inside) // 2
        self._inside ^= len(parts) % 2 == 0


def most(piece: bytes) -> int:
    """Return the most that a piece can weigh: as if all of it stood outside texts, which is told far sooner."""
    return _structure(piece) + piece.count(b'"')


def _structure(text: bytes) -> int:
    return text.count(b",") + 2 * (text.count(b":") + text.count(b"[") + text.count(b"{"))
