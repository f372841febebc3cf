"""Refusals by a limit: which one, how it stands, when it is better, and what to do."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, quota_pb2
from tokendance_server.domain.quota.claims import CONCURRENT, COST, Refusal, Standing
from tokendance_server.domain.quota.windows import MINUTE, window_end

_LONGEST_WAIT_S = 60
_HELD_WAIT_S = 2
_NOUNS = {
    "keys": "API key",
    "members": "user",
    "teams": "team",
}
_METRICS = {
    quota_pb2.LIMIT_METRIC_REQUESTS: "requests",
    quota_pb2.LIMIT_METRIC_INPUT_TOKENS: "input tokens",
    quota_pb2.LIMIT_METRIC_OUTPUT_TOKENS: "output tokens",
    quota_pb2.LIMIT_METRIC_TOTAL_TOKENS: "tokens",
    quota_pb2.LIMIT_METRIC_COST_MICROS: "micro-dollars",
    quota_pb2.LIMIT_METRIC_CONCURRENT_REQUESTS: "requests at once",
}
_WINDOWS = {
    quota_pb2.LIMIT_WINDOW_MINUTE: " a minute",
    quota_pb2.LIMIT_WINDOW_HOUR: " an hour",
    quota_pb2.LIMIT_WINDOW_DAY: " a day",
    quota_pb2.LIMIT_WINDOW_MONTH: " a month",
    quota_pb2.LIMIT_WINDOW_TOTAL: " in all",
}


def metric_name(metric: quota_pb2.LimitMetric.ValueType) -> str:
    """Return a metric as people and programs write it, such as `input_tokens`."""
    return quota_pb2.LimitMetric.Name(metric).removeprefix("LIMIT_METRIC_").lower()


def window_name(window: quota_pb2.LimitWindow.ValueType) -> str:
    """Return a window as people and programs write it, such as `minute`; empty for none."""
    name = quota_pb2.LimitWindow.Name(window).removeprefix("LIMIT_WINDOW_").lower()
    return "" if name == "unspecified" else name


def refusal_error(refusal: Refusal, now: float) -> GatewayError:
    """Return the error of a refused call. `metadata` tells the limit, for programs; `now` is seconds since 1970.

    A spent quota is quota_exceeded or, of money, budget_exceeded, and a retry does not cure it. A minute's limit is
    rate_limit_exceeded, one that only running calls fill quota_held, and one of calls at once
    concurrency_limit_exceeded: with the seconds to wait.
    """
    standing, asked = refusal.standing, refusal.asked
    rule = standing.row.rule
    limit = f"{rule.limit:,} {_METRICS[rule.metric]}{_WINDOWS.get(rule.window, '')}"
    if rule.model:
        limit += f" of {rule.model}"
    whose = f"The {_noun(standing.row.subject)} is at its limit of {limit}"
    reset = reset_of(standing, now)
    wait = None
    if rule.metric == CONCURRENT:
        reason, remedy, wait = (
            errors_pb2.ERROR_REASON_CONCURRENCY_LIMIT_EXCEEDED,
            "Wait for a running request to end.",
            1,
        )
    elif rule.window == MINUTE and standing.wait_s is not None:
        reason = errors_pb2.ERROR_REASON_RATE_LIMIT_EXCEEDED
        wait = min(max(math.ceil(standing.wait_s), 1), _LONGEST_WAIT_S)
        remedy = f"Wait {wait} s, or send requests at a lower rate."
    elif standing.spent + asked <= rule.limit:
        reason, wait = errors_pb2.ERROR_REASON_QUOTA_HELD, _HELD_WAIT_S
        remedy = "Running requests hold the rest and will give back what they do not use; try again shortly."
    else:
        reason = (
            errors_pb2.ERROR_REASON_BUDGET_EXCEEDED if rule.metric == COST else errors_pb2.ERROR_REASON_QUOTA_EXCEEDED
        )
        when = f"Wait until {reset}, or ask" if reset else "Ask"
        remedy = f"{when} an administrator of the organization to raise the limit."
    return GatewayError(
        reason,
        f"{whose}: {standing.spent:,} spent, {standing.held:,} held, {asked:,} asked for. {remedy}",
        retry_after_s=wait,
        metadata=limit_metadata(standing) | {"asked": str(asked), "reset_at": reset, "remedy": remedy},
        origin="gateway",
    )


def limit_metadata(standing: Standing) -> dict[str, str]:
    """Return what tells a limit to programs."""
    rule = standing.row.rule
    return {
        "subject": standing.row.subject,
        "metric": metric_name(rule.metric),
        "window": window_name(rule.window),
        "model": rule.model,
        "limit": str(rule.limit),
        "spent": str(standing.spent),
        "held": str(standing.held),
    }


def reset_of(standing: Standing, now: float) -> str:
    """Return when a limit starts anew, or has room for one more in a minute: RFC 3339 in UTC; empty where never."""
    rule = standing.row.rule
    end = None
    if rule.metric != CONCURRENT:
        end = window_end(rule.window, standing.window)
        if standing.wait_s is not None:
            end = now + standing.wait_s
    if end is None:
        return ""
    return datetime.fromtimestamp(math.ceil(end), UTC).isoformat().replace("+00:00", "Z")


def unavailable() -> GatewayError:
    """Return the refusal of a call whose limits nobody can tell now."""
    return GatewayError(
        errors_pb2.ERROR_REASON_QUOTA_STORE_UNAVAILABLE,
        "The gateway cannot tell now how this key's limits stand, so it starts no call that they bound; try again.",
        retry_after_s=_HELD_WAIT_S,
    )


def _noun(subject: str) -> str:
    parts = subject.split("/")
    return _NOUNS.get(parts[2], "organization") if len(parts) > 2 else "organization"
