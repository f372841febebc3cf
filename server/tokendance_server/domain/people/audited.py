"""Organizations, teams, members and policies as the audit trail tells of them.

What tells who somebody is lies beside the event, so that it can be erased: the event holds a salted digest of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from tokendance.gateway.v1.quota_pb2 import LimitMetric, LimitWindow
from tokendance_server.domain.audit.events import AUTOMATIC, PLATFORM, EventDraft, Origin, PersonalData, event
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.names import child_name
from tokendance_server.domain.organizations import Member, Organization, Team
from tokendance_server.domain.people.records import IssuanceRule, KeyFate, Policy, Traces
from tokendance_server.domain.people.store import Record
from tokendance_server.domain.principals import Principal

_KEY_ACTIONS = {KeyFate.SUSPEND: "key.suspend", KeyFate.REVOKE: "key.revoke", KeyFate.REASSIGN: "key.reassign"}


@dataclass(frozen=True, slots=True)
class Settled:
    """How the keys of a member fared; `owner_id` is who got them, for REASSIGN."""

    fate: KeyFate
    owner_id: str


def people_event(
    caller: Principal,
    origin: Origin,
    action: str,
    before: Record | None,
    after: Record | None,
    *,
    time: datetime,
    reason: str = "",
    changed_keys: Sequence[str] = (),
) -> EventDraft:
    """Return the event of a change of one record, for its organization's chain; one of the two may be None.

    `changed_keys` are the names of the keys that changed with a member.
    """
    record = after or before
    assert record is not None
    organization_id = record.id if isinstance(record, Organization) else record.organization_id
    more = {"changed_keys": list(changed_keys)} if changed_keys else {}
    return event(
        caller,
        origin,
        organization_id=organization_id,
        time=time,
        action=action,
        resource=record.name,
        before=None if before is None else _document(before),
        after=None if after is None else {**_document(after), **more},
        reason=reason,
        personal=(*_personal("before", before), *_personal("after", after)),
    )


def erasure_event(
    caller: Principal,
    origin: Origin,
    before: Member | Organization,
    after: Member | Organization,
    traces: Traces,
    *,
    members: int = 0,
) -> EventDraft:
    """Return the event of an erasure, which names nobody; that of an organization belongs to the platform's chain.

    `members` were erased with an organization. Time and reason are left to the caller.
    """
    whole = isinstance(before, Organization)
    counts = {"keys": traces.keys, "audit_events": traces.audit_events, **({"members": members} if whole else {})}
    former = _document(before)
    if whole:
        # What an organization was called and labelled goes with it.
        former = {"state": before.state.value, "version": before.version}
    return event(
        caller,
        origin,
        organization_id=PLATFORM if isinstance(before, Organization) else before.organization_id,
        time=before.create_time,
        action="organization.erase" if whole else "member.erase",
        resource=before.name,
        before=former,
        after={**_document(after), "erased": counts},
    )


def key_fate_events(
    caller: Principal, origin: Origin, member: Member, keys: Sequence[str], settled: Settled, *, time: datetime
) -> list[EventDraft]:
    """Return one event for each key that fared with its owner: automatic, by the policy or by what was asked for."""
    automatic = Origin(origin.request_id, AUTOMATIC.source)
    after = {"state": "revoked" if settled.fate is KeyFate.REVOKE else "suspended"}
    if settled.fate is KeyFate.REASSIGN:
        after = {"owner": child_name(member.organization_id, "members", settled.owner_id)}
    return [
        event(
            caller,
            automatic,
            organization_id=member.organization_id,
            time=time,
            action=_KEY_ACTIONS[settled.fate],
            resource=name,
            before={"owner": member.name},
            after=after,
            reason="Its owner was stopped.",
        )
        for name in keys
    ]


def _personal(part: Literal["before", "after"], record: Record | None) -> tuple[PersonalData, ...]:
    fields: Mapping[str, str] = {}
    if isinstance(record, Member):
        fields = {"subject": record.subject, "email": record.email, "display_name": record.display_name}
    elif isinstance(record, Organization):
        fields = {"contact": record.contact}
    if record is None or not any(fields.values()):
        return ()
    return (PersonalData(part, record.name, fields),)


def _document(record: Record) -> dict[str, Any]:
    document: dict[str, Any]
    match record:
        case Organization():
            document = {
                "display_name": record.display_name,
                "state": record.state.value,
                "labels": dict(record.labels),
            }
        case Team():
            document = {
                "display_name": record.display_name,
                "description": record.description,
                "labels": dict(record.labels),
            }
        case Member():
            document = {
                "roles": [role.value for role in record.roles],
                "teams": [child_name(record.organization_id, "teams", one) for one in record.team_ids],
                "state": record.state.value,
            }
        case Policy():
            document = _policy(record)
    return {**document, "version": record.version}


def _policy(policy: Policy) -> dict[str, Any]:
    document = asdict(policy)
    for own in ("organization_id", "update_time", "version"):
        del document[own]
    document["issuance_rules"] = [_rule(one) for one in policy.issuance_rules]
    return document


def _rule(rule: IssuanceRule) -> dict[str, Any]:
    return {**asdict(rule), "quota_ceiling": [_limit(one) for one in rule.quota_ceiling]}


def _limit(rule: LimitRule) -> dict[str, Any]:
    return {**asdict(rule), "metric": LimitMetric.Name(rule.metric), "window": LimitWindow.Name(rule.window)}
