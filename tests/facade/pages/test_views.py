"""Messages as pages show them: prices, days, anchors, and names that are not public."""

from __future__ import annotations

import pytest
from tests.facade.pages.site_rig import HOSTILE, model

from tokendance_facade.pages.views import UNKNOWN, DayView, anchor, bars, cleaner, model_view, status_view

PLAIN = cleaner(())


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000001"),
        (250_000, "$0.25"),
        (2_500_000, "$2.50"),
        (1_234_567_890_000, "$1,234,567.89"),
    ],
)
def test_prices_are_dollars_to_the_millionth(micros: int, shown: str) -> None:
    """Never less exact than they are, and never with less than cents."""
    priced = model("m")
    price = priced.prices.add(micros_per_million=micros, unit="token", service_tier="flex", from_prompt_tokens=200_000)
    setattr(price, "class", "cached_input")
    label, amount = model_view(priced, PLAIN).prices[0]
    assert label == "Cached input, tier flex, prompts from 200,000 tokens"
    assert amount == f"{shown} for a million tokens"


def test_what_is_not_stated_is_empty() -> None:
    """A model with nothing but a name."""
    view = model_view(model("m"), PLAIN)
    assert (view.context_window, view.max_output, view.prices, view.gone) == ("", "", (), "")


def test_anchors_differ_where_names_do_and_hold_nothing_else_than_an_id() -> None:
    """Whatever the name is."""
    names = [*HOSTILE, "a b", "a_20b", "a-b", "A-B", "a/b", "a_2fb"]
    anchors = [anchor(name) for name in names]
    assert len(set(anchors)) == len(names)
    assert all(one.isascii() and one.replace("-", "").replace("_", "").isalnum() for one in anchors)


def test_bars_stand_at_the_right_and_days_that_are_not_told_are_unknown() -> None:
    """One a day; of too many days the newest are shown."""
    days = [DayView(f"2026-01-{number:02}", "operational", 0, 0, 0) for number in range(1, 4)]
    days[1] = DayView("2026-01-02", "degraded", 7, 0, 0)
    paths = dict(bars(days, 5))
    assert set(paths) == {UNKNOWN, "operational", "degraded"}
    assert paths["degraded"] == "M31 0h8v36h-8z"
    assert paths["operational"].count("M") == 2
    assert dict(bars(days * 4, 5))["degraded"].count("M") == 2


def test_names_that_are_not_public_go_as_whole_words_only() -> None:
    """Longer names first, so that none is cut in two."""
    clean = cleaner(("old", "old-gate"))
    assert clean("OLD-GATE, bold and old.") == (
        "a controlled runtime component, bold and a controlled runtime component."
    )
    assert PLAIN("old") == "old"


def test_a_state_that_nobody_can_tell_is_unknown() -> None:
    """And says so."""
    view = status_view(None, PLAIN)
    assert view.state == UNKNOWN
    assert view.summary
