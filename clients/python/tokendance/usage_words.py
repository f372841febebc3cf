"""The words in which people ask for usage, the same in `GET /v1/usage` and in `tokendance usage`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tokendance.gateway.v1 import quota_service_pb2 as pb

_DIMENSIONS = {
    name.removeprefix("USAGE_DIMENSION_").lower(): number
    for name, number in pb.UsageDimension.items()
    if number not in (pb.USAGE_DIMENSION_UNSPECIFIED, pb.USAGE_DIMENSION_LABEL)
}
# What people call how a request ended.
_DIMENSIONS["status"] = pb.USAGE_DIMENSION_OUTCOME
_INTERVALS = {
    name.removeprefix("USAGE_INTERVAL_").lower(): number
    for name, number in pb.UsageInterval.items()
    if number != pb.USAGE_INTERVAL_UNSPECIFIED
}
_LABEL = "label:"
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_AGO = re.compile(r"(\d{1,5})([mhdw])")
_MOST_GROUPS = 4

WORDS = (*_INTERVALS, *_DIMENSIONS, f"{_LABEL}NAME")
"""What usage can be cut and grouped by: `hour`, `day`, `month`, `key`, …, and `label:NAME`."""


def grouping(words: Iterable[str]) -> tuple[list[pb.UsageGrouping], pb.UsageInterval.ValueType]:
    """Return the groups, at most 4, and the interval, at most one, of words from WORDS.

    Raises ValueError, whose text tells people what to write instead.
    """
    groups: list[pb.UsageGrouping] = []
    interval: pb.UsageInterval.ValueType = pb.USAGE_INTERVAL_UNSPECIFIED
    for word in words:
        if word in _INTERVALS:
            if interval:
                raise ValueError("Give one of hour, day and month, not several.")
            interval = _INTERVALS[word]
        elif word in _DIMENSIONS:
            groups.append(pb.UsageGrouping(dimension=_DIMENSIONS[word]))
        elif word.startswith(_LABEL) and len(word) > len(_LABEL):
            label = word.removeprefix(_LABEL)
            groups.append(pb.UsageGrouping(dimension=pb.USAGE_DIMENSION_LABEL, label=label))
        else:
            raise ValueError(f"Usage is grouped by {', '.join(WORDS)}; not by {word!r}.")
    if len(groups) > _MOST_GROUPS:
        raise ValueError(f"Group by at most {_MOST_GROUPS} things besides the interval.")
    return groups, interval


def columns(words: Iterable[str]) -> list[str]:
    """Return the words that make groups, in the order of a row's values: those that are no interval."""
    return [word for word in words if word not in _INTERVALS]


def moment(text: str, now: datetime) -> datetime:
    """Return a time, of which people write `2026-11-25`, ISO 8601 in full, or how long ago: `90m`, `24h`, `30d`, `4w`.

    Without an offset it is in UTC. Raises ValueError, whose text tells people what to write instead.
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time; write a day such as 2026-11-25, ISO 8601 such as 2026-11-25T08:00:00Z, "
            "or how long ago, such as 24h or 30d."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
