"""Bad input to every RPC of KeysService: each text of each request, by everything that people and scanners send."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from prometheus_client import CollectorRegistry
from tests.server.services.edge import MESSAGE_LIMIT, METADATA_LIMIT, VALIDATOR

from tokendance.gateway.v1 import access_pb2, keys_service_pb2_grpc
from tokendance.gateway.v1 import keys_service_pb2 as pb
from tokendance.gateway.v1 import quota_pb2 as q
from tokendance.ids import new_id
from tokendance.rpc import from_rpc
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.keys.keys import Keys
from tokendance_server.domain.keys.life import KeyLife
from tokendance_server.domain.keys.requests import KeyRequests
from tokendance_server.domain.keys.secrets import PepperRing
from tokendance_server.domain.keys.verifier import Verifier
from tokendance_server.domain.names import child_name
from tokendance_server.domain.organizations import Member, MemberRole, Organization, Organizations, Team
from tokendance_server.domain.people.records import Policy
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import read_rules
from tokendance_server.services.admission import Admission
from tokendance_server.services.call import Trust
from tokendance_server.services.interceptors import Chain, DeadlinePolicy
from tokendance_server.services.keys import KeysService
from tokendance_server.services.local_channel import LocalChannel, MethodTable
from tokendance_server.services.records import Recorder
from tokendance_server.services.sign_in import SignIn
from tokendance_server.stores.memory import MemoryKeyStore, MemoryOrganizationStore
from tokendance_server.stores.memory_key_requests import MemoryKeyRequestStore
from tokendance_server.stores.memory_people import MemoryPeopleStore
from tokendance_server.telemetry import Metrics

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
SERVICE = pb.DESCRIPTOR.services_by_name["KeysService"]
TOKEN = (("authorization", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"),)

CONTROL = {"crlf": "a\r\nb", "nul": "a\0b", "escape": "a\x1b[31m", "c1": "a\x85b"}
PATTERNS = {"percent": "%", "underscore": "_", "quote": "' OR '1'='1", "path": "../../x", "star": "organizations/*"}
HUGE = "x" * 10_000
# Texts that are compared with what the gateway gave out, and neither kept nor shown.
OPAQUE = frozenset({"etag", "page_token", "secret"})
# Texts of people, in which any printable character means itself.
FREE = frozenset({"purpose", "reason", "request_id", "allowed_models", "excluded_route_tags", "labels", "model"})


class _Tokens:
    """Takes every token for one of an administrator of both kinds of organizations, and a service."""

    def __init__(self, name: str, organization: str) -> None:
        kinds = {access_pb2.CALLER_KIND_ORGANIZATION_ADMIN, access_pb2.CALLER_KIND_SERVICE}
        self._principal = Principal(frozenset(kinds), name=name, organization=organization)

    async def identify(self, token: str) -> Principal:
        return self._principal


@dataclass
class Tenant:
    """What one organization has."""

    organization: Organization
    team: Team
    member: Member
    key: str = ""
    request: str = ""


class Desk:
    """The servicer behind its chain; two organizations with a key and a request each, the caller in the first."""

    def __init__(self) -> None:
        clock, peppers = ManualClock(START), PepperRing.of(bytes(range(32)))
        records = MemoryOrganizationStore()
        store = MemoryKeyStore(people=records)
        organizations = Organizations(records, clock)
        verifier = Verifier(store, peppers, clock, lambda: True)
        keys = Keys(store, organizations, peppers, clock, verifier.forget)
        life = KeyLife(keys, store, organizations, peppers, clock, changed=verifier.forget)
        self.people = MemoryPeopleStore(records, store)
        kept = MemoryKeyRequestStore(self.people)
        requests = KeyRequests(kept, peppers, clock, changed=verifier.forget)
        self._service = KeysService(keys, life, verifier, requests)
        self.home, self.abroad = _tenant(), _tenant()

    async def open(self) -> Desk:
        for tenant in (self.abroad, self.home):
            policy = Policy(tenant.organization.id, self_approval=True)
            async with self.people.tenant(tenant.organization.id) as opened:
                for record in (tenant.organization, tenant.team, tenant.member, policy):
                    await opened.put(record, START)
            self.stub = self._stub(tenant)
            made = await self.stub.CreateKey(
                pb.CreateKeyRequest(parent=tenant.organization.name, key=wish(tenant)), metadata=TOKEN
            )
            asked = await self.stub.RequestKey(
                pb.RequestKeyRequest(parent=tenant.organization.name, key=wish(tenant)), metadata=TOKEN
            )
            tenant.key, tenant.request = made.key.name, asked.key_request.name
        return self

    async def code(self, rpc: str, request: Any) -> tuple[str, str, Any]:
        """Make a call; return the code and field of the refusal, or `ok` and the answer."""
        try:
            return "ok", "", await getattr(self.stub, rpc)(request, metadata=TOKEN)
        except grpc.aio.AioRpcError as error:
            refused = from_rpc(error)
            return refused.code, refused.param or "", None

    def _stub(self, tenant: Tenant) -> Any:
        chain = Chain(
            Trust.NETWORK,
            rules=read_rules([pb.DESCRIPTOR]),
            keys=None,  # type: ignore[arg-type] # nobody comes with a key
            admission=Admission(10),
            deadlines=DeadlinePolicy(unary_s=5, stream_s=5, admin_s=5, margin_s=0.1),
            recorder=Recorder(Metrics(CollectorRegistry()), known_model=lambda _: False),
            validator=VALIDATOR,
            sign_in=SignIn(_Tokens(tenant.member.name, tenant.organization.name)),
        )
        table = MethodTable()
        target: Any = table
        keys_service_pb2_grpc.add_KeysServiceServicer_to_server(self._service, target)
        wrapped = {path: chain.wrap(path, handler) for path, handler in table.handlers.items()}
        channel: Any = LocalChannel(wrapped, max_message_bytes=MESSAGE_LIMIT, max_metadata_bytes=METADATA_LIMIT)
        return keys_service_pb2_grpc.KeysServiceStub(channel)


def _tenant() -> Tenant:
    organization = Organization(new_id("org"), "O", START)
    member = Member(organization.id, new_id("user"), "M", START, roles=(MemberRole.ADMIN,))
    return Tenant(organization, Team(organization.id, new_id("team"), "T", START), member)


def wish(tenant: Tenant) -> pb.Key:
    """A key with every text that may be given."""
    key = pb.Key(
        purpose="Reports",
        owner=tenant.member.name,
        team=tenant.team.name,
        rotation=pb.KeyRotation(responsible=tenant.member.name),
        allowed_models=["m"],
        allowed_networks=["10.0.0.0/8"],
        labels={"name": "value"},
        excluded_route_tags=["eu"],
    )
    key.rotation.period.FromSeconds(86_400)
    key.quota.limits.rules.add(metric=q.LIMIT_METRIC_REQUESTS, window=q.LIMIT_WINDOW_DAY, limit=1, model="m")
    return key


def asked(rpc: str, tenant: Tenant) -> Any:
    """A good request of an RPC with every text that it may hold, but for etag and page token."""
    key, organization = wish(tenant), tenant.organization.name
    named = pb.Key(name=tenant.key)
    named.MergeFrom(key)
    paths = ["purpose", "owner", "team", "quota", "rotation", "allowed_models", "allowed_networks", "labels"]
    requests: dict[str, Any] = {
        "CreateKey": pb.CreateKeyRequest(parent=organization, key=key, request_id="r"),
        "GetKey": pb.GetKeyRequest(name=tenant.key),
        "ListKeys": pb.ListKeysRequest(parent=organization, team=tenant.team.name, owner=tenant.member.name),
        "UpdateKey": pb.UpdateKeyRequest(key=named, update_mask=FieldMask(paths=[*paths, "excluded_route_tags"])),
        "RotateKey": pb.RotateKeyRequest(name=tenant.key, request_id="r"),
        "RevokeKey": pb.RevokeKeyRequest(name=tenant.key, reason="x"),
        "SuspendKey": pb.SuspendKeyRequest(name=tenant.key, reason="x"),
        "ResumeKey": pb.ResumeKeyRequest(name=tenant.key),
        "CheckKey": pb.CheckKeyRequest(secret="tdk_x"),
        "RequestKey": pb.RequestKeyRequest(parent=organization, key=key, request_id="r"),
        "ListKeyRequests": pb.ListKeyRequestsRequest(parent=organization),
        "ApproveKeyRequest": pb.ApproveKeyRequestRequest(name=tenant.request, key=key, reason="x"),
        "DenyKeyRequest": pb.DenyKeyRequestRequest(name=tenant.request, reason="x"),
        "RevealKey": pb.RevealKeyRequest(name=tenant.request),
    }
    return requests[rpc]


def texts(message: Any, path: str = "") -> Iterator[tuple[str, Callable[[Any, str], None]]]:
    """Yield the path of each text in a message, and what puts another text there in a copy of the message."""
    for field, value in message.ListFields():
        name = f"{path}.{field.name}" if path else field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield name, _put_label_name(field.name)
            yield f"{name}[name]", _put_label_value(field.name)
        elif field.message_type is not None and not _is_list(field):
            yield from ((inner, _within(field.name, put)) for inner, put in texts(value, name))
        elif field.message_type is not None:
            yield from ((inner, _within_first(field.name, put)) for inner, put in texts(value[0], f"{name}[0]"))
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield (f"{name}[0]", _put_first(field.name)) if _is_list(field) else (name, _put(field.name))


def _is_list(field: Any) -> bool:
    return bool(field.is_repeated)


def _put(name: str) -> Callable[[Any, str], None]:
    return lambda message, text: setattr(message, name, text)


def _put_first(name: str) -> Callable[[Any, str], None]:
    return lambda message, text: getattr(message, name).__setitem__(0, text)


def _put_label_name(name: str) -> Callable[[Any, str], None]:
    return lambda message, text: getattr(message, name).__setitem__(text, "value")


def _put_label_value(name: str) -> Callable[[Any, str], None]:
    return lambda message, text: getattr(message, name).__setitem__("name", text)


def _within(name: str, put: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    return lambda message, text: put(getattr(message, name), text)


def _within_first(name: str, put: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    return lambda message, text: put(getattr(message, name)[0], text)


def _last(path: str) -> str:
    return path.rpartition(".")[2].partition("[")[0]


@pytest.fixture
async def desk() -> Desk:
    """Two organizations."""
    return await Desk().open()


RPCS = [method.name for method in SERVICE.methods]


@pytest.mark.parametrize("rpc", RPCS)
async def test_no_text_is_taken_for_what_it_is_not(rpc: str) -> None:
    """Control characters and 10 kB are refused; wildcards find nothing, and in a text of people mean themselves."""
    tried = 0
    paths = [path for path, _ in texts(asked(rpc, _named_tenant()))]
    for path in paths:
        for kind, text in {**CONTROL, **PATTERNS, "huge": HUGE}.items():
            # Anew each time, because some calls end what the next one would need.
            desk = await Desk().open()
            request = copy.deepcopy(asked(rpc, desk.home))
            dict(texts(request))[path](request, text)
            code, _, answer = await desk.code(rpc, request)
            tried += 1
            where = f"{rpc} {path} {kind}"
            if _last(path) in OPAQUE:
                assert code in {"ok", "invalid_request", "version_conflict"}, where
            elif kind in CONTROL or kind == "huge" or _last(path) not in FREE:
                assert code in {"invalid_request", "not_found"}, where
            elif code == "ok" and hasattr(answer, "key") and _last(path) in answer.key.DESCRIPTOR.fields_by_name:
                assert text in str(getattr(answer.key, _last(path))), where
            else:
                assert code in {"ok", "failed_precondition"}, where
    assert tried == len(paths) * 10


def _named_tenant() -> Tenant:
    tenant = _tenant()
    tenant.key = child_name(tenant.organization.id, "keys", new_id("key"))
    tenant.request = child_name(tenant.organization.id, "keyRequests", new_id("kreq"))
    return tenant


@pytest.mark.parametrize("rpc", [rpc for rpc in RPCS if rpc != "CheckKey"])
async def test_what_is_of_another_organization_is_not_there(rpc: str) -> None:
    """Whatever field names it, and whether it exists there or nowhere."""
    desk = await Desk().open()
    for foreign in (desk.abroad, _named_tenant()):
        theirs = dict(_texts_with_values(asked(rpc, foreign)))
        for path, put in texts(asked(rpc, desk.home)):
            if not theirs[path].startswith("organizations/"):
                continue
            request = copy.deepcopy(asked(rpc, desk.home))
            put(request, theirs[path])
            code, _, _ = await desk.code(rpc, request)
            # A list is narrowed within its organization, so that a foreign filter contradicts it.
            allowed = {"not_found", "invalid_request"} if rpc == "ListKeys" else {"not_found"}
            assert code in allowed, f"{rpc} {path}"


def _texts_with_values(message: Any) -> Iterator[tuple[str, str]]:
    for path, _ in texts(message):
        value: Any = message
        for part in path.split("."):
            name, _, index = part.partition("[")
            value = getattr(value, name)
            value = value[0] if index == "0]" else value
        yield path, value if isinstance(value, str) else ""


def _set_any(message: Any, name: str) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(message, name).FromSeconds(1)
    else:
        setattr(message, name, 1 if field.enum_type is not None else "x")


CALLERS_OWN = {
    *("purpose", "owner", "team", "quota", "rotation", "expire_time", "allowed_models", "allowed_networks"),
    *("labels", "excluded_route_tags"),
}
OUTPUT_ONLY = sorted(set(pb.Key.DESCRIPTOR.fields_by_name) - CALLERS_OWN)


@pytest.mark.parametrize("field", OUTPUT_ONLY)
async def test_what_the_gateway_sets_nobody_else_sets(desk: Desk, field: str) -> None:
    """Neither in a new key, a request, a grant nor an update; a new field belongs into one of the two sets here."""
    for rpc in ("CreateKey", "RequestKey", "ApproveKeyRequest"):
        request = asked(rpc, desk.home)
        _set_any(request.key, field)
        assert (await desk.code(rpc, request))[:2] == ("invalid_request", f"key.{field}"), rpc
    update = asked("UpdateKey", desk.home)
    if field not in ("name", "etag"):
        _set_any(update.key, field)
    update.update_mask.paths[:] = [field]
    assert (await desk.code("UpdateKey", update))[:2] == ("invalid_request", "update_mask")
    update.update_mask.paths[:] = ["purpose"]
    code, _, answer = await desk.code("UpdateKey", update)
    assert code == "ok"
    before = await desk.code("GetKey", pb.GetKeyRequest(name=desk.home.key))
    assert answer.key == before[2].key
