"""How the calls of one model ended for their callers lately, in half minutes."""

from __future__ import annotations

import math

from tokendance_server.domain.routing.health import ModelHealth

_PIECE_S = 30
_PIECES = 10
_LEAST_ANSWERS = 5
# Boundaries a fifth apart, from 1 ms to about 15 minutes.
_STEP = math.log(1.2)
_BUCKETS = 76


class Traffic:
    """The last five minutes of one model."""

    __slots__ = ("_calls", "_degraded", "_failed", "_first_bytes", "_piece")

    def __init__(self) -> None:
        self._piece = 0
        self._calls = [0] * _PIECES
        self._failed = [0] * _PIECES
        self._degraded = [0] * _PIECES
        self._first_bytes: list[dict[int, int]] = [{} for _ in range(_PIECES)]

    def answered(self, first_byte_s: float, now: float, *, degraded: bool) -> None:
        """Take a call that was answered; its first byte came after so many seconds."""
        place = self._place(now)
        self._calls[place] += 1
        if degraded:
            self._degraded[place] += 1
        bucket = min(int(math.log(max(first_byte_s, 0.001) * 1000.0) / _STEP), _BUCKETS)
        counted = self._first_bytes[place]
        counted[bucket] = counted.get(bucket, 0) + 1

    def failed(self, now: float) -> None:
        """Take a call that failed by no fault of its caller."""
        place = self._place(now)
        self._calls[place] += 1
        self._failed[place] += 1

    def broke_off(self, now: float) -> None:
        """Take that a stream which counts as answered broke off midway."""
        self._failed[self._place(now)] += 1

    def health(self, model: str, now: float) -> ModelHealth:
        """Return what the status of the model is made of."""
        self._place(now)
        calls = sum(self._calls)
        return ModelHealth(model, calls, min(sum(self._failed), calls), sum(self._degraded), self._median())

    def _median(self) -> float | None:
        together: dict[int, int] = {}
        for counted in self._first_bytes:
            for bucket, count in counted.items():
                together[bucket] = together.get(bucket, 0) + count
        total = sum(together.values())
        if total < _LEAST_ANSWERS:
            return None
        seen = 0
        for bucket in sorted(together):
            seen += together[bucket]
            if seen * 2 >= total:
                break
        return math.exp((bucket + 0.5) * _STEP) / 1000.0

    def _place(self, now: float) -> int:
        piece = int(now) // _PIECE_S
        if piece != self._piece:
            for passed in range(max(self._piece + 1, piece - _PIECES + 1), piece + 1):
                place = passed % _PIECES
                self._calls[place] = self._failed[place] = self._degraded[place] = 0
                self._first_bytes[place] = {}
            self._piece = piece
        return piece % _PIECES
