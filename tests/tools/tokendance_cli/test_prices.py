"""Prices as people write them."""

from datetime import UTC, datetime

import pytest

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_cli.failures import CommandError
from tokendance_cli.prices import LATER, NOW, PAST, dollars, micros_of, states, time_of, with_prices


@pytest.mark.parametrize(("text", "micros"), [("3", 3_000_000), ("0.075", 75_000), ("0", 0), ("0.000001", 1)])
def test_amount_is_exact(text: str, micros: int) -> None:
    """In decimal digits, both ways."""
    assert micros_of(text, "--input") == micros
    assert dollars(micros) == text


@pytest.mark.parametrize("text", ["", "free", "-1", "0.0000001", "nan", "inf", "1e-9", "3 USD"])
def test_anything_else_is_refused(text: str) -> None:
    """With the option's name."""
    with pytest.raises(CommandError, match="--input"):
        micros_of(text, "--input")


def test_date_is_a_day_in_utc_and_a_time_has_its_zone() -> None:
    """Nothing said is now; a word is refused."""
    assert time_of("") is None
    day, time = time_of("2026-12-01"), time_of("2026-12-01T08:00+01:00")
    assert day is not None
    assert time is not None
    assert (day.ToJsonString(), time.ToJsonString()) == ("2026-12-01T00:00:00Z", "2026-12-01T07:00:00Z")
    with pytest.raises(CommandError):
        time_of("tomorrow")


def test_new_price_takes_the_place_of_one_for_the_same_time_alone() -> None:
    """What holds before stays in the list; so do tiers, steps and the version that was read."""
    kept = pb.PriceList(model="a", etag='"4"', published=True)
    for time in ("2026-01-01", "2026-12-01"):
        kept = with_prices(kept, {"input": 1, "output": 2}, time=time_of(time), tier="", from_prompt_tokens=0)
    kept = with_prices(kept, {"input": 5}, time=time_of("2026-12-01"), tier="", from_prompt_tokens=0)
    kept = with_prices(kept, {"input": 6}, time=time_of("2026-12-01"), tier="flex", from_prompt_tokens=9)
    assert (kept.model, kept.etag, kept.published) == ("a", '"4"', True)
    assert sorted(one.micros_per_million for one in kept.prices) == [1, 2, 2, 5, 6]
    now = datetime(2026, 12, 2, tzinfo=UTC)
    assert sorted(states(kept.prices, now)) == [NOW] * 3 + [PAST] * 2
    assert sorted(states(kept.prices, datetime(2026, 2, 1, tzinfo=UTC))) == [LATER] * 3 + [NOW] * 2
