"""Keys as the audit trail tells of them: everything that an administrator decides, and nothing of a secret."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from tokendance.gateway.v1.quota_pb2 import LimitMetric, LimitWindow
from tokendance_server.domain.audit.events import EventDraft, Origin, event
from tokendance_server.domain.keys.key import Key, KeyQuota, LimitRule
from tokendance_server.domain.keys.request import KeyRequest
from tokendance_server.domain.names import child_name
from tokendance_server.domain.principals import Principal


def key_event(
    caller: Principal, origin: Origin, action: str, before: Key | None, after: Key, *, reason: str = ""
) -> EventDraft:
    """Return the event of a change of a key; `before` is None where it is new."""
    return event(
        caller,
        origin,
        organization_id=after.organization_id,
        time=after.update_time,
        action=action,
        resource=after.name,
        before=None if before is None else _document(before),
        after=_document(after),
        reason=reason,
    )


def request_event(
    caller: Principal,
    origin: Origin,
    action: str,
    before: KeyRequest | None,
    after: KeyRequest,
    *,
    time: datetime,
    reason: str = "",
) -> EventDraft:
    """Return the event of a change of a request for a key; `before` is None where it is new."""
    return event(
        caller,
        origin,
        organization_id=after.organization_id,
        time=time,
        action=action,
        resource=after.name,
        before=None if before is None else _request_document(before),
        after=_request_document(after),
        reason=reason,
    )


def _request_document(request: KeyRequest) -> dict[str, Any]:
    draft = request.draft
    return {
        "requester": request.requester,
        "state": request.state.value,
        "key": child_name(request.organization_id, "keys", request.key_id) if request.key_id else "",
        "purpose": draft.purpose,
        "owner": draft.owner,
        "team": draft.team,
        "quota": _quota_document(draft.quota),
        "rotation": {"period_s": draft.rotation_period_s, "responsible": draft.responsible},
        "expire_time": draft.expire_time,
        "allowed_models": list(draft.allowed_models),
        "allowed_networks": list(draft.allowed_networks),
        "labels": dict(draft.labels),
        "excluded_route_tags": list(draft.excluded_route_tags),
        "decided_by": request.decided_by,
        "reveal_expire_time": request.reveal_expire_time,
        "version": request.version,
    }


def _quota_document(quota: KeyQuota) -> dict[str, Any]:
    return {"inherited_from": quota.inherited_from, "limits": [_limit(rule) for rule in quota.limits]}


def _document(key: Key) -> dict[str, Any]:
    return {
        "purpose": key.purpose,
        "owner": child_name(key.organization_id, "members", key.owner_id),
        "team": child_name(key.organization_id, "teams", key.team_id),
        "quota": _quota_document(key.quota),
        "rotation": {
            "period_s": key.rotation.period_s,
            "responsible": child_name(key.organization_id, "members", key.rotation.responsible_id),
            "due_time": key.rotation.due_time,
        },
        "state": key.state.value,
        "expire_time": key.expire_time,
        "allowed_models": list(key.allowed_models),
        "allowed_networks": list(key.allowed_networks),
        "labels": dict(key.labels),
        "excluded_route_tags": list(key.excluded_route_tags),
        "rotate_time": key.rotate_time,
        "revoke_time": key.revoke_time,
        # When the secrets end that a rotation replaced; of a secret itself nothing is told.
        "secret_expire_times": [secret.expire_time for secret in key.secrets],
        "version": key.version,
    }


def _limit(rule: LimitRule) -> dict[str, Any]:
    return {**asdict(rule), "metric": LimitMetric.Name(rule.metric), "window": LimitWindow.Name(rule.window)}
