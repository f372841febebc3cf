"""Every RPC that changes something leaves exactly one audit event, or says here why it leaves none."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from prometheus_client import CollectorRegistry
from tests.server.services.test_access import METHODS

from tokendance.gateway.v1 import audit_service_pb2 as audit_pb
from tokendance_server.app import open_server
from tokendance_server.config import ServerConfig
from tokendance_server.services.audit import AuditService
from tokendance_server.services.completions import CompletionsService
from tokendance_server.services.keys import KeysService
from tokendance_server.services.models import ModelsService
from tokendance_server.services.nodes import NodesService
from tokendance_server.services.organizations import OrganizationsService
from tokendance_server.services.quota import QuotaService
from tokendance_server.services.status import StatusService

PACKAGE = "/tokendance.gateway.v1."
READS = ("Get", "List", "Verify", "Watch", "Check", "Explain", "Count")
SERVED = {
    one.__name__: one
    for one in (
        AuditService,
        CompletionsService,
        KeysService,
        ModelsService,
        NodesService,
        OrganizationsService,
        QuotaService,
        StatusService,
    )
}
UNTOLD = {
    "CreateCompletion": "a model call is a record of usage",
    "StreamCompletion": "a model call is a record of usage",
    "CreateEmbeddings": "a model call is a record of usage",
    "DiscoverModels": "asks an upstream, and changes nothing here",
    "SuggestPrices": "changes nothing",
    "UpdatePreferences": "what a person likes to see governs nobody",
    "ReserveQuota": "holds quota for a call of a service, and is a record of usage where it is refused",
    "RenewReservation": "holds quota, as ReserveQuota",
    "ReleaseReservation": "holds quota no more, as ReserveQuota",
    "SettleQuota": "a call of a service is a record of usage",
    "RequestKey": "needs a member: tests/stores/test_key_requests.py holds its event",
    "ApproveKeyRequest": "needs a member's request: as RequestKey",
    "DenyKeyRequest": "needs a member's request: as RequestKey",
    "RevealKey": "needs a member's request: as RequestKey",
}

# In their order: an RPC, its request, and under which name its resource is kept for those below; `{x}` is such a name.
_KEY = {
    "purpose": "Reports",
    "owner": "{member}",
    "team": "{team}",
    "quota": {"inherited_from": "{org}"},
    "rotation": {"period": "86400s", "responsible": "{member}"},
}
_WEBHOOK = {"display_name": "W", "url": "https://example.com/w", "events": ["WEBHOOK_EVENT_QUOTA_THRESHOLD"]}
_PROVIDER = {"name": "providers/p", "kind": "openai", "base_url": "https://example.com/v1"}
_MODEL = {"model": {"id": "m"}, "routes": [{"provider": "providers/p", "upstream_model": "u"}]}
_INCIDENT = {"title": "Slow", "state": "SERVICE_STATE_DEGRADED", "models": ["m"]}
_WORK = {"title": "W", "start_time": "2040-01-01T00:00:00Z", "end_time": "2040-01-01T01:00:00Z"}
STEPS: list[tuple[str, dict[str, Any], str]] = [
    ("CreateOrganization", {"organization": {"display_name": "O", "contact": "ops@example.com"}}, "org"),
    ("UpdateOrganization", {"organization": {"name": "{org}", "display_name": "N"}, "update_mask": "displayName"}, ""),
    ("CreateTeam", {"parent": "{org}", "team": {"display_name": "T"}}, "team"),
    ("UpdateTeam", {"team": {"name": "{team}", "description": "d"}, "update_mask": "description"}, ""),
    ("CreateMember", {"parent": "{org}", "member": {"subject": "a", "roles": ["MEMBER_ROLE_MEMBER"]}}, "member"),
    ("UpdateMember", {"member": {"name": "{member}", "email": "a@example.com"}, "update_mask": "email"}, ""),
    ("UpdatePolicy", {"policy": {"name": "{org}/policy", "self_approval": True}, "update_mask": "selfApproval"}, ""),
    ("CreateKey", {"parent": "{org}", "key": _KEY}, "key"),
    ("UpdateKey", {"key": {"name": "{key}", "purpose": "Other"}, "update_mask": "purpose"}, ""),
    ("RotateKey", {"name": "{key}"}, ""),
    ("SuspendKey", {"name": "{key}", "reason": "odd"}, ""),
    ("ResumeKey", {"name": "{key}"}, ""),
    ("SetQuota", {"quota": {"subject": "{team}", "limits": [{"rule": {"metric": 1, "window": 2, "limit": 5}}]}}, ""),
    ("CreateWebhook", {"parent": "{org}", "webhook": _WEBHOOK}, "webhook"),
    ("UpdateWebhook", {"webhook": {"name": "{webhook}", "disabled": True}, "update_mask": "disabled"}, ""),
    ("RotateWebhookSecret", {"name": "{webhook}"}, ""),
    ("DeleteWebhook", {"name": "{webhook}"}, ""),
    ("SuspendMember", {"name": "{member}", "reason": "away"}, ""),
    ("ResumeMember", {"name": "{member}"}, ""),
    ("RevokeKey", {"name": "{key}"}, ""),
    ("DeleteMember", {"name": "{member}", "reason": "left"}, ""),
    ("EraseMember", {"name": "{member}", "reason": "asked for"}, ""),
    ("CreateTeam", {"parent": "{org}", "team": {"display_name": "U"}}, "empty"),
    ("DeleteTeam", {"name": "{empty}"}, ""),
    ("SuspendOrganization", {"name": "{org}", "reason": "unpaid"}, ""),
    ("ResumeOrganization", {"name": "{org}"}, ""),
    ("CreateProvider", {"provider": _PROVIDER}, ""),
    ("UpdateProvider", {"provider": {"name": "providers/p", "public_label": "P"}, "update_mask": "publicLabel"}, ""),
    ("CreateModel", {"model_config": _MODEL}, ""),
    (
        "UpdateModel",
        {"model_config": {"model": {"id": "m", "description": "d"}}, "update_mask": "model.description"},
        "",
    ),
    (
        "SetPrices",
        {"price_list": {"model": "m", "prices": [{"class": "input", "micros_per_million": 1}]}},
        "",
    ),
    ("CreateIncident", {"incident": _INCIDENT, "message": "We look into it."}, "incident"),
    (
        "UpdateIncident",
        {"incident": {"name": "{incident}", "phase": "INCIDENT_PHASE_RESOLVED"}, "update_mask": "phase"},
        "",
    ),
    ("CreateMaintenance", {"maintenance": _WORK}, "maintenance"),
    (
        "UpdateMaintenance",
        {"maintenance": {"name": "{maintenance}", "cancelled": True}, "update_mask": "cancelled"},
        "",
    ),
    ("DeleteModel", {"name": "models/m"}, ""),
    ("DeleteProvider", {"name": "providers/p"}, ""),
    ("ExportAuditEvents", {"parent": "{org}"}, ""),
    ("CreateOrganization", {"organization": {"display_name": "P"}}, "other"),
    ("SuspendOrganization", {"name": "{other}", "reason": "gone"}, ""),
    ("EraseOrganization", {"name": "{other}", "etag": '"2"', "reason": "gone"}, ""),
]
PATHS = {path.rpartition("/")[2]: path for path in METHODS}


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """The administration socket of a new node."""
    with tempfile.TemporaryDirectory(prefix="td") as folder:
        config = ServerConfig(data_dir=Path(folder) / "d", grpc="")
        server = await open_server(config, registry=CollectorRegistry(), loopback_only=True)
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{server.admin_socket}") as opened:
                yield opened
        finally:
            await server.stop(0)


async def _call(channel: grpc.aio.Channel, name: str, request: Any) -> Any:
    method = METHODS[PATHS[name]]
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    call: Any = kind(
        PATHS[name],
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    if method.server_streaming:
        return [one async for one in call(request)]
    return await call(request)


def _filled(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, names) for one in value]
    return value.format(**names) if isinstance(value, str) else value


async def _told(channel: grpc.aio.Channel) -> dict[str, audit_pb.AuditEvent]:
    request = audit_pb.ListAuditEventsRequest(parent="organizations/-", page_size=1000)
    found = (await _call(channel, "ListAuditEvents", request)).audit_events
    return {one.name: one for one in found if one.source != audit_pb.AUDIT_SOURCE_AUTOMATIC}


def test_every_rpc_that_changes_something_is_known_here() -> None:
    """A new one, and one that is served from now on, takes a step below or says why it is told by no event."""
    changing = set()
    for path, method in METHODS.items():
        servicer = SERVED.get(path.removeprefix(PACKAGE).partition("/")[0])
        unserved = servicer is None or getattr(servicer, method.name).__name__ in ("refuse", "refuse_stream")
        if not unserved and (not method.name.startswith(READS)):
            changing.add(method.name)
    assert changing == {name for name, _, _ in STEPS} | UNTOLD.keys()


async def test_each_change_leaves_exactly_one_event(channel: grpc.aio.Channel) -> None:
    """With who, from where, upon what and by which request; what the gateway does because of it is automatic."""
    names: dict[str, str] = {}
    before = await _told(channel)
    for name, given, kept in STEPS:
        request = ParseDict(_filled(given, names), GetMessageClass(METHODS[PATHS[name]].input_type)())
        answer = await _call(channel, name, request)
        if kept:
            names[kept] = getattr(answer, name.removeprefix("Create").lower()).name
        after = await _told(channel)
        new = [after[one] for one in after.keys() - before.keys()]
        assert len(new) == 1, (name, [one.action for one in new])
        told = new[0]
        assert (told.actor.name, told.source) == ("local-operator", audit_pb.AUDIT_SOURCE_LOCAL), name
        assert told.resource, name
        assert told.request_id.startswith("req_"), name
        assert told.reason == given.get("reason", ""), name
        before = after
    for chain in (names["org"], "platform"):
        assert (await _call(channel, "VerifyAuditChain", audit_pb.VerifyAuditChainRequest(parent=chain))).valid
