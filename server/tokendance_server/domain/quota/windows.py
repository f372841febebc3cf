"""The times that limits count in: a minute slides, hours, days and months are of the calendar in UTC, a total is one.

Times are seconds since 1970. The id of a window is part of its counter's name, so that no counter has to be reset.
"""

from __future__ import annotations

from datetime import UTC, datetime

from tokendance.gateway.v1 import quota_pb2
from tokendance.gateway.v1.quota_pb2 import LimitWindow

MINUTE = quota_pb2.LIMIT_WINDOW_MINUTE
HOUR = quota_pb2.LIMIT_WINDOW_HOUR
DAY = quota_pb2.LIMIT_WINDOW_DAY
MONTH = quota_pb2.LIMIT_WINDOW_MONTH
TOTAL = quota_pb2.LIMIT_WINDOW_TOTAL

BUCKET_S = 5
"""A minute is counted in buckets of so many seconds."""
BUCKETS = 60 // BUCKET_S + 1
"""So many buckets, the one that runs included, cover every 60 seconds that end now."""

_FIXED = {HOUR: 3600, DAY: 86_400}


def window_id(window: LimitWindow.ValueType, now: float) -> int:
    """Return the number of the window that runs: of a minute that of its bucket, of a month year times 12 and so on."""
    if window == MINUTE:
        return int(now // BUCKET_S)
    length = _FIXED.get(window)
    if length is not None:
        return int(now // length)
    if window == MONTH:
        day = datetime.fromtimestamp(now, UTC)
        return day.year * 12 + day.month - 1
    return 0


def window_start(window: LimitWindow.ValueType, identity: int) -> float | None:
    """Return when a window began; None for a minute and for a total, which have no beginning that anybody sees."""
    length = _FIXED.get(window)
    if length is not None:
        return float(identity * length)
    if window == MONTH:
        return _month(identity)
    return None


def window_end(window: LimitWindow.ValueType, identity: int) -> float | None:
    """Return when a window ends and the next begins at nothing; None for a minute and for a total."""
    length = _FIXED.get(window)
    if length is not None:
        return float((identity + 1) * length)
    if window == MONTH:
        return _month(identity + 1)
    return None


def bucket_leaves(identity: int) -> float:
    """Return when a bucket of a minute counts no more."""
    return float((identity + BUCKETS) * BUCKET_S)


def _month(identity: int) -> float:
    return datetime(identity // 12, identity % 12 + 1, 1, tzinfo=UTC).timestamp()
