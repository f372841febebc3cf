"""Limits as people write them."""

import pytest

from tokendance.gateway.v1 import quota_pb2 as pb
from tokendance_cli.failures import CommandError
from tokendance_cli.limits import limit_text, parse_limit


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "requests/minute=60",
            pb.LimitRule(metric=pb.LIMIT_METRIC_REQUESTS, window=pb.LIMIT_WINDOW_MINUTE, limit=60),
        ),
        (
            "cost/month=25.5,soft",
            pb.LimitRule(metric=pb.LIMIT_METRIC_COST_MICROS, window=pb.LIMIT_WINDOW_MONTH, limit=25_500_000, soft=True),
        ),
        ("concurrent-requests=4", pb.LimitRule(metric=pb.LIMIT_METRIC_CONCURRENT_REQUESTS, limit=4)),
        (
            "total-tokens/total=0,model=meta/small",
            pb.LimitRule(metric=pb.LIMIT_METRIC_TOTAL_TOKENS, window=pb.LIMIT_WINDOW_TOTAL, model="meta/small"),
        ),
    ],
)
def test_limit_is_read_and_written_alike(text: str, rule: pb.LimitRule) -> None:
    """What is read is shown in the same words."""
    assert parse_limit(text) == rule
    assert parse_limit(limit_text(rule)) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "requests=60",
        "requests/minute",
        "requests/minute=-1",
        "requests/minute=1.5",
        "requests/minute=many",
        "requests/minute=9223372036854775808",
        "requests/minute=NaN",
        "requests/minute=Infinity",
        "requests/year=1",
        "money/month=1",
        "concurrent-requests/minute=1",
        "cost/day=0.0000001",
        "requests/minute=1,hard",
    ],
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    """The line says how a limit is written."""
    with pytest.raises(CommandError) as caught:
        parse_limit(text)
    assert caught.value.exit_code == 2
    assert any("requests/minute=60" in hint for hint in caught.value.hints)
