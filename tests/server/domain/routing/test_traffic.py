"""How calls of a model ended lately: what the status of the service is computed of."""

from __future__ import annotations

import pytest

from tokendance_server.domain.routing.traffic import Traffic


def test_calls_are_counted_for_five_minutes() -> None:
    """By how they ended for their callers; afterwards they are forgotten."""
    traffic = Traffic()
    for _ in range(6):
        traffic.answered(0.2, 1000.0, degraded=False)
    traffic.answered(0.2, 1000.0, degraded=True)
    traffic.failed(1100.0)
    health = traffic.health("m", 1200.0)
    assert (health.calls, health.failed, health.degraded) == (8, 1, 1)
    assert health.median_first_byte_s == pytest.approx(0.2, rel=0.15)
    later = traffic.health("m", 1370.0)
    assert (later.calls, later.failed, later.median_first_byte_s) == (1, 1, None)
    assert traffic.health("m", 9000.0).calls == 0


def test_a_stream_that_breaks_off_is_one_call_that_failed() -> None:
    """It was counted as answered when it began."""
    traffic = Traffic()
    traffic.answered(0.1, 0.0, degraded=False)
    traffic.broke_off(1.0)
    health = traffic.health("m", 2.0)
    assert (health.calls, health.failed) == (1, 1)


@pytest.mark.parametrize("seconds", [0.0005, 0.03, 1.0, 70.0])
def test_the_median_is_right_to_about_a_fifth(seconds: float) -> None:
    """However long it is."""
    traffic = Traffic()
    for factor in (0.1, 1, 1, 1, 10):
        traffic.answered(seconds * factor, 0.0, degraded=False)
    median = traffic.health("m", 1.0).median_first_byte_s
    assert median == pytest.approx(max(seconds, 0.001), rel=0.2)
