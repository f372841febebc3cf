"""The issuance rules of a policy as messages: what comes back, and what would not hold."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.server.services.test_organizations import Town, _code, _context

from tokendance.gateway.v1 import organization_pb2 as o
from tokendance.gateway.v1 import organizations_service_pb2 as pb
from tokendance.gateway.v1 import quota_pb2 as q

LIMIT = q.LimitRule(metric=q.LIMIT_METRIC_REQUESTS, window=q.LIMIT_WINDOW_MINUTE, limit=60, model="small")


@pytest.fixture
async def town() -> Town:
    """Two organizations."""
    return await Town().open()


def _update(town: Town, *rules: o.IssuanceRule) -> pb.UpdatePolicyRequest:
    policy = o.Policy(name=f"{town.home}/policy", issuance_rules=rules)
    return pb.UpdatePolicyRequest(policy=policy, update_mask=FieldMask(paths=["issuance_rules"]))


async def test_issuance_rules_come_back_as_they_were_put(town: Town) -> None:
    """Every bound, also the absent ones; an update without them takes them away."""
    full = o.IssuanceRule(
        display_name="Small keys, ü",
        teams=[town.ours.name],
        models=["small"],
        quota_ceiling=[LIMIT],
        max_keys_per_member=2,
    )
    full.max_key_lifetime.FromSeconds(86_400)
    update = _update(town, full, o.IssuanceRule(display_name="Any"))
    after = (await town.service.UpdatePolicy(update, _context(town.admin))).policy
    assert list(after.issuance_rules) == list(update.policy.issuance_rules)
    read = pb.GetPolicyRequest(name=f"{town.home}/policy")
    assert (await town.service.GetPolicy(read, _context(town.member))).policy == after
    assert not (await town.service.UpdatePolicy(_update(town), _context(town.admin))).policy.issuance_rules


async def test_bounds_of_every_key_come_back_and_go(town: Town) -> None:
    """Absent is none; and what would bound nothing sensible is refused."""
    paths = ["max_rotation_period", "max_key_lifetime"]
    policy = o.Policy(name=f"{town.home}/policy")
    policy.max_rotation_period.FromSeconds(86_400)
    policy.max_key_lifetime.FromSeconds(3600)
    request = pb.UpdatePolicyRequest(policy=policy, update_mask=FieldMask(paths=paths))
    after = (await town.service.UpdatePolicy(request, _context(town.admin))).policy
    assert (after.max_rotation_period.seconds, after.max_key_lifetime.seconds) == (86_400, 3600)
    assert not after.HasField("reveal_period")
    for path in paths:
        bad = pb.UpdatePolicyRequest(policy=policy, update_mask=FieldMask(paths=[path]))
        getattr(bad.policy, path).FromSeconds(3599)
        assert await _code(town.service.UpdatePolicy(bad, _context(town.admin))) == f"invalid_request policy.{path}"
    for path in paths:
        request.policy.ClearField(path)  # type: ignore[arg-type]
    after = (await town.service.UpdatePolicy(request, _context(town.admin))).policy
    assert not any(after.HasField(path) for path in paths)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"display_name": " "}, "invalid_request policy.issuance_rules[0].display_name"),
        ({"display_name": "a\r\nb"}, "invalid_request policy.issuance_rules[0].display_name"),
        ({"quota_ceiling": [q.LimitRule(limit=1)]}, "invalid_request policy.issuance_rules[0].quota_ceiling[0].metric"),
        ({"max_key_lifetime": {"seconds": 0}}, "invalid_request policy.issuance_rules[0].max_key_lifetime"),
        ({"max_key_lifetime": {"nanos": 1}}, "invalid_request policy.issuance_rules[0].max_key_lifetime"),
        ({"max_keys_per_member": 0}, "invalid_request policy.issuance_rules[0].max_keys_per_member"),
        ({"teams": ["%"]}, "invalid_request policy.issuance_rules[0].teams[0]"),
        ({"teams": ["ours", "abroad"]}, "not_found policy.issuance_rules[0].teams[1]"),
        ({"teams": ["nowhere"]}, "not_found policy.issuance_rules[0].teams[0]"),
    ],
)
async def test_rules_that_would_not_hold_are_refused(town: Town, values: dict[str, Any], code: str) -> None:
    """With the field at fault, and nothing is kept."""
    nowhere = town.ours.name[:-1] + ("0" if town.ours.name[-1] != "0" else "1")
    teams = {
        "ours": town.ours.name,
        "abroad": f"{town.abroad}/teams/{town.ours.name.rpartition('/')[2]}",
        "nowhere": nowhere,
    }
    named = {"teams": [teams.get(team, team) for team in values["teams"]]} if "teams" in values else {}
    rule = o.IssuanceRule(**{"display_name": "x", **values, **named})
    assert await _code(town.service.UpdatePolicy(_update(town, rule), _context(town.admin))) == code


async def test_fifty_rules_and_no_more(town: Town) -> None:
    """A policy stays readable."""
    rules = [o.IssuanceRule(display_name="x")] * 51
    refused = await _code(town.service.UpdatePolicy(_update(town, *rules), _context(town.admin)))
    assert refused == "invalid_request policy.issuance_rules"
    assert await _code(town.service.UpdatePolicy(_update(town, *rules[:50]), _context(town.admin))) == "ok"
