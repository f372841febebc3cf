"""How much work a JSON text makes for whoever parses it, told without parsing it.

A parser takes a hundred times longer for a megabyte of names than for a megabyte of text. What is inside texts weighs
nothing, so that a long prompt, a picture in base64 or JSON pasted into a prompt is no heavier than its quotes.
"""

from __future__ import annotations

import asyncio

MAX_WEIGHT = 500_000
"""The most that is parsed: half a million numbers, or 40,000 messages of one short text each."""

NEVER_HEAVY_BYTES = MAX_WEIGHT // 2
"""No text of so few bytes is heavy."""

# Of one piece, so that nobody else waits for longer than a few milliseconds while it is weighed.
_PIECE_BYTES = 64 * 1024


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


async def is_heavy(body: bytes) -> bool:
    """Tell whether a text weighs more than MAX_WEIGHT; others run in between."""
    # As if all of it stood outside texts, which is told in a fraction of the time, and is enough for most.
    most = 0
    for start in range(0, len(body), _PIECE_BYTES):
        piece = body[start : start + _PIECE_BYTES]
        most += _structure(piece) + piece.count(b'"')
        if most > MAX_WEIGHT:
            break
        await asyncio.sleep(0)
    else:
        return False
    weight = Weight()
    for start in range(0, len(body), _PIECE_BYTES):
        weight.add(body[start : start + _PIECE_BYTES])
        if weight.total > MAX_WEIGHT:
            return True
        await asyncio.sleep(0)
    return False


def _structure(text: bytes) -> int:
    return text.count(b",") + 2 * (text.count(b":") + text.count(b"[") + text.count(b"{"))
