"""Prices to suggest come from a list on this machine, in our classes and whole micro-dollars."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokendance_server.domain.prices.price import PriceList
from tokendance_server.domain.prices.rules import checked
from tokendance_server.providers.price_snapshot import BundledPrices

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("names", "matched"),
    [
        (["gpt-4o"], "openai/gpt-4o"),
        (["sim", "gpt-4o"], "openai/gpt-4o"),
        (["openai/gpt-4o-mini"], "openai/gpt-4o-mini"),
        (["text-embedding-3-small"], "openai/text-embedding-3-small"),
    ],
)
def test_first_name_that_is_known_is_taken(names: list[str], matched: str) -> None:
    """By the provider's own name, with a router's prefix too; and it is a list that can be set as it is."""
    found = BundledPrices().find(names, NOW)
    assert found is not None
    assert found[0] == matched
    assert checked(PriceList("a"), found[1], NOW)
    assert all(price.per_million > 0 for price in found[1])


def test_steps_begin_with_the_token_behind_the_bound() -> None:
    """There a dearer price holds above a number of tokens, here from a number on."""
    found = BundledPrices().find(["claude-sonnet-4-5"], NOW)
    assert found is not None
    steps = [(one.from_prompt_tokens, one.per_million) for one in found[1] if one.price_class == "input"]
    assert steps == [(0, 3_000_000), (200_001, 6_000_000)]


def test_unknown_names_have_none() -> None:
    """Nothing is guessed."""
    assert BundledPrices().find(["sim", "no/such"], NOW) is None
