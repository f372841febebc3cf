"""Admission: a bound on the calls that run at once."""

from __future__ import annotations

import pytest

from tokendance.errors import GatewayError
from tokendance_server.services.admission import Admission


def test_as_many_calls_run_as_the_limit_says() -> None:
    """One more is refused at once, with a time to come back; one that ends makes room."""
    admission = Admission(2)
    with admission:
        with admission:
            assert admission.running == 2
            with pytest.raises(GatewayError) as raised, admission:
                pass
            assert (raised.value.code, raised.value.retry_after_s) == ("gateway_overloaded", 1)
            assert raised.value.retryable
            assert admission.running == 2
        with admission:
            assert admission.running == 2
    assert admission.running == 0


def test_a_call_that_fails_gives_its_place_back() -> None:
    """However it fails, a cancellation included."""
    admission = Admission(1)
    for failure in (ValueError(), GeneratorExit(), KeyboardInterrupt()):
        with pytest.raises(type(failure)), admission:
            raise failure
    assert admission.running == 0


def test_a_draining_node_takes_no_new_call() -> None:
    """Those that run go on; a new one is told to try another node, even where there would be room."""
    admission = Admission(10)
    with admission:
        admission.drain()
        assert admission.running == 1
        with pytest.raises(GatewayError) as raised, admission:
            pass
        assert (raised.value.code, raised.value.retry_after_s) == ("service_stopping", 1)
    assert admission.running == 0
