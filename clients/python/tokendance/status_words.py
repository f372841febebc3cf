"""The words for how well something works, each with its threshold and what a caller should do: the one table of them.

The server computes states by these figures; pages, commands and documentation show these sentences.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

WINDOW_S = 300
"""The state of now is that of the requests of the last five minutes."""
LEAST_REQUESTS = 5
"""Fewer requests say nothing: then a model counts as operational."""
LEAST_TROUBLED = 3
"""So many requests must have failed, or been answered by a retry, before any share of them counts."""
FAILED_DEGRADED_PERMILLE = 10
"""From so many failed requests in a thousand on, a model is degraded."""
FAILED_PARTIAL_PERMILLE = 50
"""From so many on, it is partly out."""
FAILED_MAJOR_PERMILLE = 500
"""From so many on, it is out."""
HELPED_DEGRADED_PERMILLE = 100
"""From so many requests in a thousand on that were answered by a retry or another model, it is degraded."""
SLOW_FACTOR = 3
"""A median time to the first byte of so many times the usual one is slow."""
SLOW_LEAST_S = 1.0
"""What begins sooner than after so many seconds is never slow."""
USUAL_DAYS = 7
"""The usual time is the median of so many days before today."""


class State(StrEnum):
    """How well something works."""

    OPERATIONAL = "operational"
    MAINTENANCE = "maintenance"
    DEGRADED = "degraded"
    PARTIAL_OUTAGE = "partial_outage"
    MAJOR_OUTAGE = "major_outage"

    @property
    def severity(self) -> int:
        """How bad it is, from 0 on: what is worse is greater."""
        return _ORDER.index(self)


_ORDER = tuple(State)


class StatusWord(NamedTuple):
    """A word with what it means, when it holds, and what a caller should do. Each is whole sentences."""

    state: State
    meaning: str
    threshold: str
    advice: str


WORDS = (
    StatusWord(
        State.OPERATIONAL,
        "It works.",
        "None of the thresholds below is reached, or there are too few requests to tell: fewer than "
        f"{LEAST_REQUESTS} in {WINDOW_S // 60} minutes.",
        "Nothing.",
    ),
    StatusWord(
        State.DEGRADED,
        "It works slower, or with retries and fallbacks that callers can see.",
        f"Of the requests of the last {WINDOW_S // 60} minutes, {FAILED_DEGRADED_PERMILLE / 10:g} % or more failed, or "
        f"{HELPED_DEGRADED_PERMILLE / 10:g} % or more were answered by a retry or by another model (and at least "
        f"{LEAST_TROUBLED} of them); or the median time to the first byte is {SLOW_LEAST_S:g} s or more and at least "
        f"{SLOW_FACTOR} times that of the {USUAL_DAYS} days before.",
        "Go on; allow more time, and keep retries as they are.",
    ),
    StatusWord(
        State.PARTIAL_OUTAGE,
        "Some requests fail.",
        f"{FAILED_PARTIAL_PERMILLE / 10:g} % or more of the requests of the last {WINDOW_S // 60} minutes failed, and "
        f"at least {LEAST_TROUBLED}.",
        "Repeat what failed with growing pauses, as Retry-After says; have another model at hand.",
    ),
    StatusWord(
        State.MAJOR_OUTAGE,
        "Most requests fail.",
        f"{FAILED_MAJOR_PERMILLE / 10:g} % or more of the requests of the last {WINDOW_S // 60} minutes failed, and at "
        f"least {LEAST_TROUBLED}.",
        "Use another model, or wait; do not repeat at once.",
    ),
    StatusWord(
        State.MAINTENANCE,
        "Announced work is under way.",
        "Between the announced start and end of maintenance, whatever is measured.",
        "Wait until the announced end, or use another model.",
    ),
)
"""Every word, in the order in which pages show them."""

COUNTED = (
    "A request counts as failed where the gateway or a provider was at fault: the provider was unreachable, too slow, "
    "at its limit or broke off, or the gateway failed inside. What a caller causes counts for nothing: a bad key, a "
    "bad request, a spent quota, a caller that leaves or allows too little time."
)
"""What counts as failed, for pages and documentation."""

BY_WORD = {word.state: word for word in WORDS}
"""Each word by its state."""
