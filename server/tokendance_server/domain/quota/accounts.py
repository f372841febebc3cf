"""What a call's limits look like afterwards: to its caller, in its account, and to support, in its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import quota_pb2
from tokendance_server.domain.quota.claims import INPUT, OUTPUT, REQUESTS, TOTAL_TOKENS, Standing
from tokendance_server.domain.quota.refusals import metric_name, window_name
from tokendance_server.domain.quota.thresholds import soft_warnings
from tokendance_server.domain.quota.windows import MINUTE, window_end
from tokendance_server.domain.usage.entries import Consulted

_TOKEN_METRICS = (INPUT, OUTPUT, TOTAL_TOKENS)
_MINUTE_S = 60


def tell_rates(account: pb.CallAccount, standings: Sequence[Standing], taken: Callable[[int], int], now: float) -> None:
    """Put the tightest hard limits on requests and tokens into an account, and soft limits that near their end.

    `taken` tells what the call itself takes of a metric; `now` is in seconds since 1970.
    """
    for field, metrics in ((account.requests, (REQUESTS,)), (account.tokens, _TOKEN_METRICS)):
        hard = [one for one in standings if one.row.rule.metric in metrics and not one.row.rule.soft]
        if not hard:
            continue
        tightest = min(hard, key=lambda one: one.left / max(one.row.rule.limit, 1))
        rule = tightest.row.rule
        field.limit = rule.limit
        field.remaining = max(tightest.left - taken(rule.metric), 0)
        end = now + _MINUTE_S if rule.window == MINUTE else window_end(rule.window, tightest.window)
        if end is not None:
            field.reset.FromMilliseconds(max(int((end - now) * 1000), 0))
    for one in soft_warnings(standings):
        rule = one.row.rule
        window = window_name(rule.window)
        share = (one.spent + one.held) * 100 // max(rule.limit, 1)
        account.quota_warnings.append(f"{metric_name(rule.metric)}{f'/{window}' if window else ''}={share}%")


def consulted(standings: Sequence[Standing]) -> list[Consulted]:
    """Return limits as a call met them."""
    return [
        Consulted(
            subject=one.row.subject,
            metric=one.row.rule.metric,
            window=one.row.rule.window,
            limit=one.row.rule.limit,
            soft=one.row.rule.soft,
            model=one.row.rule.model,
            spent=one.spent,
            held=one.held,
        )
        for one in standings
    ]


def refused_by(error: BaseException | None) -> list[Consulted]:
    """Return the limit that refused a call, as its error tells it; none where it was refused for another reason."""
    if not isinstance(error, GatewayError) or "metric" not in error.metadata:
        return []
    told = error.metadata
    return [
        Consulted(
            subject=told["subject"],
            metric=quota_pb2.LimitMetric.Value(f"LIMIT_METRIC_{told['metric'].upper()}"),
            window=quota_pb2.LimitWindow.Value(f"LIMIT_WINDOW_{(told['window'] or 'unspecified').upper()}"),
            limit=int(told["limit"]),
            model=told["model"],
            spent=int(told["spent"]),
            held=int(told["held"]),
            asked=int(told["asked"]),
            refused=True,
        )
    ]
