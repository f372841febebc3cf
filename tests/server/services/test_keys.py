"""The Keys servicer: what is decoded, what is encoded, and who sees what."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import quota_pb2 as q
from tokendance.ids import new_id
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.requests import KeyRequests
from tokendance_server.domain.keys.secrets import PepperRing, mint
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.names import organization_name
from tokendance_server.domain.organizations import FirstNames, Organizations
from tokendance_server.domain.principals import Principal
from tokendance_server.services.call import Call, Trust
from tokendance_server.services.keys import KeysService
from tokendance_server.stores.memory import MemoryKeyStore, MemoryOrganizationStore
from tokendance_server.stores.memory_key_requests import MemoryKeyRequestStore
from tokendance_server.stores.memory_people import MemoryPeopleStore

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPERATOR = Principal(kinds=frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), name="local-operator")


def _context(principal: Principal) -> Call:
    inner: Any = SimpleNamespace()
    call = Call(inner, "/tokendance.gateway.v1.KeysService/x", Trust.OPERATOR, 0.0)
    call.principal = principal
    return call


class Desk:
    """The servicer over stores in memory, with the names of the first start."""

    def __init__(self, names: FirstNames, service: KeysService, verifier: Verifier, clock: ManualClock) -> None:
        self.names = names
        self.service = service
        self.verifier = verifier
        self.clock = clock

    def wanted(self) -> pb.Key:
        key = pb.Key(
            purpose="Reports",
            owner=self.names.member,
            team=self.names.team,
            quota=pb.KeyQuota(inherited_from=self.names.organization),
            rotation=pb.KeyRotation(responsible=self.names.member),
        )
        key.rotation.period.FromSeconds(90 * 86_400)
        return key

    async def create(self, key: pb.Key, request_id: str = "") -> pb.CreateKeyResponse:
        request = pb.CreateKeyRequest(parent=self.names.organization, key=key, request_id=request_id)
        return await self.service.CreateKey(request, _context(OPERATOR))


@pytest.fixture
async def desk() -> Desk:
    """An empty gateway after its first start."""
    clock = ManualClock(START)
    records = MemoryOrganizationStore()
    organizations = Organizations(records, clock)
    names = await organizations.bootstrap()
    assert names is not None
    store, peppers = MemoryKeyStore(), PepperRing.of(bytes(range(32)))
    verifier = Verifier(store, peppers, clock, lambda: True)
    keys = Keys(store, organizations, peppers, clock, verifier.forget)
    life = KeyLife(keys, store, organizations, peppers, clock, changed=verifier.forget)
    requests = KeyRequests(
        MemoryKeyRequestStore(MemoryPeopleStore(records, store)), peppers, clock, changed=verifier.forget
    )
    service = KeysService(keys, life, verifier, requests)
    return Desk(names, service, verifier, clock)


async def test_a_key_is_created_as_asked_for_and_shown_with_what_the_gateway_set(desk: Desk) -> None:
    """Every field that a caller may give comes back, and the secret works."""
    wanted = desk.wanted()
    wanted.ClearField("quota")
    wanted.quota.limits.rules.add(metric=q.LIMIT_METRIC_REQUESTS, window=q.LIMIT_WINDOW_MINUTE, limit=60, soft=True)
    wanted.quota.limits.rules.add(metric=q.LIMIT_METRIC_CONCURRENT_REQUESTS, limit=4, model="demo-echo")
    wanted.expire_time.FromJsonString("2026-12-31T23:59:59.123456Z")
    wanted.allowed_models.extend(["demo-echo", "other"])
    wanted.allowed_networks.append("10.0.0.0/8")
    wanted.labels["env"] = "ünï"
    wanted.excluded_route_tags.append("eu")
    answer = await desk.create(wanted)
    key = answer.key
    assert (await desk.verifier.verify(answer.secret)).name == key.name
    assert MessageToDict(key) == {
        **MessageToDict(wanted),
        "name": key.name,
        "rotation": {**MessageToDict(wanted.rotation), "dueTime": "2026-08-30T12:00:00Z"},
        "state": "KEY_STATE_ACTIVE",
        "secretPrefix": answer.secret[:8],
        "secretSuffix": answer.secret[-4:],
        "createTime": "2026-06-01T12:00:00Z",
        "updateTime": "2026-06-01T12:00:00Z",
        "rotateTime": "2026-06-01T12:00:00Z",
        "etag": '"1"',
    }
    got = await desk.service.GetKey(pb.GetKeyRequest(name=key.name), _context(OPERATOR))
    assert got.key == key


async def test_a_repeat_shows_no_secret(desk: Desk) -> None:
    """The first answer is the only place where it is."""
    first, again = await desk.create(desk.wanted(), "r"), await desk.create(desk.wanted(), "r")
    assert first.secret
    assert not again.secret
    assert again.key == first.key


@pytest.mark.parametrize(
    ("change", "param"),
    [
        (lambda key: setattr(key, "name", "organizations/x/keys/y"), "key.name"),
        (lambda key: setattr(key, "state", pb.KEY_STATE_ACTIVE), "key.state"),
        (lambda key: setattr(key, "secret_prefix", "tdk_"), "key.secret_prefix"),
        (lambda key: setattr(key, "secret_suffix", "x"), "key.secret_suffix"),
        (lambda key: key.create_time.FromSeconds(1), "key.create_time"),
        (lambda key: key.update_time.FromSeconds(1), "key.update_time"),
        (lambda key: key.rotate_time.FromSeconds(1), "key.rotate_time"),
        (lambda key: key.last_used_time.FromSeconds(1), "key.last_used_time"),
        (lambda key: key.revoke_time.FromSeconds(1), "key.revoke_time"),
        (lambda key: setattr(key, "etag", "1"), "key.etag"),
        (lambda key: key.rotation.due_time.FromSeconds(1), "key.rotation.due_time"),
        (lambda key: setattr(key.rotation.period, "nanos", 1), "key.rotation.period"),
        (lambda key: setattr(key.expire_time, "seconds", 10**15), "key.expire_time"),
        (lambda key: key.ClearField("purpose"), "key.purpose"),
        (lambda key: key.ClearField("owner"), "key.owner"),
        (lambda key: key.ClearField("team"), "key.team"),
        (lambda key: key.ClearField("quota"), "key.quota"),
        (lambda key: key.rotation.ClearField("period"), "key.rotation.period"),
        (lambda key: key.rotation.ClearField("responsible"), "key.rotation.responsible"),
    ],
)
async def test_what_is_missing_or_not_the_callers_to_set_is_named(
    desk: Desk, change: Callable[[pb.Key], None], param: str
) -> None:
    """Required fields are required, and fields of the gateway are refused, not ignored."""
    key = desk.wanted()
    change(key)
    with pytest.raises(GatewayError) as caught:
        await desk.create(key)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


async def test_lists_go_page_by_page_and_by_state(desk: Desk) -> None:
    """The state shown and the state asked for agree, expiry included."""
    expiring = desk.wanted()
    expiring.expire_time.FromDatetime(START.replace(hour=13))
    names = [(await desk.create(key)).key.name for key in (desk.wanted(), desk.wanted(), expiring)]
    request = pb.ListKeysRequest(parent=desk.names.organization, page_size=2)
    first = await desk.service.ListKeys(request, _context(OPERATOR))
    request.page_token = first.next_page_token
    second = await desk.service.ListKeys(request, _context(OPERATOR))
    assert [key.name for key in [*first.keys, *second.keys]] == sorted(names, reverse=True)
    assert second.next_page_token == ""
    desk.clock.advance(3600)
    by_state = pb.ListKeysRequest(parent="organizations/-", state=pb.KEY_STATE_EXPIRED)
    expired = await desk.service.ListKeys(by_state, _context(OPERATOR))
    assert [(key.name, key.state) for key in expired.keys] == [(names[2], pb.KEY_STATE_EXPIRED)]
    by_state.state = 99  # type: ignore[assignment] # as a newer client sends it
    with pytest.raises(GatewayError) as caught:
        await desk.service.ListKeys(by_state, _context(OPERATOR))
    assert caught.value.param == "state"


async def test_other_organizations_see_nothing(desk: Desk) -> None:
    """Neither a key nor that there is one."""
    key = (await desk.create(desk.wanted())).key
    stranger = Principal(
        kinds=frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN}),
        name="stranger",
        organization=organization_name(new_id("org")),
    )
    with pytest.raises(GatewayError) as caught:
        await desk.service.GetKey(pb.GetKeyRequest(name=key.name), _context(stranger))
    assert caught.value.code == "not_found"
    everything = await desk.service.ListKeys(pb.ListKeysRequest(parent="organizations/-"), _context(stranger))
    assert not everything.keys


async def test_a_secret_is_checked_without_being_repeated(desk: Desk) -> None:
    """Whose it is, whether it works, and if not, why by code."""
    expiring = desk.wanted()
    expiring.expire_time.FromDatetime(START.replace(hour=13))
    made = await desk.create(expiring)

    async def check(secret: str) -> pb.CheckKeyResponse:
        answer = await desk.service.CheckKey(pb.CheckKeyRequest(secret=secret), _context(OPERATOR))
        assert secret not in str(answer)
        return answer

    good = await check(made.secret)
    assert (good.key.name, good.valid, good.code) == (made.key.name, True, "")
    desk.clock.advance(3600)
    expired = await check(made.secret)
    assert (expired.key.name, expired.valid, expired.code) == (made.key.name, False, "key_expired")
    for secret, code in ((mint(), "invalid_api_key"), ("sk-ant-abc", "provider_key_not_accepted")):
        other = await check(secret)
        assert (other.HasField("key"), other.valid, other.code) == (False, False, code)


async def test_a_key_is_updated_by_mask(desk: Desk) -> None:
    """What the mask names is taken over or cleared; everything else in the request counts for nothing."""
    wanted = desk.wanted()
    wanted.labels["env"] = "old"
    wanted.expire_time.FromDatetime(START.replace(hour=13))
    made = (await desk.create(wanted)).key
    # Also what no request may set, and what would be wrong: it is not in the mask.
    change = pb.Key(name=made.name, purpose="New", owner="x", state=pb.KEY_STATE_REVOKED, secret_prefix="x")
    change.quota.limits.rules.add(metric=q.LIMIT_METRIC_REQUESTS, window=q.LIMIT_WINDOW_DAY, limit=5)
    change.rotation.period.FromSeconds(30 * 86_400)
    change.rotation.period.nanos = 0
    request = pb.UpdateKeyRequest(key=change)
    request.update_mask.paths.extend(["purpose", "quota", "rotation.period", "expire_time", "labels", "labels"])
    desk.clock.advance(60)
    changed = (await desk.service.UpdateKey(request, _context(OPERATOR))).key
    expected = pb.Key()
    expected.CopyFrom(made)
    expected.purpose = "New"
    expected.quota.CopyFrom(change.quota)
    expected.rotation.period.FromSeconds(30 * 86_400)
    expected.rotation.due_time.FromJsonString("2026-07-01T12:00:00Z")
    expected.update_time.FromJsonString("2026-06-01T12:01:00Z")
    expected.ClearField("expire_time")
    expected.labels.clear()
    expected.etag = '"2"'
    assert changed == expected
    request.update_mask.paths[:] = ["rotation"]
    request.key.rotation.responsible = desk.names.member
    request.key.etag = made.etag
    with pytest.raises(GatewayError) as caught:
        await desk.service.UpdateKey(request, _context(OPERATOR))
    assert (caught.value.code, caught.value.param) == ("version_conflict", "etag")
    request.key.etag = changed.etag
    assert (await desk.service.UpdateKey(request, _context(OPERATOR))).key == changed


@pytest.mark.parametrize(
    "path",
    [
        *("", "*", "name", "etag", "state", "secret_prefix", "create_time", "last_used_time", "revoke_time.seconds"),
        *("rotation.due_time", "quota.limits", "Purpose", "expireTime", "%", "purpose,owner", "x" * 10_000),
        "name." + "x" * 10_000,
    ],
)
async def test_a_mask_names_fields_that_are_the_callers_to_set(desk: Desk, path: str) -> None:
    """Nothing is ignored in silence; a mask without a path is none."""
    made = (await desk.create(desk.wanted())).key
    request = pb.UpdateKeyRequest(key=pb.Key(name=made.name, purpose="New"))
    request.update_mask.paths.extend(["purpose", path] if path else [])
    with pytest.raises(GatewayError) as caught:
        await desk.service.UpdateKey(request, _context(OPERATOR))
    assert (caught.value.code, caught.value.param) == ("invalid_request", "update_mask")
    assert len(caught.value.message) < 200
    got = await desk.service.GetKey(pb.GetKeyRequest(name=made.name), _context(OPERATOR))
    assert got.key == made


async def test_what_an_update_leaves_alone_cannot_be_wrong(desk: Desk) -> None:
    """A client may send a whole key back that it cannot read itself."""
    made = (await desk.create(desk.wanted())).key
    request = pb.UpdateKeyRequest(key=pb.Key(name=made.name, purpose="New"))
    request.key.rotation.period.nanos = 1
    request.key.expire_time.seconds = 10**15
    request.update_mask.paths.append("purpose")
    assert (await desk.service.UpdateKey(request, _context(OPERATOR))).key.purpose == "New"
    for path, param in (("rotation", "key.rotation.period"), ("expire_time", "key.expire_time")):
        request.update_mask.paths[:] = [path]
        with pytest.raises(GatewayError) as caught:
            await desk.service.UpdateKey(request, _context(OPERATOR))
        assert (caught.value.code, caught.value.param) == ("invalid_request", param)


async def test_a_key_is_rotated_with_an_overlap(desk: Desk) -> None:
    """A day where nothing is said, none where none is wanted; both ends are told."""
    made = await desk.create(desk.wanted())
    request = pb.RotateKeyRequest(name=made.key.name, request_id="r")
    rotated = await desk.service.RotateKey(request, _context(OPERATOR))
    assert rotated.old_secret_expire_time.ToJsonString() == "2026-06-02T12:00:00Z"
    assert (rotated.key.etag, rotated.key.secret_suffix) == ('"2"', rotated.secret[-4:])
    again = await desk.service.RotateKey(request, _context(OPERATOR))
    assert again == pb.RotateKeyResponse(key=rotated.key, old_secret_expire_time=rotated.old_secret_expire_time)
    for secret in (made.secret, rotated.secret):
        assert (await desk.verifier.verify(secret)).name == made.key.name
    leaked = pb.RotateKeyRequest(name=made.key.name, etag=rotated.key.etag)
    leaked.overlap.nanos = 1
    with pytest.raises(GatewayError) as caught:
        await desk.service.RotateKey(leaked, _context(OPERATOR))
    assert (caught.value.code, caught.value.param) == ("invalid_request", "overlap")
    leaked.overlap.nanos = 0
    last = await desk.service.RotateKey(leaked, _context(OPERATOR))
    assert last.old_secret_expire_time.ToJsonString() == "2026-06-01T12:00:00Z"
    for secret in (made.secret, rotated.secret):
        with pytest.raises(GatewayError) as caught:
            await desk.verifier.verify(secret)
        assert caught.value.code == "key_expired"
    assert (await desk.verifier.verify(last.secret)).name == made.key.name


async def test_a_key_is_suspended_resumed_and_revoked(desk: Desk) -> None:
    """Each answer shows the state, and the next call with the key meets it."""
    made = await desk.create(desk.wanted())
    name, context = made.key.name, _context(OPERATOR)
    suspended = await desk.service.SuspendKey(pb.SuspendKeyRequest(name=name, reason="Odd"), context)
    assert suspended.key.state == pb.KEY_STATE_SUSPENDED
    with pytest.raises(GatewayError) as caught:
        await desk.verifier.verify(made.secret)
    assert caught.value.code == "key_suspended"
    resumed = await desk.service.ResumeKey(pb.ResumeKeyRequest(name=name), context)
    assert resumed.key.state == pb.KEY_STATE_ACTIVE
    await desk.verifier.verify(made.secret)
    revoked = await desk.service.RevokeKey(pb.RevokeKeyRequest(name=name, reason="Leaked"), context)
    assert revoked.key.state == pb.KEY_STATE_REVOKED
    assert revoked.key.revoke_time.ToJsonString() == "2026-06-01T12:00:00Z"
    with pytest.raises(GatewayError) as caught:
        await desk.verifier.verify(made.secret)
    assert caught.value.code == "key_revoked"
    assert (await desk.service.RevokeKey(pb.RevokeKeyRequest(name=name), context)).key == revoked.key


async def test_a_request_for_a_key_is_shown_at_every_stage(desk: Desk) -> None:
    """As asked for, as granted and changed, and as revealed; the secret is in the last answer alone."""
    member = Principal(
        kinds=frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN}),
        name=desk.names.member,
        organization=desk.names.organization,
    )
    service, wanted = desk.service, desk.wanted()
    asking = pb.RequestKeyRequest(parent=desk.names.organization, key=wanted, request_id="r")
    asked = (await service.RequestKey(asking, _context(member))).key_request
    assert (await service.RequestKey(asking, _context(member))).key_request == asked
    assert MessageToDict(asked) == {
        "name": asked.name,
        "key": MessageToDict(wanted),
        "requester": desk.names.member,
        "state": "KEY_REQUEST_STATE_PENDING",
        "createTime": "2026-06-01T12:00:00Z",
        "etag": '"1"',
    }
    wanted.purpose = "Weekly reports"
    approval = pb.ApproveKeyRequestRequest(name=asked.name, key=wanted, reason="Fine", etag=asked.etag)
    granted = (await service.ApproveKeyRequest(approval, _context(OPERATOR))).key_request
    assert MessageToDict(granted) == {
        **MessageToDict(asked),
        "key": {**MessageToDict(wanted), "name": granted.key.name},
        "state": "KEY_REQUEST_STATE_APPROVED",
        "decisionReason": "Fine",
        "decidedBy": "local-operator",
        "decideTime": "2026-06-01T12:00:00Z",
        "revealExpireTime": "2026-06-08T12:00:00Z",
        "etag": '"2"',
    }
    pending = (await service.GetKey(pb.GetKeyRequest(name=granted.key.name), _context(OPERATOR))).key
    assert (pending.state, pending.secret_prefix) == (pb.KEY_STATE_PENDING, "")
    revealed = await service.RevealKey(pb.RevealKeyRequest(name=asked.name), _context(member))
    assert (await desk.verifier.verify(revealed.secret)).name == revealed.key.name == granted.key.name
    assert (revealed.key.state, revealed.key.purpose) == (pb.KEY_STATE_ACTIVE, "Weekly reports")
    listing = pb.ListKeyRequestsRequest(parent="organizations/-", state=pb.KEY_REQUEST_STATE_REVEALED)
    (listed,) = (await service.ListKeyRequests(listing, _context(OPERATOR))).key_requests
    assert revealed.secret not in str(listed)
    denial = pb.DenyKeyRequestRequest(name=asked.name, reason="Too late")
    with pytest.raises(GatewayError) as caught:
        await service.DenyKeyRequest(denial, _context(OPERATOR))
    assert (caught.value.code, caught.value.metadata) == ("failed_precondition", {"state": "revealed"})
    listing.state = 99  # type: ignore[assignment] # as a newer client sends it
    with pytest.raises(GatewayError) as caught:
        await service.ListKeyRequests(listing, _context(OPERATOR))
    assert caught.value.param == "state"
