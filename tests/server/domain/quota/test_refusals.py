"""What a caller is told that a limit refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.quota.claims import (
    CONCURRENT,
    COST,
    OUTPUT,
    REQUESTS,
    TOTAL_TOKENS,
    Refusal,
    Standing,
    row_of,
)
from tokendance_server.domain.quota.refusals import metric_name, refusal_error, reset_of, window_name
from tokendance_server.domain.quota.windows import DAY, HOUR, MINUTE, MONTH, TOTAL, window_id

NOW = datetime(2026, 2, 28, 23, 30, tzinfo=UTC).timestamp()
ORGANIZATION = "organizations/org_1"


def standing(
    metric: int, window: int, limit: int, spent: int, held: int = 0, *, model: str = "", subject: str = ORGANIZATION
) -> Standing:
    """How a limit stands now."""
    rule = LimitRule(metric, window, limit, model=model)  # type: ignore[arg-type]
    return Standing(row_of(subject, rule), window_id(rule.window, NOW), spent, held)


@pytest.mark.parametrize(
    ("found", "asked", "code", "wait"),
    [
        (standing(REQUESTS, DAY, 5, 5), 1, "quota_exceeded", None),
        (standing(COST, MONTH, 100, 90), 20, "budget_exceeded", None),
        (standing(COST, MONTH, 100, 50, 40), 20, "quota_held", 2),
        (standing(TOTAL_TOKENS, TOTAL, 10, 0), 11, "quota_exceeded", None),
        (standing(CONCURRENT, 0, 2, 0, 2), 1, "concurrency_limit_exceeded", 1),
        (standing(REQUESTS, MINUTE, 5, 5)._replace(wait_s=12.2), 1, "rate_limit_exceeded", 13),
        (standing(REQUESTS, MINUTE, 5, 5)._replace(wait_s=0.0), 1, "rate_limit_exceeded", 1),
        (standing(REQUESTS, MINUTE, 5, 5)._replace(wait_s=65.0), 1, "rate_limit_exceeded", 60),
        # No minute ever has room for it: waiting would be in vain.
        (standing(OUTPUT, MINUTE, 5, 0), 6, "quota_exceeded", None),
        (standing(REQUESTS, TOTAL, 0, 0), 1, "quota_exceeded", None),
    ],
)
def test_each_kind_of_limit_has_its_code(found: Standing, asked: int, code: str, wait: int | None) -> None:
    """And only what waiting cures says how long to wait."""
    error = refusal_error(Refusal(found, asked), NOW)
    assert (error.code, error.retry_after_s) == (code, wait)


def test_it_tells_all_that_is_known() -> None:
    """For people in one sentence, for programs in the metadata."""
    found = standing(OUTPUT, DAY, 12_000, 11_000, 900, model="small", subject=f"{ORGANIZATION}/teams/team_1")
    error = refusal_error(Refusal(found, 1_001), NOW)
    assert error.message == (
        "The team is at its limit of 12,000 output tokens a day of small: 11,000 spent, 900 held, 1,001 asked for. "
        "Wait until 2026-03-01T00:00:00Z, or ask an administrator of the organization to raise the limit."
    )
    assert error.metadata == {
        "subject": f"{ORGANIZATION}/teams/team_1",
        "metric": "output_tokens",
        "window": "day",
        "model": "small",
        "limit": "12000",
        "spent": "11000",
        "held": "900",
        "asked": "1001",
        "reset_at": "2026-03-01T00:00:00Z",
        "remedy": "Wait until 2026-03-01T00:00:00Z, or ask an administrator of the organization to raise the limit.",
    }


@pytest.mark.parametrize(
    ("subject", "noun"),
    [
        (ORGANIZATION, "organization"),
        (f"{ORGANIZATION}/keys/key_1", "API key"),
        (f"{ORGANIZATION}/members/user_1", "user"),
        (f"{ORGANIZATION}/teams/team_1", "team"),
    ],
)
def test_whose_limit_it_is(subject: str, noun: str) -> None:
    """In a person's words."""
    error = refusal_error(Refusal(standing(REQUESTS, TOTAL, 1, 1, subject=subject), 1), NOW)
    assert error.message.startswith(f"The {noun} is at its limit of 1 requests in all")
    assert error.metadata["reset_at"] == ""


@pytest.mark.parametrize(
    ("found", "when"),
    [
        (standing(REQUESTS, HOUR, 1, 1), "2026-03-01T00:00:00Z"),
        (standing(REQUESTS, MONTH, 1, 1), "2026-03-01T00:00:00Z"),
        (standing(REQUESTS, TOTAL, 1, 1), ""),
        (standing(CONCURRENT, 0, 1, 0, 1), ""),
        (standing(REQUESTS, MINUTE, 1, 1), ""),
        (standing(REQUESTS, MINUTE, 1, 1)._replace(wait_s=30.5), "2026-02-28T23:30:31Z"),
    ],
)
def test_when_it_starts_anew(found: Standing, when: str) -> None:
    """Of a calendar window its end, of a minute when there is room, and nothing where there is no such time."""
    assert reset_of(found, NOW) == when


def test_names_for_programs() -> None:
    """As they are written in bodies and headers."""
    assert [metric_name(COST), metric_name(CONCURRENT)] == ["cost_micros", "concurrent_requests"]
    assert [window_name(MINUTE), window_name(0)] == ["minute", ""]  # type: ignore[arg-type]
