"""What a node has seen of one upstream model behind one provider: how it fares, how fast it is, how much runs there."""

from __future__ import annotations

import math

from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.routing.circuit import Circuit, CircuitRules

_PIECE_S = 10
_PIECES = 6
_SMOOTHED_OVER_S = 10.0
_BELIEVED_FOR_S = 30.0


class Track:
    """One upstream model behind one provider. Times are monotonic seconds; `running` counts calls under way.

    `ended` counts how attempts ended since the node started, by their error's reason, 0 for those that did not fail.
    """

    __slots__ = (
        "_calls",
        "_failures",
        "_heard",
        "_latency",
        "_piece",
        "circuit",
        "ended",
        "key",
        "last_error",
        "last_failure",
        "last_success",
        "running",
    )

    def __init__(self, key: tuple[str, str], rules: CircuitRules, now: float) -> None:
        self.key = key
        self.circuit = Circuit(rules, now)
        self.running = 0
        self.ended: dict[int, int] = {0: 0}
        self.last_error: ErrorReason.ValueType = errors_pb2.ERROR_REASON_UNSPECIFIED
        self.last_success: float | None = None
        self.last_failure: float | None = None
        self._piece = 0
        self._calls = [0] * _PIECES
        self._failures = [0] * _PIECES
        # Answers in one message take far longer than the first event of a stream: two averages, and two times.
        self._latency: list[float | None] = [None, None]
        self._heard = [now, now]

    def succeed(self, generation: int, waited_s: float, now: float, *, streamed: bool) -> None:
        """Take an attempt that was answered after `waited_s`, of a stream with its first event."""
        self.circuit.succeed(generation, now)
        self.last_success = now
        self.ended[0] += 1
        piece = int(now) // _PIECE_S
        if piece != self._piece:
            self._turn(piece)
        self._calls[piece % _PIECES] += 1
        kind = 1 if streamed else 0
        before = self._latency[kind]
        if before is None:
            self._latency[kind] = waited_s
        else:
            kept = math.exp((self._heard[kind] - now) / _SMOOTHED_OVER_S)
            # At least a twentieth counts, so that a busy route's average moves, too.
            self._latency[kind] = before + (waited_s - before) * max(1.0 - kept, 0.05)
        self._heard[kind] = now

    def fail(self, generation: int, reason: ErrorReason.ValueType, now: float, asked_s: float | None = None) -> bool:
        """Take an attempt that failed by the upstream's fault; returns whether that opened the circuit."""
        self.count(reason, now)
        return self.circuit.fail(generation, now, asked_s)

    def count(self, reason: ErrorReason.ValueType, now: float, *, failed: bool = True) -> None:
        """Count an attempt that ended with an error, which is the upstream's failure or the answer of a healthy one."""
        self.ended[reason] = self.ended.get(reason, 0) + 1
        piece = int(now) // _PIECE_S
        if piece != self._piece:
            self._turn(piece)
        self._calls[piece % _PIECES] += 1
        if failed:
            self._failures[piece % _PIECES] += 1
            self.last_failure, self.last_error = now, reason
        else:
            self.last_success = now

    def latency(self, now: float, *, streamed: bool) -> float | None:
        """Return the decaying mean in seconds, or None before the first; what is old fades, so that it is tried again.

        That of streams is the time to their first event.
        """
        kind = 1 if streamed else 0
        mean = self._latency[kind]
        return None if mean is None else mean * math.exp((self._heard[kind] - now) / _BELIEVED_FOR_S)

    def mean_first_byte(self) -> float | None:
        """Return the mean time to the first byte in seconds, as it was when it was heard last."""
        return self._latency[1] if self._latency[1] is not None else self._latency[0]

    def recent(self, now: float) -> tuple[int, int]:
        """Return the attempts of the last minute, to ten seconds, and how many of them failed."""
        piece = int(now) // _PIECE_S
        if piece != self._piece:
            self._turn(piece)
        return sum(self._calls), sum(self._failures)

    def _turn(self, piece: int) -> None:
        for passed in range(max(self._piece + 1, piece - _PIECES + 1), piece + 1):
            self._calls[passed % _PIECES] = self._failures[passed % _PIECES] = 0
        self._piece = piece
