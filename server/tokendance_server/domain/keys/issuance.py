"""Which requests for keys a policy grants by itself: those inside all the bounds of one of its rules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tokendance_server.domain.keys.key import KeyDraft, LimitRule
from tokendance_server.domain.people.records import IssuanceRule


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
