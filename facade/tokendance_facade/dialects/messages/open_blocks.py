"""Content blocks of one streamed answer: strictly one after the other, whatever the order in which their pieces come.

One block is open at a time and its pieces go out at once. Pieces of a later one wait until the open one is complete: a
call is where it says so or its arguments are whole JSON, anything else as soon as something follows it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

import orjson

from tokendance_facade.dialects.documents import Document

_dumps = orjson.dumps


def event(name: str, fields: Document) -> bytes:
    """Return one event, its name in both places."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _dumps({"type": name, **fields}))


class Block:
    """One block. `patient` ones are complete only once `complete` is set, or their arguments are whole JSON."""

    __slots__ = ("arguments", "complete", "key", "patient", "start", "waiting")

    def __init__(self, key: Hashable, start: Document, *, patient: bool = False) -> None:
        self.key = key
        self.start = start
        self.patient = patient
        self.complete = False
        self.arguments: list[str] = []
        self.waiting: list[Document] = []


class OpenBlocks:
    """Writes the blocks of one answer, numbered in the order of their beginning."""

    def __init__(self) -> None:
        self._queue: deque[Block] = deque()
        self._by_key: dict[Hashable, Block] = {}
        self._index = -1
        self._opened = False
        self._latest: Block | None = None

    @property
    def index(self) -> int:
        """The number of the block that is open, or was last."""
        return self._index

    def is_open(self, key: Hashable) -> bool:
        """Tell whether this is the block whose pieces go out at once."""
        return self._opened and bool(self._queue) and self._queue[0].key == key

    def find(self, key: Hashable, *, latest: bool = False) -> Block | None:
        """Return the block of a key, with `latest` only where none began after it; None where it ended or never was."""
        block = self._by_key.get(key)
        return block if not latest or block is self._latest else None

    def begin(self, block: Block, out: list[bytes]) -> Block:
        """Add a block behind all others."""
        self._queue.append(block)
        self._by_key[block.key] = block
        self._latest = block
        self._advance(out)
        if self._queue[0] is block:
            self._open(out)
        return block

    def add(self, block: Block, delta: Document, out: list[bytes]) -> None:
        """Add a piece to a block."""
        if self._queue and self._queue[0] is block:
            self._open(out)
            out.append(self._delta(delta))
            if len(self._queue) > 1:
                self._advance(out)
        else:
            block.waiting.append(delta)

    def finish(self, block: Block, out: list[bytes]) -> None:
        """Note that a block is complete, and end it where it is its turn."""
        block.complete = True
        if self._queue and self._queue[0] is block:
            self._close(out)
            self._advance(out)

    def finish_all(self, out: list[bytes]) -> None:
        """End every block, in order."""
        while self._queue:
            self._close(out)

    def _advance(self, out: list[bytes]) -> None:
        """End what is complete, and let the next block say what waits."""
        while self._queue:
            front = self._queue[0]
            if not front.complete and (len(self._queue) == 1 or (front.patient and not _is_whole(front.arguments))):
                if front.waiting:
                    self._say_waiting(front, out)
                return
            self._close(out)
            if self._queue:
                self._say_waiting(self._queue[0], out)

    def _say_waiting(self, block: Block, out: list[bytes]) -> None:
        self._open(out)
        out.extend(self._delta(delta) for delta in block.waiting)
        block.waiting.clear()

    def _open(self, out: list[bytes]) -> None:
        if not self._opened:
            self._opened = True
            self._index += 1
            out.append(event("content_block_start", {"index": self._index, "content_block": self._queue[0].start}))

    def _close(self, out: list[bytes]) -> None:
        self._open(out)
        block = self._queue[0]
        out.extend(self._delta(delta) for delta in block.waiting)
        out.append(event("content_block_stop", {"index": self._index}))
        self._opened = False
        self._queue.popleft()
        if self._by_key.get(block.key) is block:
            del self._by_key[block.key]

    def _delta(self, delta: Document) -> bytes:
        return event("content_block_delta", {"index": self._index, "delta": delta})


def _is_whole(arguments: list[str]) -> bool:
    text = "".join(arguments)
    if not text.rstrip().endswith("}"):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
