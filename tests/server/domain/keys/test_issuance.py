"""Which requests for keys a policy's rule grants, bound by bound."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tokendance.gateway.v1 import quota_pb2 as q
from tokendance_server.domain.keys.issuance import granting_rule, grants
from tokendance_server.domain.keys.key import KeyDraft, KeyQuota, LimitRule
from tokendance_server.domain.people.records import IssuanceRule

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
RATE = LimitRule(q.LIMIT_METRIC_REQUESTS, q.LIMIT_WINDOW_MINUTE, 60)
COST = LimitRule(q.LIMIT_METRIC_COST_MICROS, q.LIMIT_WINDOW_MONTH, 5_000_000)


def _draft(*limits: LimitRule, **changes: Any) -> KeyDraft:
    quota = KeyQuota(limits=limits) if limits else KeyQuota(inherited_from="organizations/x")
    return replace(KeyDraft("x", "owner", "team", quota, 86_400, "owner"), **changes)


def _lives(seconds: int) -> dict[str, Any]:
    return {"expire_time": NOW + timedelta(seconds=seconds)}


@pytest.mark.parametrize(
    ("bounds", "draft", "granted"),
    [
        ({}, _draft(), True),
        ({"teams": ("team_a", "team_b")}, _draft(), True),
        ({"teams": ("team_b",)}, _draft(), False),
        ({"models": ("a", "b")}, _draft(allowed_models=("b",)), True),
        ({"models": ("a", "b")}, _draft(allowed_models=("b", "c")), False),
        ({"models": ("a", "b")}, _draft(allowed_models=()), False),
        ({"quota_ceiling": (RATE,)}, _draft(RATE), True),
        ({"quota_ceiling": (RATE,)}, _draft(COST, replace(RATE, limit=59)), True),
        ({"quota_ceiling": (RATE,)}, _draft(replace(RATE, limit=61)), False),
        ({"quota_ceiling": (RATE,)}, _draft(replace(RATE, soft=True)), False),
        ({"quota_ceiling": (replace(RATE, soft=True),)}, _draft(replace(RATE, soft=True)), True),
        ({"quota_ceiling": (RATE,)}, _draft(replace(RATE, window=q.LIMIT_WINDOW_HOUR)), False),
        ({"quota_ceiling": (RATE,)}, _draft(replace(RATE, model="a")), False),
        ({"quota_ceiling": (replace(RATE, model="a"),)}, _draft(RATE), True),
        ({"quota_ceiling": (RATE, COST)}, _draft(RATE), False),
        ({"quota_ceiling": (RATE, COST)}, _draft(COST, RATE), True),
        ({"quota_ceiling": (RATE,)}, _draft(), False),
        ({"max_key_lifetime_s": 60}, _draft(**_lives(60)), True),
        ({"max_key_lifetime_s": 60}, _draft(**_lives(61)), False),
        ({"max_key_lifetime_s": 60}, _draft(), False),
        ({"max_keys_per_member": 3}, _draft(), True),
        ({"max_keys_per_member": 2}, _draft(), False),
        ({"max_keys_per_member": 1}, _draft(), False),
    ],
)
def test_every_bound_must_hold(bounds: dict[str, Any], draft: KeyDraft, granted: bool) -> None:
    """Two keys are owned already; what a request leaves open is outside of any bound."""
    assert grants(IssuanceRule("r", **bounds), draft, "team_a", 2, NOW) is granted


def test_one_rule_is_enough_and_none_grants_nothing() -> None:
    """The first that holds is named."""
    rules = [IssuanceRule("others", ("team_b",)), IssuanceRule("ours", ("team_a",)), IssuanceRule("all")]
    found = granting_rule(rules, _draft(), "team_a", 0, NOW)
    assert found is not None
    assert found.display_name == "ours"
    assert granting_rule([], _draft(), "team_a", 0, NOW) is None
