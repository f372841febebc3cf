"""Organizations, teams, members and policies as messages: from requests to what the domain takes, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1 import organization_pb2 as pb
from tokendance_server.domain.keys.rules import invalid, missing
from tokendance_server.domain.names import child_name, child_of, policy_of
from tokendance_server.domain.organizations import (
    Member,
    MemberRole,
    MemberState,
    Organization,
    OrganizationState,
    Team,
)
from tokendance_server.domain.people.erasure import Erased
from tokendance_server.domain.people.members import CountedMember
from tokendance_server.domain.people.records import (
    IssuanceRule,
    KeyFate,
    MemberDraft,
    OrganizationDraft,
    Policy,
    Preferences,
    TeamDraft,
)
from tokendance_server.domain.people.rules import etag_of
from tokendance_server.domain.people.teams import CountedTeam
from tokendance_server.services.key_messages import limit_messages, limits_of, timestamp, whole_seconds

Choice = TypeVar("Choice")

_STATES = {one: pb.OrganizationState.Value(f"ORGANIZATION_STATE_{one.name}") for one in OrganizationState}
_ROLES = {one: pb.MemberRole.Value(f"MEMBER_ROLE_{one.name}") for one in MemberRole}
_MEMBER_STATES = {one: pb.MemberState.Value(f"MEMBER_STATE_{one.name}") for one in MemberState}
_FATES = {one: pb.OrphanedKeys.Value(f"ORPHANED_KEYS_{one.name}") for one in KeyFate}

ORGANIZATION_FIELDS = {name: name for name in ("display_name", "contact", "labels")}
TEAM_FIELDS = {name: name for name in ("display_name", "description", "labels")}
MEMBER_FIELDS = {name: name for name in ("subject", "email", "display_name", "roles", "teams")}
PREFERENCE_FIELDS = {name: name for name in ("theme", "time_zone", "default_organization")}
POLICY_FIELDS = {
    "self_approval": "self_approval",
    "reveal_period": "reveal_period_s",
    "orphaned_keys": "orphaned_keys",
    "orphaned_keys_owner": "orphaned_keys_owner_id",
    "issuance_rules": "issuance_rules",
    "max_rotation_period": "max_rotation_period_s",
    "max_key_lifetime": "max_key_lifetime_s",
    "replay_disabled": "replay_disabled",
    "excluded_route_tags": "excluded_route_tags",
}
"""Per message: the paths of an update mask, and the field of the domain that each names."""
_POLICY_LATER = (*("stored_responses_enabled", "usage_retention"),)


_PERIODS: tuple[Literal["reveal_period", "max_rotation_period", "max_key_lifetime"], ...] = (
    "reveal_period",
    "max_rotation_period",
    "max_key_lifetime",
)


def require_new(message: Message, param: str, fields: Mapping[str, str]) -> None:
    """Raise invalid_request for a field of something new that only the gateway sets."""
    for field, _ in message.ListFields():
        if field.name not in fields:
            raise invalid(f"{param}.{field.name}", "is set by the gateway; leave it out")


def masked(paths: Iterable[str], message: Message, noun: str, fields: Mapping[str, str]) -> frozenset[str]:
    """Return the domain's names of the fields that an update mask names. Raises invalid_request."""
    known = {field.name for field in message.DESCRIPTOR.fields}
    named: set[str] = set()
    for path in paths:
        shown = path[:100]
        if path in fields:
            named.add(fields[path])
        elif path in known:
            raise invalid("update_mask", f"must not name {shown!r}, which is set by the gateway")
        else:
            raise invalid("update_mask", f"names {shown!r}, which is no field of {noun} that can change")
    if not named:
        raise invalid("update_mask", "must name what to change")
    return frozenset(named)


def policy_mask(paths: Iterable[str], message: pb.Policy) -> frozenset[str]:
    """Return the domain's names of the fields of a policy. Raises invalid_request, and unimplemented for some."""
    listed = list(paths)
    for path in listed:
        if path in _POLICY_LATER:
            raise GatewayError(
                errors_pb2.ERROR_REASON_UNIMPLEMENTED,
                f"policy.{path} is not in force in this version of the gateway; leave it out.",
                param="update_mask",
            )
    return masked(listed, message, "a policy", POLICY_FIELDS)


def organization_draft(one: pb.Organization) -> OrganizationDraft:
    """Return what is asked for."""
    return OrganizationDraft(one.display_name, one.contact, dict(one.labels))


def organization_message(one: Organization) -> pb.Organization:
    """Return an organization as callers see it."""
    return pb.Organization(
        name=one.name,
        display_name=one.display_name,
        state=_STATES[one.state],
        labels=one.labels,
        contact=one.contact,
        create_time=timestamp(one.create_time),
        update_time=_changed(one),
        etag=etag_of(one),
    )


def organization_state(number: pb.OrganizationState.ValueType) -> OrganizationState | None:
    """Return the state that a list is narrowed to, or None. Raises unimplemented."""
    return _of(_STATES, number, "state")


def team_draft(one: pb.Team) -> TeamDraft:
    """Return what is asked for."""
    return TeamDraft(one.display_name, one.description, dict(one.labels))


def team_message(counted: CountedTeam) -> pb.Team:
    """Return a team as callers see it."""
    one = counted.team
    return pb.Team(
        name=one.name,
        display_name=one.display_name,
        description=one.description,
        labels=one.labels,
        member_count=counted.members,
        key_count=counted.keys,
        create_time=timestamp(one.create_time),
        update_time=_changed(one),
        etag=etag_of(one),
    )


