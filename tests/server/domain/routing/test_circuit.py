"""The circuit of a route, held to a model by random histories, and its single rules by examples."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokendance_server.domain.routing.circuit import TRANSITIONS, Cause, Circuit, CircuitRules, CircuitState, Event

RULES = CircuitRules(failures_in_a_row=3, least_calls=6, window_s=10, rest_s=1, longest_rest_s=8, calm_s=30)
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def opened(*, now: float = 0.0, asked_s: float | None = None) -> Circuit:
    """A circuit that calls failing one after the other opened."""
    circuit = Circuit(RULES, now)
    while circuit.state is CLOSED:
        circuit.fail(circuit.begin(), now, asked_s)
    return circuit


class CircuitModel(RuleBasedStateMachine):
    """Drives a circuit with calls that overlap, and knows by far simpler means what must be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.circuit = Circuit(RULES, self.now)
        self.running: list[tuple[int, bool]] = []
        self.probes_running = 0
        self.proven = 0
        self.opened_at: float | None = None
        self.fails_since_success = 0

    def _end(self, place: int) -> tuple[int, bool]:
        generation, probe = self.running.pop(place % len(self.running))
        if probe:
            self.probes_running -= 1
        return generation, probe

    @rule()
    def call(self) -> None:
        """A call comes: it is let in exactly where the state says so."""
        admitted = self.circuit.admits(self.now)
        state = self.circuit.state
        assert admitted == (state is CLOSED or (state is HALF_OPEN and self.probes_running == 0))
        if admitted:
            self.running.append((self.circuit.begin(), state is HALF_OPEN))
            self.probes_running += state is HALF_OPEN

    @precondition(lambda self: self.running)
    @rule(place=st.integers(0, 50))
    def succeed(self, place: int) -> None:
        """A call succeeds: only the last probe that was needed closes."""
        before = self.circuit.state
        generation, probe = self._end(place)
        current = generation == self.circuit.generation
        self.circuit.succeed(generation, self.now)
        if before is HALF_OPEN and probe and current:
            self.proven += 1
            assert self.circuit.state is (CLOSED if self.proven == RULES.probes_to_close else HALF_OPEN)
            if self.circuit.state is CLOSED:
                self.fails_since_success = 0
        else:
            assert self.circuit.state is before
            if before is CLOSED and current:
                self.fails_since_success = 0

    @precondition(lambda self: self.running)
    @rule(place=st.integers(0, 50), asked_s=st.none() | st.floats(0, 1e9))
    def fail(self, place: int, asked_s: float | None) -> None:
        """A call fails: a probe opens it again, others do where there were enough of them."""
        before = self.circuit.state
        generation, probe = self._end(place)
        current = generation == self.circuit.generation
        self.circuit.fail(generation, self.now, asked_s)
        after = self.circuit.state
        if before is HALF_OPEN and probe and current:
            assert after is OPEN
        elif before is CLOSED and current:
            self.fails_since_success += 1
            if self.fails_since_success >= RULES.failures_in_a_row or asked_s is not None:
                assert after is OPEN
        else:
            assert after is before
        if after is OPEN and before is not OPEN:
            self._opened(asked_s)

    @precondition(lambda self: self.running)
    @rule(place=st.integers(0, 50))
    def leave(self, place: int) -> None:
        """A caller leaves: nothing is learnt, and the next may probe."""
        before = self.circuit.state
        generation, _ = self._end(place)
        self.circuit.leave(generation, self.now)
        assert self.circuit.state is before

    @rule(rest_s=st.floats(0, 1e9))
    def told(self, rest_s: float) -> None:
        """Another node tells that it is open: that opens it where it was closed."""
        before = self.circuit.state
        assert self.circuit.told(rest_s, self.now) == (before is CLOSED)
        if before is CLOSED:
            assert self.circuit.cause is Cause.TOLD
            self._opened(rest_s)

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def _opened(self, asked_s: float | None) -> None:
        self.opened_at = self.now
        self.proven = 0
        self.fails_since_success = 0
        rest_s = self.circuit.rest_until - self.now
        bound = max(RULES.longest_rest_s, min(asked_s or 0, RULES.longest_asked_s))
        assert 0 <= rest_s <= bound + 1e-6

    @invariant()
    def at_most_one_probe(self) -> None:
        """Whoever probes is alone."""
        current = [one for one in self.running if one[1] and one[0] == self.circuit.generation]
        assert len(current) <= 1
        assert self.circuit.probing == bool(current) or self.circuit.state is not HALF_OPEN

    @invariant()
    def rests_as_long_as_it_should(self) -> None:
        """It is open until its rest is over, and then lets a probe in."""
        if self.circuit.state is OPEN and self.now < self.circuit.rest_until:
            assert not self.circuit.admits(self.now)
            assert self.circuit.state is OPEN


CircuitModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCircuitModel = CircuitModel.TestCase


def test_it_opens_after_failures_in_a_row_only() -> None:
    """A success between them begins the count anew."""
    circuit = Circuit(RULES, 0)
    for outcome in (False, False, True, False, False):
        (circuit.succeed if outcome else circuit.fail)(circuit.begin(), 0.0)
    assert circuit.state is CLOSED
    circuit.fail(circuit.begin(), 0.0)
    assert (circuit.state, circuit.cause, circuit.admits(0.5)) == (OPEN, Cause.DEAD, False)


def test_it_opens_where_half_of_the_calls_fail() -> None:
    """Failures and successes in turn are an outlier once there were enough of them, and not before."""
    circuit = Circuit(RULES, 0)
    for number in range(5):
        (circuit.fail if number % 2 else circuit.succeed)(circuit.begin(), 0.0)
    assert circuit.state is CLOSED
    circuit.fail(circuit.begin(), 0.0)
    assert (circuit.state, circuit.cause) == (OPEN, Cause.OUTLIER)


def test_what_failed_in_an_earlier_window_is_forgotten() -> None:
    """Five calls of which two failed, and later one more failure, are no outlier."""
    circuit = Circuit(RULES, 0)
    for number in range(5):
        (circuit.fail if number % 2 else circuit.succeed)(circuit.begin(), 0.0)
    circuit.fail(circuit.begin(), 11.0)
    assert circuit.state is CLOSED


def test_probes_go_one_by_one_and_two_of_them_close() -> None:
    """Half open, nobody else is let in while a probe runs."""
    circuit = opened()
    assert not circuit.admits(0.9)
    for _ in range(2):
        assert circuit.admits(1.0)
        probe = circuit.begin()
        assert not circuit.admits(1.0)
        circuit.succeed(probe, 1.0)
    assert circuit.state is CLOSED


def test_each_opening_rests_twice_as_long_up_to_a_bound() -> None:
    """1, 2, 4, 8, 8 seconds; after a calm time it begins anew."""
    circuit = opened()
    rests, now = [circuit.rest_until], 0.0
    for _ in range(4):
        now = circuit.rest_until
        assert circuit.admits(now)
        circuit.fail(circuit.begin(), now)
        rests.append(circuit.rest_until - now)
    assert rests == [1, 2, 4, 8, 8]
    now = circuit.rest_until
    for _ in range(2):
        assert circuit.admits(now)
        circuit.succeed(circuit.begin(), now)
    now += RULES.calm_s
    for _ in range(3):
        circuit.fail(circuit.begin(), now)
    assert circuit.rest_until - now == 1


@pytest.mark.parametrize(("asked_s", "rest_s"), [(7, 7), (0.2, 1), (1e9, 60)])
def test_the_time_that_an_upstream_asks_for_is_obeyed_within_bounds(asked_s: float, rest_s: float) -> None:
    """At once, at least as long as without, and a minute at most."""
    circuit = Circuit(RULES, 0)
    assert circuit.fail(circuit.begin(), 0.0, asked_s)
    assert (circuit.cause, circuit.rest_until) == (Cause.ASKED, rest_s)


def test_calls_from_before_the_opening_change_nothing() -> None:
    """A late success is no probe, and a late failure no reason to rest longer."""
    circuit = Circuit(RULES, 0)
    late = [circuit.begin() for _ in range(2)]
    while circuit.state is CLOSED:
        circuit.fail(circuit.begin(), 0.0)
    until = circuit.rest_until
    circuit.succeed(late[0], 0.5)
    circuit.fail(late[1], 0.5)
    assert (circuit.state, circuit.rest_until) == (OPEN, until)


def test_a_probe_whose_caller_left_lets_the_next_one_in() -> None:
    """Otherwise a circuit could stay half open for good."""
    circuit = opened()
    assert circuit.admits(1.0)
    circuit.leave(circuit.begin(), 1.0)
    assert circuit.admits(1.0)


def test_the_table_says_what_follows_on_every_event_that_can_happen() -> None:
    """What is not in the table cannot happen: each pair is there for a reason, and each state can be left."""
    assert {before for before, _ in TRANSITIONS} == set(CircuitState)
    assert {event for _, event in TRANSITIONS} == set(Event)
    assert (CLOSED, Event.PROBE_SUCCESS) not in TRANSITIONS
    assert all(any((state, event) in TRANSITIONS for event in Event) for state in CircuitState)
