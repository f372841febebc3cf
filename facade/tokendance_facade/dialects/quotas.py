"""Quotas as JSON: the gateway's own form, for `GET /v1/quota`."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import quota_pb2
from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_facade.dialects.documents import Document


def encode(quota: pb.Quota, inherited: Iterable[pb.Quota]) -> bytes:
    """Return a key's own limits and, the nearest first, those of its owner, team and organization.

    Each limit tells what is spent, held and left, and when it starts anew (`reset_at`, RFC 3339; null where it never
    does by itself). Cost is in millionths of a US dollar.
    """
    return orjson.dumps({"object": "quota", **_quota(quota), "inherited": [_quota(one) for one in inherited]})


def _quota(quota: pb.Quota) -> Document:
    return {
        "subject": quota.subject,
        "display_name": quota.display_name,
        "limits": [_limit(limit) for limit in quota.limits],
    }


def _limit(limit: pb.QuotaLimit) -> Document:
    rule = limit.rule
    window = quota_pb2.LimitWindow.Name(rule.window).removeprefix("LIMIT_WINDOW_").lower()
    return {
        "metric": quota_pb2.LimitMetric.Name(rule.metric).removeprefix("LIMIT_METRIC_").lower(),
        "window": None if window == "unspecified" else window,
        "model": rule.model or None,
        "soft": rule.soft,
        "limit": rule.limit,
        "spent": limit.spent,
        "held": limit.held,
        "remaining": limit.remaining,
        "reset_at": _time(limit.reset_time) if limit.HasField("reset_time") else None,
        "projected_exhaust_at": _time(limit.projected_exhaust_time)
        if limit.HasField("projected_exhaust_time")
        else None,
    }


def _time(moment: Timestamp) -> str:
    return str(moment.ToJsonString())