def member_draft(one: pb.Member) -> MemberDraft:
    """Return what is asked for. Raises invalid_request for a role that is none."""
    roles = []
    for index, number in enumerate(one.roles):
        role = _of(_ROLES, number, f"member.roles[{index}]")
        if role is None:
            raise invalid(f"member.roles[{index}]", "must be a role")
        roles.append(role)
    return MemberDraft(one.subject, one.email, one.display_name, tuple(roles), tuple(one.teams))


def member_message(counted: CountedMember) -> pb.Member:
    """Return a member as callers see it."""
    one = counted.member
    return pb.Member(
        name=one.name,
        subject=one.subject,
        email=one.email,
        display_name=one.display_name,
        roles=[_ROLES[role] for role in one.roles],
        teams=[child_name(one.organization_id, "teams", team_id) for team_id in one.team_ids],
        state=_MEMBER_STATES[one.state],
        key_count=counted.keys,
        create_time=timestamp(one.create_time),
        update_time=_changed(one),
        etag=etag_of(one),
    )


def member_role(number: pb.MemberRole.ValueType) -> MemberRole | None:
    """Return the role that a list is narrowed to, or None."""
    return _of(_ROLES, number, "role")


def member_state(number: pb.MemberState.ValueType) -> MemberState | None:
    """Return the state that a list is narrowed to, or None."""
    return _of(_MEMBER_STATES, number, "state")


def key_fate(number: pb.OrphanedKeys.ValueType, param: str) -> KeyFate | None:
    """Return what becomes of keys, or None where nothing is said."""
    return _of(_FATES, number, param)


def policy_values(one: pb.Policy) -> Policy:
    """Return the new values of a policy, but for the resource name of who gets keys.

    Raises invalid_request, and not_found for a team of another organization than that of the policy's name.
    """
    reveal, rotation, lifetime = (
        whole_seconds(getattr(one, field), f"policy.{field}") if one.HasField(field) else None for field in _PERIODS
    )
    rules = [
        _issuance_rule(rule, one.name, f"policy.issuance_rules[{index}]")
        for index, rule in enumerate(one.issuance_rules)
    ]
    fate = key_fate(one.orphaned_keys, "policy.orphaned_keys")
    return Policy(
        "",
        one.self_approval,
        reveal,
        fate,
        issuance_rules=tuple(rules),
        max_rotation_period_s=rotation,
        max_key_lifetime_s=lifetime,
        replay_disabled=one.replay_disabled,
        excluded_route_tags=tuple(one.excluded_route_tags),
    )


def _issuance_rule(rule: pb.IssuanceRule, policy: str, param: str) -> IssuanceRule:
    organization_id, team_ids = policy_of(policy, "policy.name"), []
    for index, name in enumerate(rule.teams):
        team_organization, team_id = child_of(name, "teams", f"{param}.teams[{index}]")
        if team_organization != organization_id:
            raise missing(f"{param}.teams[{index}]", "team")
        team_ids.append(team_id)
    has_lifetime = rule.HasField("max_key_lifetime")
    return IssuanceRule(
        rule.display_name,
        tuple(team_ids),
        tuple(rule.models),
        limits_of(rule.quota_ceiling),
        whole_seconds(rule.max_key_lifetime, f"{param}.max_key_lifetime") if has_lifetime else None,
        rule.max_keys_per_member if rule.HasField("max_keys_per_member") else None,
    )


def _issuance_rule_message(rule: IssuanceRule, organization_id: str) -> pb.IssuanceRule:
    view = pb.IssuanceRule(
        display_name=rule.display_name,
        teams=[child_name(organization_id, "teams", team_id) for team_id in rule.teams],
        models=rule.models,
        quota_ceiling=limit_messages(rule.quota_ceiling),
        max_keys_per_member=rule.max_keys_per_member,
    )
    if rule.max_key_lifetime_s is not None:
        view.max_key_lifetime.FromSeconds(rule.max_key_lifetime_s)
    return view


def policy_message(one: Policy) -> pb.Policy:
    """Return a policy as callers see it."""
    owner = one.orphaned_keys_owner_id
    view = pb.Policy(
        name=one.name,
        self_approval=one.self_approval,
        orphaned_keys=pb.ORPHANED_KEYS_UNSPECIFIED if one.orphaned_keys is None else _FATES[one.orphaned_keys],
        orphaned_keys_owner=child_name(one.organization_id, "members", owner) if owner else "",
        issuance_rules=[_issuance_rule_message(rule, one.organization_id) for rule in one.issuance_rules],
        replay_disabled=one.replay_disabled,
        excluded_route_tags=one.excluded_route_tags,
        update_time=timestamp(one.update_time),
        etag=etag_of(one),
    )
    for field in _PERIODS:
        seconds = getattr(one, f"{field}_s")
        if seconds is not None:
            getattr(view, field).FromSeconds(seconds)
    return view


def erasure_message(one: Erased) -> pb.ErasureSummary:
    """Return what an erasure did, as callers see it."""
    left = one.traces
    return pb.ErasureSummary(
        members=one.members,
        keys=left.keys,
        usage_records=left.usage_records,
        audit_events=left.audit_events,
        stored_answers=left.stored_answers,
    )


def preference_values(one: pb.Preferences) -> Preferences:
    """Return the new values of preferences."""
    return Preferences(one.theme, one.time_zone, one.default_organization)


def preferences_message(one: Preferences) -> pb.Preferences:
    """Return preferences as callers see them."""
    theme: pb.Theme.ValueType = one.theme  # type: ignore[assignment]
    return pb.Preferences(theme=theme, time_zone=one.time_zone, default_organization=one.default_organization)


def _changed(one: Organization | Team | Member) -> Timestamp | None:
    return timestamp(one.update_time or one.create_time)


def _of(table: Mapping[Choice, int], number: int, param: str) -> Choice | None:
    if not number:
        return None
    for choice, known in table.items():
        if known == number:
            return choice
    raise invalid(param, "is a value that this version of the gateway does not use")
