"""The circuit of one route: whether calls are sent there, as a transition table. Times are monotonic seconds."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class CircuitState(enum.StrEnum):
    """CLOSED: calls are sent. OPEN: none is. HALF_OPEN: one at a time, to see whether it works again."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Cause(enum.StrEnum):
    """Why a circuit opened. The value is also what nodes tell each other."""

    DEAD = "dead"
    """Calls failed one after the other: nobody is helped by sending more, also where there is no other route."""
    OUTLIER = "outlier"
    """Many of the calls failed: others are better, and where there is no other it is better than none."""
    ASKED = "asked"
    """The upstream asked for patience, with a Retry-After."""
    TOLD = "told"
    """Another node found it open. What is wrong there may be that node, so here it is only worse than others."""


class Event(enum.StrEnum):
    """What can happen to a circuit."""

    SUCCESS = "success"
    FAILURE = "failure"
    LATE_SUCCESS = "late_success"
    LATE_FAILURE = "late_failure"
    PROBE_SUCCESS = "probe_success"
    PROBE_FAILURE = "probe_failure"
    PROBE_LEFT = "probe_left"
    TRIP = "trip"
    REST_OVER = "rest_over"


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """When a circuit opens, and for how long.

    It opens after `failures_in_a_row`, or where at least `failing_share` of at least `least_calls` in a window of
    `window_s` failed. It rests for `rest_s`, twice as long each time that it opens again before it has been closed for
    `calm_s`, and `longest_rest_s` at most. `probes_to_close` probes must succeed one after the other.
    """

    failures_in_a_row: int = 5
    failing_share: float = 0.5
    least_calls: int = 10
    window_s: float = 10.0
    rest_s: float = 1.0
    longest_rest_s: float = 30.0
    calm_s: float = 60.0
    probes_to_close: int = 2
    longest_asked_s: float = 60.0


_CLOSED, _OPEN, _HALF = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

TRANSITIONS: dict[tuple[CircuitState, Event], CircuitState] = {
    # Closed: failures count until there are enough of them to TRIP it.
    (_CLOSED, Event.SUCCESS): _CLOSED,
    (_CLOSED, Event.FAILURE): _CLOSED,
    (_CLOSED, Event.LATE_SUCCESS): _CLOSED,
    (_CLOSED, Event.LATE_FAILURE): _CLOSED,
    (_CLOSED, Event.TRIP): _OPEN,
    # Open: only time lets probes in. What still ran when it opened changes nothing.
    (_OPEN, Event.LATE_SUCCESS): _OPEN,
    (_OPEN, Event.LATE_FAILURE): _OPEN,
    (_OPEN, Event.TRIP): _OPEN,
    (_OPEN, Event.REST_OVER): _HALF,
    # Half open: one probe after the other. Whoever began before it opened is no probe.
    (_HALF, Event.LATE_SUCCESS): _HALF,
    (_HALF, Event.LATE_FAILURE): _HALF,
    (_HALF, Event.PROBE_SUCCESS): _HALF,
    (_HALF, Event.PROBE_FAILURE): _OPEN,
    (_HALF, Event.PROBE_LEFT): _HALF,
    (_HALF, Event.TRIP): _OPEN,
}
"""Every event that can happen in a state, and the state behind it; the last probe that is needed closes, beyond it."""


