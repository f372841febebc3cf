"""Keys as messages: from a request to what the domain takes, and from a key to what callers see."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, quota_pb2
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance_server.domain.keys.key import Key, KeyDraft, KeyQuota, KeyState, LimitRule
from tokendance_server.domain.names import child_name

_STATES = {state: pb.KeyState.Value(f"KEY_STATE_{state.name}") for state in KeyState}
_STATES_BY_NUMBER = {number: state for state, number in _STATES.items()}
_SET_BY_GATEWAY = (
    "name",
    "state",
    "secret_prefix",
    "secret_suffix",
    "create_time",
    "update_time",
    "rotate_time",
    "last_used_time",
    "revoke_time",
    "etag",
)
_CHANGEABLE = {
    "purpose": ("purpose",),
    "owner": ("owner",),
    "team": ("team",),
    "quota": ("quota",),
    "rotation": ("rotation_period_s", "responsible"),
    "rotation.period": ("rotation_period_s",),
    "rotation.responsible": ("responsible",),
    "expire_time": ("expire_time",),
    "allowed_models": ("allowed_models",),
    "allowed_networks": ("allowed_networks",),
    "labels": ("labels",),
    "excluded_route_tags": ("excluded_route_tags",),
}
"""The paths of an update mask, and the fields of KeyDraft that each names."""


def to_proto(key: Key, now: datetime) -> pb.Key:
    """Return a key as callers see it at a time: without its secrets' digests."""
    view = pb.Key(
        name=key.name,
        purpose=key.purpose,
        owner=child_name(key.organization_id, "members", key.owner_id),
        team=child_name(key.organization_id, "teams", key.team_id),
        quota=_quota_to_proto(key.quota),
        rotation=pb.KeyRotation(
            responsible=child_name(key.organization_id, "members", key.rotation.responsible_id),
            due_time=timestamp(key.rotation.due_time),
        ),
        expire_time=timestamp(key.expire_time),
        allowed_models=key.allowed_models,
        allowed_networks=key.allowed_networks,
        labels=key.labels,
        state=_STATES[key.state_at(now)],
        secret_prefix=key.secret_prefix,
        secret_suffix=key.secret_suffix,
        create_time=timestamp(key.create_time),
        update_time=timestamp(key.update_time),
        rotate_time=timestamp(key.rotate_time),
        last_used_time=timestamp(key.last_used_time),
        revoke_time=timestamp(key.revoke_time),
        etag=key.etag,
        excluded_route_tags=key.excluded_route_tags,
    )
    view.rotation.period.FromSeconds(key.rotation.period_s)
    return view


def draft_message(draft: KeyDraft) -> pb.Key:
    """Return a key as it is asked for, which has nothing yet that the gateway sets."""
    view = pb.Key(
        purpose=draft.purpose,
        owner=draft.owner,
        team=draft.team,
        quota=_quota_to_proto(draft.quota),
        rotation=pb.KeyRotation(responsible=draft.responsible),
        expire_time=timestamp(draft.expire_time),
        allowed_models=draft.allowed_models,
        allowed_networks=draft.allowed_networks,
        labels=draft.labels,
        excluded_route_tags=draft.excluded_route_tags,
    )
    view.rotation.period.FromSeconds(draft.rotation_period_s)
    return view


def new_key(key: pb.Key) -> KeyDraft:
    """Return what is asked for in a new key. Raises invalid_request for a field that only the gateway sets."""
    given = {field.name for field, _ in key.ListFields()}
    for name in _SET_BY_GATEWAY:
        if name in given:
            raise _set_by_gateway(f"key.{name}")
    if key.rotation.HasField("due_time"):
        raise _set_by_gateway("key.rotation.due_time")
    return _draft(key)


def changed_key(key: pb.Key, paths: Iterable[str]) -> tuple[KeyDraft, frozenset[str]]:
    """Return the new values of a key, and the names of the KeyDraft fields that an update mask's paths change.

    What the mask does not name counts for nothing. Raises invalid_request for a path that is not there, is the
    gateway's own, or for none.
    """
    fields: set[str] = set()
    for path in paths:
        shown = path[:100]
        if path.partition(".")[0] in _SET_BY_GATEWAY or path == "rotation.due_time":
            raise _invalid("update_mask", f"must not name {shown!r}, which is set by the gateway", path=shown)
        if path not in _CHANGEABLE:
            raise _invalid("update_mask", f"names {shown!r}, which is no field of a key", path=shown)
        fields.update(_CHANGEABLE[path])
    if not fields:
        raise _invalid("update_mask", "must name what to change")
    wanted = pb.Key()
    wanted.CopyFrom(key)
    # A value that is not taken over cannot be wrong either.
    if "expire_time" not in fields:
        wanted.ClearField("expire_time")
    if "rotation_period_s" not in fields:
        wanted.rotation.ClearField("period")
    return _draft(wanted), frozenset(fields)


def whole_seconds(duration: Duration, param: str) -> int:
    """Return a duration in seconds. Raises invalid_request for a fraction of one."""
    if duration.nanos:
        raise _invalid(param, "must be in whole seconds")
    return duration.seconds


def _draft(key: pb.Key) -> KeyDraft:
    return KeyDraft(
        purpose=key.purpose,
        owner=key.owner,
        team=key.team,
        quota=_quota(key.quota),
        rotation_period_s=whole_seconds(key.rotation.period, "key.rotation.period"),
        responsible=key.rotation.responsible,
        expire_time=_time(key.expire_time, "key.expire_time") if key.HasField("expire_time") else None,
        allowed_models=tuple(key.allowed_models),
        allowed_networks=tuple(key.allowed_networks),
        labels=dict(key.labels),
        excluded_route_tags=tuple(key.excluded_route_tags),
    )


def limits_of(rules: Iterable[quota_pb2.LimitRule]) -> tuple[LimitRule, ...]:
    """Return limits as the domain has them."""
    return tuple(LimitRule(one.metric, one.window, one.limit, soft=one.soft, model=one.model) for one in rules)


def limit_messages(rules: Iterable[LimitRule]) -> list[quota_pb2.LimitRule]:
    """Return limits as messages."""
    return [
        quota_pb2.LimitRule(metric=one.metric, window=one.window, limit=one.limit, soft=one.soft, model=one.model)
        for one in rules
    ]


def _quota(quota: pb.KeyQuota) -> KeyQuota:
    return KeyQuota(inherited_from=quota.inherited_from, limits=limits_of(quota.limits.rules))


def _quota_to_proto(quota: KeyQuota) -> pb.KeyQuota:
    if quota.inherited_from:
        return pb.KeyQuota(inherited_from=quota.inherited_from)
    return pb.KeyQuota(limits=pb.KeyLimits(rules=limit_messages(quota.limits)))


def state_filter(number: pb.KeyState.ValueType) -> KeyState | None:
    """Return the state that a list is narrowed to, or None. Raises invalid_request."""
    if number == pb.KEY_STATE_UNSPECIFIED:
        return None
    state = _STATES_BY_NUMBER.get(number)
    if state is None:
        raise _invalid("state", "is not a state that this version of the gateway knows")
    return state


def timestamp(time: datetime | None) -> Timestamp | None:
    """Return a time as a message; None stays None."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _time(stamp: Timestamp, param: str) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as exc:
        raise _invalid(param, "is out of range") from exc


def _set_by_gateway(param: str) -> GatewayError:
    return _invalid(param, "is set by the gateway; leave it out")


def _invalid(param: str, must: str, **metadata: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_INVALID_REQUEST, f"{param} {must}.", param=param, metadata=metadata, origin="caller"
    )
