"""The policy of an organization, read and changed; and what a caller prefers for itself."""

from __future__ import annotations

import functools
import zoneinfo
from dataclasses import replace

from tokendance_server.domain.audit.events import AUTOMATIC, Origin
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.keys.rules import DAY_S, LONGEST_PERIOD_S, check_limit, check_text, invalid, missing
from tokendance_server.domain.names import child_of, organization_of, policy_of
from tokendance_server.domain.people.audited import people_event
from tokendance_server.domain.people.records import IssuanceRule, KeyFate, Policy, Preferences
from tokendance_server.domain.people.rules import check_etag, check_not_erased, failed, nothing_here
from tokendance_server.domain.people.store import PeopleStore, Tenant
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.scopes import changes_all, in_scope

_SHORTEST_REVEAL_S, _LONGEST_REVEAL_S = 3600, 30 * 86_400
_MOST_RULES = 50
_MOST_TAGS = 100
_SHORTEST_LIFETIME_S = 3600


class Policies:
    """What is done with policies. Every method raises not_found for what is outside the caller's scope."""

    def __init__(self, store: PeopleStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def get(self, caller: Principal, name: str) -> Policy:
        """Return a policy; the default one where none was set."""
        organization_id = policy_of(name, "name")
        if not in_scope(caller, organization_id):
            raise nothing_here("policy")
        async with self._store.tenant(organization_id) as tenant:
            if await tenant.organization() is None:
                raise nothing_here("policy")
            return await tenant.policy()

    async def update(
        self,
        caller: Principal,
        name: str,
        wanted: Policy,
        fields: frozenset[str],
        *,
        owner: str = "",
        etag: str = "",
        origin: Origin = AUTOMATIC,
    ) -> Policy:
        """Take over the named fields; `owner` is the resource name for `orphaned_keys_owner_id`.

        Raises invalid_request, not_found for the owner, failed_precondition for one who is stopped, version_conflict.
        """
        organization_id = policy_of(name, "policy.name")
        if not changes_all(caller, organization_id):
            raise nothing_here("policy", "policy.name")
        if "orphaned_keys_owner_id" in fields and owner:
            owner_organization, owner_id = child_of(owner, "members", "policy.orphaned_keys_owner")
            if owner_organization != organization_id:
                raise missing("policy.orphaned_keys_owner", "member")
            wanted = replace(wanted, orphaned_keys_owner_id=owner_id)
        now = self._clock.now()
        async with self._store.tenant(organization_id) as tenant:
            organization = await tenant.organization()
            if organization is None:
                raise nothing_here("policy", "policy.name")
            check_not_erased(organization, "policy.name")
            before = await tenant.policy()
            check_etag(before, etag)
            after = replace(before, **{field: getattr(wanted, field) for field in fields})
            _check(after)
            if after.orphaned_keys_owner_id != before.orphaned_keys_owner_id and after.orphaned_keys_owner_id:
                member = await tenant.member(after.orphaned_keys_owner_id)
                if member is None:
                    raise missing("policy.orphaned_keys_owner", "member")
                if not member.works:
                    raise failed("Keys go to a member who is neither suspended nor out.", "policy.orphaned_keys_owner")
            await _require_teams(tenant, after, before)
            if after != before:
                after = replace(after, update_time=now, version=before.version + 1)
                await tenant.put(after, now, people_event(caller, origin, "policy.update", before, after, time=now))
        return after


class PreferenceDesk:
    """What callers prefer, each for itself."""

    def __init__(self, store: PeopleStore) -> None:
        self._store = store

    async def get(self, caller: Principal) -> Preferences:
        """Return the caller's preferences."""
        return await self._store.preferences(caller.name)

    async def update(self, caller: Principal, wanted: Preferences, fields: frozenset[str]) -> Preferences:
        """Take over the named fields. Raises invalid_request, and not_found for an organization out of scope."""
        before = await self._store.preferences(caller.name)
        after = replace(before, **{field: getattr(wanted, field) for field in fields})
        if "time_zone" in fields and after.time_zone and after.time_zone not in _time_zones():
            raise invalid("preferences.time_zone", "must be an IANA name such as Europe/Berlin")
        if "default_organization" in fields and after.default_organization:
            param = "preferences.default_organization"
            organization_id = organization_of(after.default_organization, param)
            if not in_scope(caller, organization_id):
                raise nothing_here("organization", param)
            async with self._store.tenant(organization_id) as tenant:
                if await tenant.organization() is None:
                    raise nothing_here("organization", param)
        if after != before:
            await self._store.set_preferences(caller.name, after)
        return after


async def _require_teams(tenant: Tenant, after: Policy, before: Policy) -> None:
    known = {team_id for rule in before.issuance_rules for team_id in rule.teams}
    for index, rule in enumerate(after.issuance_rules):
        for place, team_id in enumerate(rule.teams):
            if team_id not in known and await tenant.team(team_id) is None:
                raise missing(f"policy.issuance_rules[{index}].teams[{place}]", "team")


def _check(policy: Policy) -> None:
    period = policy.reveal_period_s
    if period is not None and not _SHORTEST_REVEAL_S <= period <= _LONGEST_REVEAL_S:
        raise invalid("policy.reveal_period", "must be from 1 hour to 30 days")
    longest = policy.max_rotation_period_s
    if longest is not None and not DAY_S <= longest <= LONGEST_PERIOD_S:
        raise invalid("policy.max_rotation_period", "must be from 1 day to 3,650 days")
    if policy.max_key_lifetime_s is not None and policy.max_key_lifetime_s < _SHORTEST_LIFETIME_S:
        raise invalid("policy.max_key_lifetime", "must be 1 hour or more")
    if (policy.orphaned_keys is KeyFate.REASSIGN) != bool(policy.orphaned_keys_owner_id):
        raise invalid("policy.orphaned_keys_owner", "goes with reassigning the keys, and only with it")
    if len(policy.issuance_rules) > _MOST_RULES:
        raise invalid("policy.issuance_rules", f"must be at most {_MOST_RULES}")
    if len(policy.excluded_route_tags) > _MOST_TAGS:
        raise invalid("policy.excluded_route_tags", f"must be at most {_MOST_TAGS}")
    for index, tag in enumerate(policy.excluded_route_tags):
        check_text(tag, f"policy.excluded_route_tags[{index}]", 100, "the tag of a route")
    for index, rule in enumerate(policy.issuance_rules):
        _check_rule(rule, f"policy.issuance_rules[{index}]")


def _check_rule(rule: IssuanceRule, param: str) -> None:
    check_text(rule.display_name.strip() and rule.display_name, f"{param}.display_name", 100, "what people read")
    for index, model in enumerate(rule.models):
        check_text(model, f"{param}.models[{index}]", 256, "a public model name")
    for index, limit in enumerate(rule.quota_ceiling):
        check_limit(limit, f"{param}.quota_ceiling[{index}]")
    if rule.max_key_lifetime_s is not None and rule.max_key_lifetime_s <= 0:
        raise invalid(f"{param}.max_key_lifetime", "must be more than nothing, or absent for any")
    if rule.max_keys_per_member is not None and rule.max_keys_per_member < 1:
        raise invalid(f"{param}.max_keys_per_member", "must be 1 or more, or absent for any number")


@functools.cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
