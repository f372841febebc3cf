"""The prices that hold at a moment, and which of them nobody changes any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendance.errors import GatewayError
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.prices.price import Price, PriceList
from tokendance_server.domain.prices.rules import KEPT_AFTER_END, MOST_PRICES, checked
from tokendance_server.domain.prices.tariff import CLASSES, Tariff
from tokendance_server.domain.usage.counts import MOST_TOKENS, Counts

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def dollars(amount: int, at: datetime | None = NOW, price_class: str = "input") -> Price:
    """A price of so many dollars a million tokens."""
    return Price(price_class, amount * 1_000_000, effective_time=at)


def cost(tariff: Tariff | None) -> int | None:
    """What a million prompt tokens cost."""
    return None if tariff is None else tariff.cost(Counts(1_000_000))


def test_price_holds_from_its_time_on() -> None:
    """Before the first there is none; each begins at its moment and not a microsecond sooner."""
    listed = PriceList("a", (dollars(3, NOW + DAY), dollars(1, NOW), dollars(2, NOW + DAY / 2)))
    soon = timedelta(microseconds=1)
    moments = (NOW - soon, NOW, NOW + DAY / 2 - soon, NOW + DAY / 2, NOW + DAY, NOW + 999 * DAY)
    told = [cost(listed.tariff(moment)) for moment in moments]
    assert told == [None, 1_000_000, 1_000_000, 2_000_000, 3_000_000, 3_000_000]
    assert listed.next_change(NOW) == NOW + DAY / 2
    assert listed.next_change(NOW + DAY) is None


def test_book_sees_a_price_begin() -> None:
    """At its moment, though the tariff before it was asked for a moment ago; and unpriced is None throughout."""
    clock = ManualClock(NOW)
    book = PriceBook(clock)
    assert book.tariff("a") is None
    book.put({"a": PriceList("a", (dollars(1), dollars(2, NOW + timedelta(seconds=10)))), "b": PriceList("b")})
    first = book.tariff("a")
    clock.advance(9.5)
    assert book.tariff("a") is first
    assert cost(first) == 1_000_000
    clock.advance(0.5)
    assert cost(book.tariff("a")) == 2_000_000
    # Whoever took the old one keeps it.
    assert cost(first) == 1_000_000
    assert book.tariff("b") is None
    assert book.tariff("unknown") is None


def test_new_lists_hold_at_once() -> None:
    """What was remembered of the old ones is not."""
    book = PriceBook(ManualClock(NOW))
    book.put({"a": PriceList("a", (dollars(1),), published=True)})
    assert cost(book.tariff("a")) == 1_000_000
    assert book.published("a") == [dollars(1)]
    book.put({"a": PriceList("a", (dollars(7),))})
    assert cost(book.tariff("a")) == 7_000_000
    assert book.published("a") == ()
    book.put({})
    assert book.tariff("a") is None


def test_price_without_a_time_holds_from_now() -> None:
    """And is kept with that time; what is kept already stays as it is."""
    first = checked(PriceList("a"), [dollars(1, None)], NOW)
    assert first == (dollars(1, NOW),)
    second = checked(PriceList("a", first, version=1), [*first, dollars(2, None)], NOW + DAY)
    assert second == (dollars(1, NOW), dollars(2, NOW + DAY))


KEPT = PriceList("a", (dollars(1, NOW - DAY), dollars(2, NOW), dollars(3, NOW + DAY)), version=1)


@pytest.mark.parametrize(
    "prices",
    [
        (),
        (dollars(2, NOW), dollars(3, NOW + DAY)),
        (dollars(1, NOW - DAY), dollars(9, NOW)),
        (*KEPT.prices, dollars(1, NOW - DAY / 2)),
    ],
    ids=["all gone", "a past one gone", "the one in force changed", "a new one in the past"],
)
def test_past_stays_as_it_was(prices: tuple[Price, ...]) -> None:
    """Calls were charged by it."""
    with pytest.raises(GatewayError) as refused:
        checked(KEPT, prices, NOW + timedelta(hours=1))
    assert refused.value.code == "failed_precondition"


def test_future_is_free_and_the_long_past_may_go() -> None:
    """A price that did not begin yet is taken back; one that ended long ago makes room."""
    assert checked(KEPT, KEPT.prices[:2], NOW) == KEPT.prices[:2]
    later = NOW + KEPT_AFTER_END + timedelta(hours=1)
    assert checked(KEPT, KEPT.prices[1:], later) == KEPT.prices[1:]


@pytest.mark.parametrize(
    ("price", "field"),
    [
        (Price("words", 1), "price_list.prices[0].class"),
        (Price("input", -1), "price_list.prices[0].micros_per_million"),
        (Price("input", 10**13), "price_list.prices[0].micros_per_million"),
        (Price("input", 1, -1), "price_list.prices[0].from_prompt_tokens"),
        (Price("input", 1, MOST_TOKENS + 1), "price_list.prices[0].from_prompt_tokens"),
        (Price("input", 1, 0, "x" * 64), "price_list.prices[0].service_tier"),
    ],
)
def test_absurd_prices_are_refused(price: Price, field: str) -> None:
    """By the field at fault."""
    with pytest.raises(GatewayError) as refused:
        checked(PriceList("a"), [price], NOW)
    assert (refused.value.code, refused.value.param) == ("invalid_request", field)


def test_two_prices_for_one_place_and_too_many_are_refused() -> None:
    """Nobody could tell which holds."""
    with pytest.raises(GatewayError):
        checked(PriceList("a"), [dollars(1, None), dollars(2, None)], NOW)
    with pytest.raises(GatewayError):
        checked(PriceList("a"), [Price("input", 1, step) for step in range(MOST_PRICES + 1)], NOW)


prices = st.builds(
    Price,
    st.sampled_from(CLASSES),
    st.integers(0, 10**9),
    st.sampled_from([0, 100, 200_000]),
    st.sampled_from(["", "flex"]),
    st.one_of(st.none(), st.integers(1, 30).map(lambda days: NOW + days * DAY)),
)


@given(st.lists(prices, max_size=12, unique_by=lambda one: (one.place, one.effective_time)), st.integers(0, 40))
def test_what_is_accepted_can_be_written_again(wanted: list[Price], days: int) -> None:
    """A list that was read is accepted unchanged at any later time."""
    kept = checked(PriceList("a"), wanted, NOW)
    assert checked(PriceList("a", kept, version=1), kept, NOW + days * DAY) == kept
