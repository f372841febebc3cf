"""What a new key must say of itself: each broken rule is an error that names the field."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance.gateway.v1.quota_pb2 import LIMIT_METRIC_CONCURRENT_REQUESTS, LIMIT_METRIC_UNSPECIFIED
from tokendance_server.domain.keys.key import Key, KeyDraft, LimitRule
from tokendance_server.domain.keys.networks import parse_network
from tokendance_server.domain.names import child_name, child_of, organization_name

DAY_S = 86_400
LONGEST_PERIOD_S = 3650 * DAY_S
_PURPOSE_CHARACTERS = 200
_MODELS, _MODEL_CHARACTERS = 1000, 256
_NETWORKS = 100
_LABELS, _LABEL_KEY_CHARACTERS, _LABEL_VALUE_CHARACTERS = 32, 63, 255
_TAGS, _TAG_CHARACTERS = 100, 63
_RULES = 32
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DraftIds:
    """The ids that a draft names, all within one organization."""

    owner_id: str
    team_id: str
    responsible_id: str


NOBODY = DraftIds("", "", "")
"""Stands for a key that was not there before."""


def draft_of(key: Key) -> KeyDraft:
    """Return what would have to be asked for to get a key as it is."""
    return KeyDraft(
        purpose=key.purpose,
        owner=child_name(key.organization_id, "members", key.owner_id),
        team=child_name(key.organization_id, "teams", key.team_id),
        quota=key.quota,
        rotation_period_s=key.rotation.period_s,
        responsible=child_name(key.organization_id, "members", key.rotation.responsible_id),
        expire_time=key.expire_time,
        allowed_models=key.allowed_models,
        allowed_networks=key.allowed_networks,
        labels=key.labels,
        excluded_route_tags=key.excluded_route_tags,
    )


def check_draft(draft: KeyDraft, organization_id: str, now: datetime) -> DraftIds:
    """Return the ids in a draft that keeps every rule; whether they exist is not asked here.

    Raises invalid_request with a `param` such as `key.purpose`, and not_found for names of another organization.
    """
    check_text(draft.purpose.strip() and draft.purpose, "key.purpose", _PURPOSE_CHARACTERS, "what the key is for")
    owner_id = _member_of(draft.owner, organization_id, "key.owner")
    _require(draft.team, "key.team", "the team that the key belongs to")
    team_organization, team_id = child_of(draft.team, "teams", "key.team")
    if team_organization != organization_id:
        raise missing("key.team", "team")
    _check_quota(draft, organization_id, team_id)
    _check_rotation_period(draft.rotation_period_s)
    responsible_id = _member_of(draft.responsible, organization_id, "key.rotation.responsible")
    if draft.expire_time is not None and draft.expire_time <= now:
        raise invalid("key.expire_time", "must be in the future, or absent for a key that never expires")
    _check_list(draft.allowed_models, "key.allowed_models", _MODELS, _MODEL_CHARACTERS)
    _check_list(draft.excluded_route_tags, "key.excluded_route_tags", _TAGS, _TAG_CHARACTERS)
    _check_networks(draft.allowed_networks)
    _check_labels(draft)
    return DraftIds(owner_id, team_id, responsible_id)


def fingerprint(draft: KeyDraft) -> bytes:
    """Return 32 bytes that differ for drafts that differ in anything."""
    fields = asdict(draft)
    fields["expire_time"] = draft.expire_time.isoformat() if draft.expire_time else None
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).digest()


def invalid(param: str, must: str) -> GatewayError:
    """Return invalid_request: the field and what it must be."""
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, f"{param} {must}.", param=param, origin="caller")


def missing(param: str, noun: str) -> GatewayError:
    """Return not_found for something that a field names."""
    return GatewayError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        f"{param} names a {noun} that this organization does not have.",
        param=param,
        origin="caller",
    )


def _require(value: str, param: str, meaning: str) -> None:
    if not value:
        raise invalid(param, f"is required: {meaning}")


def check_text(value: str, param: str, most: int, meaning: str) -> None:
    """Raise invalid_request for a text that is empty, longer than `most` characters or holds control characters."""
    _require(value, param, meaning)
    if len(value) > most:
        raise invalid(param, f"must have at most {most} characters")
    check_printable(value, param)


def check_printable(text: str, param: str) -> None:
    """Raise invalid_request for control characters in a text that may be empty, such as a reason or a request id."""
    if not is_printable(text):
        raise invalid(param, "must not hold control characters")


def is_printable(text: str) -> bool:
    """Tell whether a text can be shown and kept everywhere: no control characters, no lone surrogates."""
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)


def _member_of(name: str, organization_id: str, param: str) -> str:
    _require(name, param, "a member of the organization, as a resource name")
    member_organization, member_id = child_of(name, "members", param)
    if member_organization != organization_id:
        raise missing(param, "member")
    return member_id


def _check_quota(draft: KeyDraft, organization_id: str, team_id: str) -> None:
    quota = draft.quota
    if bool(quota.inherited_from) == bool(quota.limits):
        raise invalid("key.quota", "is required: either inherited_from, or limits of the key's own")
    if quota.inherited_from:
        subjects = (organization_name(organization_id), child_name(organization_id, "teams", team_id))
        if quota.inherited_from not in subjects:
            raise invalid("key.quota.inherited_from", "must be the key's team or its organization")
        return
    if len(quota.limits) > _RULES:
        raise invalid("key.quota.limits.rules", f"must be at most {_RULES}")
    seen: set[tuple[int, int, str]] = set()
    for index, rule in enumerate(quota.limits):
        check_limit(rule, f"key.quota.limits.rules[{index}]")
        identity = (rule.metric, rule.window, rule.model)
        if identity in seen:
            raise invalid(f"key.quota.limits.rules[{index}]", "repeats an earlier rule's metric, window and model")
        seen.add(identity)


def check_limit(rule: LimitRule, param: str) -> None:
    """Raise invalid_request for a limit that counts nothing."""
    if rule.metric == LIMIT_METRIC_UNSPECIFIED:
        raise invalid(f"{param}.metric", "is required: what is counted")
    if (rule.metric == LIMIT_METRIC_CONCURRENT_REQUESTS) == bool(rule.window):
        raise invalid(f"{param}.window", "is required, but for concurrent requests, which have none")
    if not 0 <= rule.limit <= _MOST:
        raise invalid(f"{param}.limit", "must be 0 or more")
    if rule.model:
        check_text(rule.model, f"{param}.model", _MODEL_CHARACTERS, "a public model name")


def _check_rotation_period(period_s: int) -> None:
    if not period_s:
        raise invalid("key.rotation.period", "is required: how long a secret may live")
    if not DAY_S <= period_s <= LONGEST_PERIOD_S:
        raise invalid("key.rotation.period", "must be from 1 day to 3,650 days")


def _check_list(values: Iterable[str], param: str, most: int, most_characters: int) -> None:
    listed = list(values)
    if len(listed) > most:
        raise invalid(param, f"must hold at most {most} entries")
    for index, value in enumerate(listed):
        check_text(value, f"{param}[{index}]", most_characters, "an empty entry means nothing")


def _check_networks(networks: tuple[str, ...]) -> None:
    if len(networks) > _NETWORKS:
        raise invalid("key.allowed_networks", f"must hold at most {_NETWORKS} entries")
    for index, text in enumerate(networks):
        try:
            parse_network(text)
        except ValueError as exc:
            raise invalid(
                f"key.allowed_networks[{index}]", "must be a network such as 192.0.2.0/24, with no bits behind its mask"
            ) from exc


def _check_labels(draft: KeyDraft) -> None:
    if len(draft.labels) > _LABELS:
        raise invalid("key.labels", f"must be at most {_LABELS}")
    for name, value in draft.labels.items():
        check_text(name, "key.labels", _LABEL_KEY_CHARACTERS, "a label needs a name")
        if value:
            check_text(value, f"key.labels[{name}]", _LABEL_VALUE_CHARACTERS, "a label's value")