class Circuit:
    """One circuit. `generation` changes whenever it opens or closes: a call tells with which one it began."""

    __slots__ = (
        "_calls",
        "_failed",
        "_level",
        "_proven",
        "_row",
        "_rules",
        "_window_end",
        "cause",
        "generation",
        "probing",
        "rest_until",
        "since",
        "state",
    )

    def __init__(self, rules: CircuitRules, now: float) -> None:
        self._rules = rules
        self._calls = self._failed = self._row = 0
        self._window_end = now + rules.window_s
        self._level = 0
        self._proven = 0
        self.state = CircuitState.CLOSED
        self.cause: Cause | None = None
        self.since = now
        self.rest_until = now
        self.probing = False
        self.generation = 0

    def admits(self, now: float) -> bool:
        """Tell whether a call may go there now: always while closed, and as the one probe of a half-open one."""
        if self.state is _CLOSED:
            return True
        if self.state is _OPEN and now >= self.rest_until:
            self._move(Event.REST_OVER, now)
        return self.state is _HALF and not self.probing

    def begin(self) -> int:
        """Let a call go there, as the probe where it is half open; returns the generation that its end must tell."""
        if self.state is _HALF:
            self.probing = True
        return self.generation

    def succeed(self, generation: int, now: float) -> None:
        """Take the success of a call that began in a generation."""
        if self.state is _CLOSED and generation == self.generation:
            # The usual end of a usual call: nothing else is worth its time.
            self._row = 0
            if now >= self._window_end:
                self._new_window(now)
            self._calls += 1
            return
        if not self._is_probe(generation):
            self._move(Event.LATE_SUCCESS, now)
            return
        self._move(Event.PROBE_SUCCESS, now)
        self.probing = False
        self._proven += 1
        if self._proven >= self._rules.probes_to_close:
            self._close(now)

    def fail(self, generation: int, now: float, asked_s: float | None = None) -> bool:
        """Take the failure of a call; `asked_s` is the rest that its upstream asked for. Returns whether it opened."""
        if self._is_probe(generation):
            self.probing = False
            self._open(Event.PROBE_FAILURE, self.cause or Cause.DEAD, now, asked_s)
            return True
        if self.state is not _CLOSED or generation != self.generation:
            self._move(Event.LATE_FAILURE, now)
            return False
        self._move(Event.FAILURE, now)
        if now >= self._window_end:
            self._new_window(now)
        self._row += 1
        self._calls += 1
        self._failed += 1
        rules = self._rules
        if asked_s is not None:
            self._open(Event.TRIP, Cause.ASKED, now, asked_s)
        elif self._row >= rules.failures_in_a_row:
            self._open(Event.TRIP, Cause.DEAD, now)
        elif self._calls >= rules.least_calls and self._failed >= rules.failing_share * self._calls:
            self._open(Event.TRIP, Cause.OUTLIER, now)
        return self.state is _OPEN

    def leave(self, generation: int, now: float) -> None:
        """Take a call that ended without telling anything of the route, such as one whose caller left."""
        if self._is_probe(generation):
            self.probing = False
            self._move(Event.PROBE_LEFT, now)

    def told(self, rest_s: float, now: float) -> bool:
        """Take what another node found: it is open for that long. Returns whether it opened here."""
        if self.state is not _CLOSED:
            return False
        self._move(Event.TRIP, now)
        self._opened(Cause.TOLD, now, min(rest_s, self._rules.longest_asked_s))
        return True

    def _is_probe(self, generation: int) -> bool:
        return self.state is _HALF and self.probing and generation == self.generation

    def _open(self, event: Event, cause: Cause, now: float, asked_s: float | None = None) -> None:
        rules = self._rules
        if self.state is _CLOSED and now - self.since >= rules.calm_s:
            self._level = 0
        rest_s = min(rules.rest_s * 2.0 ** min(self._level, 16), rules.longest_rest_s)
        self._level += 1
        if asked_s is not None:
            rest_s = max(rest_s, min(asked_s, rules.longest_asked_s))
        self._move(event, now)
        self._opened(cause, now, rest_s)

    def _opened(self, cause: Cause, now: float, rest_s: float) -> None:
        self.cause = cause
        self.rest_until = now + rest_s
        self.generation += 1
        self.probing = False
        self._proven = 0

    def _close(self, now: float) -> None:
        self.state = _CLOSED
        self.since = now
        self.cause = None
        self.generation += 1
        self._proven = self._row = 0
        self._new_window(now)

    def _new_window(self, now: float) -> None:
        self._calls = self._failed = 0
        self._window_end = now + self._rules.window_s

    def _move(self, event: Event, now: float) -> None:
        after = TRANSITIONS[self.state, event]
        if after is not self.state:
            self.since = now
        self.state = after
