"""Messages in words, pictures in SVG: exact, and without harm whatever somebody is called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from tokendance.gateway.v1 import keys_service_pb2, quota_pb2
from tokendance_facade import charts
from tokendance_facade.console import words
from tokendance_facade.console.pages.audit import changes
from tokendance_facade.console.pages.requests import limit_rule
from tokendance_facade.console.pages.usage import plain

HOSTILE = '"><script>alert(1)</script>&{{7*7}}'
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "$0.00"), (1, "$0.000001"), (9_999, "$0.009999"), (2_500_000, "$2.50"), (10**12, "$1,000,000.00")],
)
def test_money_is_never_rounded_to_nothing(micros: int, text: str) -> None:
    """Small amounts have all their digits."""
    assert words.money(micros) == text


def test_limits_read_as_phrases() -> None:
    """With window, model and softness where there are any."""
    rule = quota_pb2.LimitRule(
        metric=quota_pb2.LIMIT_METRIC_REQUESTS, window=quota_pb2.LIMIT_WINDOW_DAY, limit=1000, model="m", soft=True
    )
    assert words.rule(rule) == "1,000 requests a day for m, soft"
    cost = quota_pb2.LimitRule(
        metric=quota_pb2.LIMIT_METRIC_COST_MICROS, window=quota_pb2.LIMIT_WINDOW_MONTH, limit=2_500_000
    )
    assert words.rule(cost) == "$2.50 a month"


def test_states_are_words() -> None:
    """Unknown ones too: a newer server has more of them."""
    assert words.key_state(keys_service_pb2.KEY_STATE_REVOKED).state == "revoked"
    assert words.key_state(99).state == "unknown"


def test_heights_are_read_in_the_unit_of_their_metric() -> None:
    """Dollars where it is cost, whole numbers elsewhere, and nothing by guessing."""
    assert limit_rule("5", "4", "$2.50", "limit").limit == 2_500_000
    assert limit_rule("1", "3", "1,000", "limit").limit == 1000
    assert limit_rule("6", "3", "5", "limit").window == quota_pb2.LIMIT_WINDOW_UNSPECIFIED
    for height in ("", "many", "-1", "1.5", "1e400", "nan"):
        with pytest.raises(Exception, match="whole number"):
            limit_rule("1", "3", height, "limit")


def test_changes_name_what_differs_alone() -> None:
    """And are short, however long the documents are."""
    assert (
        changes('{"a": 1, "b": "x", "version": 1}', '{"a": 1, "b": "y", "version": 2}') == "b: x \N{RIGHTWARDS ARROW} y"
    )
    assert changes("", '{"name": "new"}') == "name: new"
    assert changes("", "") == ""
    assert len(changes("{}", f'{{"a": "{"x" * 999}"}}')) < 100


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    """A spreadsheet shows what it says instead of doing it."""
    assert plain(text) == f"'{text}"
    assert plain("a=1") == "a=1"


def test_pictures_are_whole_and_escaped() -> None:
    """Each is one element with a name, whatever its series are called, and has nothing inline."""
    columns = charts.columns(HOSTILE, ["1", HOSTILE], [charts.Series(HOSTILE, [1, 2]), charts.Series("b", [0, 3])])
    day = timedelta(days=1)
    burn = charts.burn_down(
        HOSTILE, [(NOW, 40.0)], limit=100, start=NOW - day, end=NOW + day, exhausted=NOW + timedelta(hours=3)
    )
    for picture in (columns, burn, charts.meter(1, 2, 0)):
        assert "<script" not in picture
        assert "style=" not in picture
        ElementTree.fromstring(f"<figure>{picture}</figure>")
    assert 'class="projected"' in burn
    assert HOSTILE not in burn


def test_what_has_no_numbers_has_no_picture() -> None:
    """An empty picture would say that there is nothing where nothing is known."""
    assert charts.columns("x", [], []) == ""
    assert charts.burn_down("x", [], limit=0, start=NOW, end=NOW) == ""


@pytest.mark.parametrize("value", [0.0, 1.0, 99.0, 1e9, float("inf")])
def test_columns_fit_their_picture(value: float) -> None:
    """The highest one too."""
    picture = charts.columns("x", ["1"], [charts.Series("a", [value])])
    assert "nan" not in picture
