"""The Keys servicer: decode, one call of the domain, encode."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2, quota_pb2
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import keys_service_pb2_grpc as pb_grpc
from tokendance_server.domain.key import Key, KeyDraft, KeyQuota, KeyState, LimitRule
from tokendance_server.domain.keys import KeyQuery, Keys
from tokendance_server.domain.names import child_name
from tokendance_server.services.call import call_of
from tokendance_server.services.unimplemented import refuse_rest

Context = grpc.aio.ServicerContext[Any, Any]

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


@refuse_rest(pb.DESCRIPTOR.services_by_name["KeysService"])
class KeysService(pb_grpc.KeysServiceServicer):
    """Serves the making, reading, listing and checking of keys; the rest of their life comes with its own rules."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Context) -> pb.CreateKeyResponse:
        draft = _draft(request.key)
        key, secret = await self._keys.create(call_of(context).identity, request.parent, draft, request.request_id)
        return pb.CreateKeyResponse(key=self._encode(key), secret=secret)

    async def GetKey(self, request: pb.GetKeyRequest, context: Context) -> pb.GetKeyResponse:
        key = await self._keys.get(call_of(context).identity, request.name)
        return pb.GetKeyResponse(key=self._encode(key))

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        query = KeyQuery(
            parent=request.parent,
            page_size=request.page_size,
            page_token=request.page_token,
            team=request.team,
            owner=request.owner,
            state=_state_filter(request.state),
            rotation_overdue=request.rotation_overdue,
        )
        keys, next_page_token = await self._keys.list(call_of(context).identity, query)
        return pb.ListKeysResponse(keys=[self._encode(key) for key in keys], next_page_token=next_page_token)

    async def CheckKey(self, request: pb.CheckKeyRequest, context: Context) -> pb.CheckKeyResponse:
        key, error = await self._keys.check(request.secret)
        return pb.CheckKeyResponse(
            key=None if key is None else self._encode(key),
            valid=error is None,
            code="" if error is None else error.code,
        )

    def _encode(self, key: Key) -> pb.Key:
        return to_proto(key, self._keys.now())


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
            due_time=_timestamp(key.rotation.due_time),
        ),
        expire_time=_timestamp(key.expire_time),
        allowed_models=key.allowed_models,
        allowed_networks=key.allowed_networks,
        labels=key.labels,
        state=_STATES[key.state_at(now)],
        secret_prefix=key.secret_prefix,
        secret_suffix=key.secret_suffix,
        create_time=_timestamp(key.create_time),
        update_time=_timestamp(key.update_time),
        rotate_time=_timestamp(key.rotate_time),
        last_used_time=_timestamp(key.last_used_time),
        revoke_time=_timestamp(key.revoke_time),
        etag=key.etag,
        excluded_route_tags=key.excluded_route_tags,
    )
    view.rotation.period.FromSeconds(key.rotation.period_s)
    return view


def _draft(key: pb.Key) -> KeyDraft:
    given = {field.name for field, _ in key.ListFields()}
    for name in _SET_BY_GATEWAY:
        if name in given:
            raise _set_by_gateway(f"key.{name}")
    if key.rotation.HasField("due_time"):
        raise _set_by_gateway("key.rotation.due_time")
    if key.rotation.period.nanos:
        raise _invalid("key.rotation.period", "must be in whole seconds")
    return KeyDraft(
        purpose=key.purpose,
        owner=key.owner,
        team=key.team,
        quota=_quota(key.quota),
        rotation_period_s=key.rotation.period.seconds,
        responsible=key.rotation.responsible,
        expire_time=_time(key.expire_time, "key.expire_time") if key.HasField("expire_time") else None,
        allowed_models=tuple(key.allowed_models),
        allowed_networks=tuple(key.allowed_networks),
        labels=dict(key.labels),
        excluded_route_tags=tuple(key.excluded_route_tags),
    )


def _quota(quota: pb.KeyQuota) -> KeyQuota:
    rules = (
        LimitRule(rule.metric, rule.window, rule.limit, soft=rule.soft, model=rule.model) for rule in quota.limits.rules
    )
    return KeyQuota(inherited_from=quota.inherited_from, limits=tuple(rules))


def _quota_to_proto(quota: KeyQuota) -> pb.KeyQuota:
    if quota.inherited_from:
        return pb.KeyQuota(inherited_from=quota.inherited_from)
    rules = [
        quota_pb2.LimitRule(metric=rule.metric, window=rule.window, limit=rule.limit, soft=rule.soft, model=rule.model)
        for rule in quota.limits
    ]
    return pb.KeyQuota(limits=pb.KeyLimits(rules=rules))


def _state_filter(number: pb.KeyState.ValueType) -> KeyState | None:
    if number == pb.KEY_STATE_UNSPECIFIED:
        return None
    state = _STATES_BY_NUMBER.get(number)
    if state is None:
        raise _invalid("state", "is not a state that this version of the gateway knows")
    return state


def _timestamp(time: datetime | None) -> Timestamp | None:
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


def _invalid(param: str, must: str) -> GatewayError:
    return GatewayError(errors_pb2.ERROR_REASON_INVALID_REQUEST, f"{param} {must}.", param=param, origin="caller")
