"""Charges: integers, rounded up once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokendance_server.domain.prices.tariff import MILLION, Step, Tariff
from tokendance_server.domain.usage.counts import MOST_TOKENS, Counts

PLAIN = Tariff({"": {"input": [Step(3_000_000)], "output": [Step(15_000_000)]}})
FULL = Tariff(
    {
        "": {
            "input": [Step(3_000_000), Step(6_000_000, 200_000)],
            "cached_input": [Step(300_000)],
            "cache_write": [Step(3_750_000)],
            "output": [Step(15_000_000)],
            "reasoning": [Step(20_000_000)],
        },
        "flex": {"input": [Step(1_500_000)], "output": [Step(7_500_000)]},
    }
)


def test_charge_is_rounded_up_once() -> None:
    """One token of a price below a micro-dollar costs a whole one; a million cost their price."""
    cheap = Tariff({"": {"input": [Step(1)], "output": [Step(1)]}})
    assert cheap.cost(Counts(1, 1)) == 1
    assert cheap.cost(Counts(MILLION, 1)) == 2
    assert cheap.cost(Counts()) == 0


def test_each_class_has_its_price() -> None:
    """What came from a cache, went into one, or was reasoning is not charged as plain text too."""
    counts = Counts(1000, 100, cached_input_tokens=400, cache_write_tokens=200, reasoning_tokens=60)
    expected = 400 * 3_000_000 + 400 * 300_000 + 200 * 3_750_000 + 40 * 15_000_000 + 60 * 20_000_000
    assert FULL.cost(counts) == expected // MILLION


def test_class_without_a_price_costs_what_its_whole_costs() -> None:
    """No detail is free for want of a row."""
    assert PLAIN.cost(Counts(10, 10, cached_input_tokens=10, reasoning_tokens=10)) == PLAIN.cost(Counts(10, 10))


def test_long_prompts_have_their_own_price() -> None:
    """The step holds for the whole prompt from its first token above the threshold on."""
    assert FULL.cost(Counts(199_999)) == 599_997
    assert FULL.cost(Counts(200_000)) == 1_200_000


def test_tier_falls_back_to_the_default() -> None:
    """A tier without prices of its own costs what the default costs."""
    assert FULL.cost(Counts(MILLION), "flex") == 1_500_000
    assert FULL.cost(Counts(MILLION, 0), "priority") == FULL.cost(Counts(MILLION))


def test_model_without_the_price_of_what_was_used_is_unpriced() -> None:
    """An answer without a price is not free."""
    only_input = Tariff({"": {"input": [Step(1)]}})
    assert only_input.cost(Counts(5, 0)) == 1
    assert only_input.cost(Counts(5, 1)) is None
    assert only_input.dearest(5, 1) is None


def test_overlapping_details_are_charged_once() -> None:
    """Parts that claim more than the whole are cut at it."""
    assert FULL.cost(Counts(10, 0, cached_input_tokens=10, cache_write_tokens=10)) == 3


_TOKENS = st.integers(0, MOST_TOKENS)


@given(st.builds(Counts, *[_TOKENS] * 5), st.sampled_from(["", "flex"]))
def test_no_charge_is_above_what_was_reserved(counts: Counts, tier: str) -> None:
    """The dearest that can apply covers every way in which the tokens may be split."""
    cost, dearest = FULL.cost(counts, tier), FULL.dearest(counts.input_tokens, counts.output_tokens, tier)
    assert cost is not None
    assert dearest is not None
    assert 0 <= cost <= dearest
