"""Quotas as messages: from requests to limits, and from limits and how they stand to what callers see."""

from __future__ import annotations

import math
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.gateway.v1 import quota_service_pb2 as pb
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.quota.claims import CONCURRENT, Standing
from tokendance_server.domain.quota.quotas import QuotaView
from tokendance_server.domain.quota.store import SubjectKind
from tokendance_server.domain.quota.windows import window_end, window_start
from tokendance_server.services.key_messages import limit_messages, limits_of, timestamp

_KINDS = {
    pb.SUBJECT_KIND_KEY: SubjectKind.KEY,
    pb.SUBJECT_KIND_MEMBER: SubjectKind.MEMBER,
    pb.SUBJECT_KIND_TEAM: SubjectKind.TEAM,
    pb.SUBJECT_KIND_ORGANIZATION: SubjectKind.ORGANIZATION,
}


def wanted_limits(quota: pb.Quota) -> tuple[LimitRule, ...]:
    """Return the limits that a request states; how they stand is the gateway's to say, and not looked at."""
    return limits_of(one.rule for one in quota.limits)


def subject_kind(number: pb.SubjectKind.ValueType) -> SubjectKind | None:
    """Return the kind that a list is narrowed to, or None. Raises invalid_request."""
    if number == pb.SUBJECT_KIND_UNSPECIFIED:
        return None
    kind = _KINDS.get(number)
    if kind is None:
        raise invalid("subject_kind", "is not a kind that this version of the gateway knows")
    return kind


def quota_message(view: QuotaView, now: datetime) -> pb.Quota:
    """Return a quota as callers see it at a time."""
    quota = view.quota
    return pb.Quota(
        subject=quota.subject,
        display_name=quota.display_name,
        limits=[_limit(standing, now.timestamp()) for standing in view.standings],
        update_time=None if quota.update_time is None else timestamp(quota.update_time),
        etag=quota.etag,
    )


def _limit(standing: Standing, now: float) -> pb.QuotaLimit:
    rule = standing.row.rule
    (message,) = limit_messages([rule])
    view = pb.QuotaLimit(rule=message, spent=standing.spent, held=standing.held, remaining=standing.left)
    if rule.metric == CONCURRENT:
        return view
    start, end = window_start(rule.window, standing.window), window_end(rule.window, standing.window)
    if start is not None:
        view.window_start_time.CopyFrom(_at(start))
    if standing.wait_s is not None:
        end = now + standing.wait_s
    if end is not None:
        view.reset_time.CopyFrom(_at(end))
    if start is not None and end is not None and standing.spent:
        reached = start + (now - start) * rule.limit / standing.spent
        if now <= reached < end:
            view.projected_exhaust_time.CopyFrom(_at(reached))
    return view


def _at(seconds: float) -> Timestamp:
    return Timestamp(seconds=math.ceil(seconds))
