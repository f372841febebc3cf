"""What a policy says of keys: how long they may live, and which requests for them it grants by itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tokendance_server.domain.keys.key import KeyDraft, LimitRule
from tokendance_server.domain.keys.rules import invalid
from tokendance_server.domain.people.records import IssuanceRule, Policy

BOUND = frozenset({"rotation_period_s", "expire_time"})
"""What a policy bounds in every key."""


def check_bounds(policy: Policy, draft: KeyDraft, since: datetime, fields: frozenset[str] = BOUND) -> None:
    """Raise invalid_request for a key that outlives what the policy of its organization allows.

    Its life counts from `since`. Of a key that changes only the named `fields` are looked at.
    """
    longest = policy.max_rotation_period_s
    if "rotation_period_s" in fields and longest is not None and draft.rotation_period_s > longest:
        raise invalid("key.rotation.period", f"must be at most {longest} seconds, by the organization's policy")
    lifetime = policy.max_key_lifetime_s
    if "expire_time" in fields and lifetime is not None:
        latest = since + timedelta(seconds=lifetime)
        if draft.expire_time is None or draft.expire_time > latest:
            until = latest.isoformat(timespec="seconds").replace("+00:00", "Z")
            raise invalid("key.expire_time", f"must be {until} or sooner, by the organization's policy")


def granting_rule(
    rules: Sequence[IssuanceRule], draft: KeyDraft, team_id: str, owned_keys: int, now: datetime
) -> IssuanceRule | None:
    """Return the first rule that grants a draft to a member who owns so many keys, or None."""
    return next((rule for rule in rules if grants(rule, draft, team_id, owned_keys, now)), None)


def grants(rule: IssuanceRule, draft: KeyDraft, team_id: str, owned_keys: int, now: datetime) -> bool:
    """Tell whether a draft is inside every bound of a rule. What is left open is outside of any bound."""
    if rule.teams and team_id not in rule.teams:
        return False
    # A key that names no models may call all of them.
    if rule.models and not (draft.allowed_models and set(draft.allowed_models) <= set(rule.models)):
        return False
    if not all(any(_holds(limit, ceiling) for limit in draft.quota.limits) for ceiling in rule.quota_ceiling):
        return False
    if rule.max_key_lifetime_s is not None:
        latest = now + timedelta(seconds=rule.max_key_lifetime_s)
        if draft.expire_time is None or draft.expire_time > latest:
            return False
    return rule.max_keys_per_member is None or owned_keys < rule.max_keys_per_member


def _holds(limit: LimitRule, ceiling: LimitRule) -> bool:
    """Tell whether a limit keeps use below a ceiling: a soft one holds nothing, one on every model holds for each."""
    return (
        (limit.metric, limit.window) == (ceiling.metric, ceiling.window)
        and limit.model in ("", ceiling.model)
        and limit.limit <= ceiling.limit
        and (ceiling.soft or not limit.soft)
    )
