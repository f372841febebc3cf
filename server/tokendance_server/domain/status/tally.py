"""How requests ended, counted for each model: a few additions for each, and sums that nodes exchange as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokendance.gateway.v1 import errors_pb2 as reasons
from tokendance.gateway.v1 import usage_pb2
from tokendance_server.domain.usage.entries import FinishedEntry

FAULTS = frozenset(
    {
        reasons.ERROR_REASON_PROVIDER_UNAVAILABLE,
        reasons.ERROR_REASON_PROVIDER_TIMEOUT,
        reasons.ERROR_REASON_PROVIDER_RATE_LIMITED,
        reasons.ERROR_REASON_PROVIDER_ERROR,
        reasons.ERROR_REASON_STREAM_INTERRUPTED,
        reasons.ERROR_REASON_QUOTA_STORE_UNAVAILABLE,
        reasons.ERROR_REASON_INTERNAL_ERROR,
        reasons.ERROR_REASON_GATEWAY_MISCONFIGURED,
    }
)
"""The errors that are no caller's doing. What is not here counts for nothing: no caller can make a model look bad."""

# Four steps to each doubling: a median of them is right to a tenth.
_STEPS = 4


class Counts:
    """How requests ended: answered at once, answered with help (by a retry or another model), or failed.

    `latencies` counts the times to the first byte of streams by their step.
    """

    __slots__ = ("answered", "failed", "helped", "latencies")

    def __init__(
        self, answered: int = 0, helped: int = 0, failed: int = 0, latencies: Mapping[int, int] | None = None
    ) -> None:
        self.answered = answered
        self.helped = helped
        self.failed = failed
        self.latencies: dict[int, int] = dict(latencies or {})

    @property
    def total(self) -> int:
        """All of them."""
        return self.answered + self.helped + self.failed

    def add(self, other: Counts) -> None:
        """Add those of another."""
        self.answered += other.answered
        self.helped += other.helped
        self.failed += other.failed
        for step, count in other.latencies.items():
            self.latencies[step] = self.latencies.get(step, 0) + count

    def document(self) -> list[Any]:
        """Return them as JSON."""
        return [self.answered, self.helped, self.failed, {str(step): n for step, n in sorted(self.latencies.items())}]

    def median_s(self) -> float | None:
        """Return the median time to the first byte, in seconds; None without any."""
        count = sum(self.latencies.values())
        below = 0
        for step, here in sorted(self.latencies.items()):
            below += here
            if 2 * below >= count:
                return (_lower_us(step) + _lower_us(step + 1)) / 2e6
        return None


def read_counts(document: list[Any]) -> Counts:
    """Return the counts of a JSON document."""
    answered, helped, failed, latencies = document[:4]
    return Counts(answered, helped, failed, {int(step): count for step, count in latencies.items()})


class Tally:
    """Counts the requests that end on this node. `find` returns the id of the model of a name, or None."""

    def __init__(self, find: Callable[[str], str | None]) -> None:
        self._find = find
        self._counts: dict[str, Counts] = {}

    def ended(self, entry: FinishedEntry) -> None:
        """Count one request, for the model that it asked for first."""
        if entry.attempts:
            first = entry.attempts[0]
            # What services call by other ways says nothing of our routes.
            if not first.provider:
                return
            model = first.model
        elif entry.reason in FAULTS:
            model = self._find(entry.request.requested_model) or ""
        else:
            return
        succeeded = entry.outcome == usage_pb2.REQUEST_OUTCOME_SUCCEEDED
        if not model or not (succeeded or entry.reason in FAULTS):
            return
        counts = self._counts.get(model)
        if counts is None:
            counts = self._counts[model] = Counts()
        if not succeeded:
            counts.failed += 1
            return
        if len(entry.attempts) > 1:
            counts.helped += 1
        else:
            counts.answered += 1
        if entry.first_byte_us is not None and entry.request.streamed:
            step = _step(entry.first_byte_us)
            counts.latencies[step] = counts.latencies.get(step, 0) + 1

    def take(self) -> dict[str, Counts]:
        """Return what was counted since it was taken last."""
        taken, self._counts = self._counts, {}
        return taken


def _step(microseconds: int) -> int:
    """Return the step of a time: the power of two below it, and which quarter of the way to the next."""
    power = microseconds.bit_length()
    return power * _STEPS + ((microseconds >> (power - 3)) & 3) if power > 2 else 0


def _lower_us(step: int) -> int:
    power, quarter = divmod(step, _STEPS)
    return 0 if power < 3 else (4 + quarter) << (power - 3)
