"""Windows of the calendar, in UTC, and buckets of a minute."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokendance_server.domain.quota.windows import (
    BUCKET_S,
    BUCKETS,
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    TOTAL,
    bucket_leaves,
    window_end,
    window_id,
    window_start,
)


def at(text: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (HOUR, "2026-02-28T23:59:59.999999", "2026-02-28T23:00:00", "2026-03-01T00:00:00"),
        (HOUR, "2026-03-01T00:00:00", "2026-03-01T00:00:00", "2026-03-01T01:00:00"),
        (DAY, "2026-02-28T23:59:59", "2026-02-28T00:00:00", "2026-03-01T00:00:00"),
        (MONTH, "2026-12-31T23:59:59", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        (MONTH, "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
    ],
)
def test_a_window_begins_and_ends_with_the_calendar(window: int, now: str, start: str, end: str) -> None:
    """Its last moment is in it, its end in the next."""
    identity = window_id(window, at(now))  # type: ignore[arg-type]
    assert window_start(window, identity) == at(start)  # type: ignore[arg-type]
    assert window_end(window, identity) == at(end)  # type: ignore[arg-type]
    assert window_id(window, at(end)) == identity + 1  # type: ignore[arg-type]


def test_a_total_has_one_window() -> None:
    """Which never ends."""
    assert window_id(TOTAL, at("2026-01-01")) == window_id(TOTAL, at("2036-01-01"))
    assert window_start(TOTAL, 0) is window_end(TOTAL, 0) is None


def test_buckets_cover_every_minute_that_ends_now() -> None:
    """What came within 60 seconds counts, and a bucket leaves when all in it is older."""
    now = at("2026-01-01T00:01:02.5")
    oldest = window_id(MINUTE, now) - BUCKETS + 1
    assert window_id(MINUTE, now - 60) >= oldest
    assert bucket_leaves(oldest) > now
    assert bucket_leaves(oldest - 1) <= now
    assert bucket_leaves(window_id(MINUTE, now)) - now <= 60 + BUCKET_S
