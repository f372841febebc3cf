"""Limits as people write them, such as `requests/minute=60` or `cost/month=25.50,soft,model=fast`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from tokendance.gateway.v1 import quota_pb2 as pb
from tokendance_cli.failures import USAGE, CommandError

_MICROS = 1_000_000
_METRICS = {
    "requests": pb.LIMIT_METRIC_REQUESTS,
    "input-tokens": pb.LIMIT_METRIC_INPUT_TOKENS,
    "output-tokens": pb.LIMIT_METRIC_OUTPUT_TOKENS,
    "total-tokens": pb.LIMIT_METRIC_TOTAL_TOKENS,
    "cost": pb.LIMIT_METRIC_COST_MICROS,
    "concurrent-requests": pb.LIMIT_METRIC_CONCURRENT_REQUESTS,
}
_WINDOWS = {
    "minute": pb.LIMIT_WINDOW_MINUTE,
    "hour": pb.LIMIT_WINDOW_HOUR,
    "day": pb.LIMIT_WINDOW_DAY,
    "month": pb.LIMIT_WINDOW_MONTH,
    "total": pb.LIMIT_WINDOW_TOTAL,
}


def parse_limit(text: str) -> pb.LimitRule:
    """Return the rule; cost is in US dollars, concurrent-requests has no window. Raises CommandError."""
    rule, *options = text.split(",")
    what, equals, amount = rule.partition("=")
    metric, slash, window = what.strip().partition("/")
    concurrent = metric == "concurrent-requests"
    if not equals or metric not in _METRICS or (window not in _WINDOWS if slash else not concurrent):
        raise _wrong(text)
    if concurrent and slash:
        raise _wrong(text)
    parsed = pb.LimitRule(metric=_METRICS[metric], limit=_amount(text, amount, money=metric == "cost"))
    if slash:
        parsed.window = _WINDOWS[window]
    for option in options:
        if option.strip() == "soft":
            parsed.soft = True
        elif option.strip().startswith("model="):
            parsed.model = option.strip().removeprefix("model=")
        else:
            raise _wrong(text)
    return parsed


def limit_text(rule: pb.LimitRule) -> str:
    """Return the rule as `parse_limit` reads it."""
    metric = next((name for name, value in _METRICS.items() if value == rule.metric), "unknown")
    window = next((f"/{name}" for name, value in _WINDOWS.items() if value == rule.window), "")
    amount = f"{Decimal(rule.limit) / _MICROS:f}" if rule.metric == pb.LIMIT_METRIC_COST_MICROS else str(rule.limit)
    soft = ",soft" if rule.soft else ""
    model = f",model={rule.model}" if rule.model else ""
    return f"{metric}{window}={amount}{soft}{model}"


def _amount(text: str, amount: str, *, money: bool) -> int:
    try:
        number = Decimal(amount.strip()) * (_MICROS if money else 1)
        whole = int(number)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise _wrong(text) from error
    if whole != number or not 0 <= whole < 2**63:
        raise _wrong(text)
    return whole


def _wrong(text: str) -> CommandError:
    return CommandError(
        f"{text!r} is no limit.",
        "Write METRIC/WINDOW=NUMBER, such as requests/minute=60 or cost/month=25.50 (US dollars);",
        f"metrics: {', '.join(_METRICS)}; windows: {', '.join(_WINDOWS)};",
        "concurrent-requests=NUMBER has no window; `,soft` only warns, `,model=NAME` counts one model alone.",
        exit_code=USAGE,
    )
