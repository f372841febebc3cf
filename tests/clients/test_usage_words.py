"""The words for usage: what makes groups and intervals, and how people write times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance.usage_words import WORDS, columns, grouping, moment

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def test_words_make_groups_in_their_order_and_one_interval() -> None:
    """The interval is no group, wherever it stands."""
    groups, interval = grouping(["model", "day", "label:project"])
    assert interval == pb.USAGE_INTERVAL_DAY
    assert [one.dimension for one in groups] == [pb.USAGE_DIMENSION_MODEL, pb.USAGE_DIMENSION_LABEL]
    assert groups[1].label == "project"
    assert columns(["model", "day", "label:project"]) == ["model", "label:project"]


def test_every_dimension_and_interval_has_its_word() -> None:
    """What the schema gains later cannot be forgotten here. `status` is another word for `outcome`."""
    simple = [word for word in WORDS if ":" not in word and word != "status"]
    assert grouping(["status"]) == grouping(["outcome"])
    assert len(simple) == len(pb.UsageDimension.items()) - 2 + len(pb.UsageInterval.items()) - 1
    assert all(grouping([word]) for word in simple)


@pytest.mark.parametrize(
    "words", [["nothing"], ["label:"], ["hour", "day"], ["key", "member", "team", "model", "code"], [""]]
)
def test_other_words_are_refused(words: list[str]) -> None:
    """The text says what to write instead."""
    with pytest.raises(ValueError, match=r"Usage is grouped by|Give one of|at most 4"):
        grouping(words)


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T08:00:00+02:00", "2026-11-01T08:00:00+02:00"),
        ("2026-11-01T08:00:00Z", "2026-11-01T08:00:00+00:00"),
        ("90m", "2026-11-25T10:30:00+00:00"),
        ("24h", "2026-11-24T12:00:00+00:00"),
        ("1d", "2026-11-24T12:00:00+00:00"),
        ("4w", "2026-10-28T12:00:00+00:00"),
    ],
)
def test_times_as_people_write_them(text: str, iso: str) -> None:
    """Without an offset they are in UTC."""
    assert moment(text, NOW).isoformat() == iso


@pytest.mark.parametrize("text", ["", "yesterday", "30", "d", "-1d", "2026-13-01", "1y"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """The text says what to write instead."""
    with pytest.raises(ValueError, match="is no time"):
        moment(text, NOW)
