"""Which counts are charged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.usage.counts import FIELDS, MOST_TOKENS, Counts, add_up, believe

ESTIMATE = Counts(100, 20)
_ANY = st.integers(-(2**63), 2**63 - 1)


def told(**counts: int) -> pb.Usage:
    """Return a usage as a provider counted it."""
    return pb.Usage(source=pb.USAGE_SOURCE_PROVIDER, **counts)  # type: ignore[arg-type]


def test_provider_wins() -> None:
    """What the provider counted is charged as it is, details included."""
    believed = believe(told(input_tokens=7, output_tokens=5, cached_input_tokens=3, reasoning_tokens=2), ESTIMATE)
    assert believed.counts == Counts(7, 5, cached_input_tokens=3, reasoning_tokens=2)
    assert not believed.estimated


def test_explicit_zero_stays_zero() -> None:
    """A provider that says 0 is not corrected."""
    assert believe(told(), ESTIMATE) == (Counts(), False)


def test_missing_usage_is_estimated() -> None:
    """Without a word of the provider the estimate is charged, and flagged."""
    assert believe(None, ESTIMATE) == (ESTIMATE, True)


def test_nothing_to_bill_is_nothing() -> None:
    """An attempt that reached nobody costs nothing, and that is no estimate."""
    assert believe(None, None) == (Counts(), False)


@pytest.mark.parametrize("odd", [-1, MOST_TOKENS + 1, 2**63 - 1])
def test_odd_count_is_replaced_alone(odd: int) -> None:
    """A count that cannot be is replaced by the estimate, and the other one is believed."""
    assert believe(told(input_tokens=odd, output_tokens=9), ESTIMATE) == (Counts(100, 9), True)
    assert believe(told(input_tokens=9, output_tokens=odd), ESTIMATE) == (Counts(9, 20), True)


def test_repeated_usage_is_estimated() -> None:
    """Of two usages nobody knows which one is true."""
    assert believe(told(input_tokens=7, output_tokens=5), ESTIMATE, repeated=True) == (ESTIMATE, True)


def test_detail_above_its_whole_is_cut() -> None:
    """More cached tokens than prompt tokens cannot be."""
    believed = believe(told(input_tokens=7, cached_input_tokens=8, cache_write_tokens=-2), None)
    assert believed == (Counts(7, cached_input_tokens=7), True)


def test_estimate_of_a_codec_is_flagged() -> None:
    """Counts that a codec estimated itself are charged as such."""
    usage = pb.Usage(input_tokens=4, output_tokens=2, source=pb.USAGE_SOURCE_ESTIMATED)
    assert believe(usage, ESTIMATE) == (Counts(4, 2), True)


@given(counts=st.fixed_dictionaries(dict.fromkeys(FIELDS, _ANY)), repeated=st.booleans())
def test_nothing_is_ever_negative_or_absurd(counts: dict[str, int], repeated: bool) -> None:
    """Whatever a provider says, a charge is within bounds."""
    believed = believe(told(**counts), ESTIMATE, repeated=repeated)
    assert all(0 <= getattr(believed.counts, name) <= MOST_TOKENS for name in FIELDS)


def test_sums_of_attempts() -> None:
    """Each count is added up."""
    assert add_up([Counts(1, 2, reasoning_tokens=1), Counts(10, 20)]) == Counts(11, 22, reasoning_tokens=1)
    assert add_up([]) == Counts()
