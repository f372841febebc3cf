"""Who reads which part of the audit trail, page by page, and what is told of an export."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance.ids import new_id
from tokendance_server.domain.audit.events import PLATFORM, Origin, event
from tokendance_server.domain.audit.heads import HeadSigner, HeadVerifier, new_signing_key
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.audit.trail import EventQuery, Trail
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.names import organization_name
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.stores.memory_audit import MemoryAuditStore

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINE, OTHER = new_id("org"), new_id("org")
OPERATOR = Principal(frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), "local-operator")
ADMIN = Principal(frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN}), "a", organization_name(MINE))
AUDITOR = Principal(frozenset({access_pb2.CALLER_KIND_AUDITOR}), "b", organization_name(MINE))
MEMBER = Principal(frozenset({access_pb2.CALLER_KIND_MEMBER}), "c", organization_name(MINE))
ANY = EventFilter()


@pytest.fixture
async def trail() -> Trail:
    """Three events in each of three chains."""
    store = MemoryAuditStore()
    for chain in (MINE, OTHER, PLATFORM) * 3:
        await store.record(
            event(OPERATOR, Origin(), organization_id=chain, time=START, action="key.create", resource=chain or "p")
        )
    return Trail(store, ManualClock(START), PageTokens(bytes(range(32))))


@pytest.mark.parametrize("caller", [ADMIN, AUDITOR])
async def test_an_organization_sees_its_own_chain_only(trail: Trail, caller: Principal) -> None:
    """`organizations/-` means its own; that of another and the platform's are not there."""
    for parent in (organization_name(MINE), "organizations/-"):
        found, token = await trail.list(caller, EventQuery(parent, ANY))
        assert [one.organization_id for one in found] == [MINE] * 3
        assert not token
    for parent in (organization_name(OTHER), "platform"):
        with pytest.raises(GatewayError) as refused:
            await trail.list(caller, EventQuery(parent, ANY))
        assert refused.value.code == "not_found"
        with pytest.raises(GatewayError):
            await trail.verify(caller, parent, first=0, last=0, expected=None)
        with pytest.raises(GatewayError):
            await anext(trail.export(caller, parent, ANY, 0, origin=Origin()))


async def test_a_member_sees_nothing_and_the_platform_everything(trail: Trail) -> None:
    """Also where the interceptor would let the member through."""
    for parent in (organization_name(MINE), "organizations/-", "platform"):
        with pytest.raises(GatewayError):
            await trail.list(MEMBER, EventQuery(parent, ANY))
    found, _ = await trail.list(OPERATOR, EventQuery("organizations/-", ANY))
    assert len(found) == 9
    with pytest.raises(GatewayError) as refused:
        await trail.list(OPERATOR, EventQuery("nothing", ANY))
    assert (refused.value.code, refused.value.param) == ("invalid_request", "parent")


async def test_page_tokens_are_bound_to_caller_and_filter(trail: Trail) -> None:
    """They lead to every event once, and nowhere for another question or another caller."""
    seen = []
    query = EventQuery("organizations/-", ANY, page_size=4)
    while True:
        found, token = await trail.list(OPERATOR, query)
        seen += found
        if not token:
            break
        query = EventQuery("organizations/-", ANY, page_size=4, page_token=token)
    assert len({one.id for one in seen}) == len(seen) == 9
    _, token = await trail.list(OPERATOR, EventQuery(organization_name(MINE), ANY, 1))
    for caller, parent, narrowed in (
        (OPERATOR, "organizations/-", ANY),
        (OPERATOR, organization_name(MINE), EventFilter(action="key.")),
        (ADMIN, organization_name(MINE), ANY),
    ):
        with pytest.raises(GatewayError) as refused:
            await trail.list(caller, EventQuery(parent, narrowed, 1, token))
        assert refused.value.param == "page_token"


async def test_an_export_tells_of_itself_and_ends_there(trail: Trail) -> None:
    """Its own event is the last one of it, and its head the end of the chain at that time."""
    origin = Origin("req_1", address="192.0.2.7")
    parts = [part async for part in trail.export(AUDITOR, organization_name(MINE), ANY, 1, origin=origin)]
    assert [one.sequence for part in parts for one in part.events] == [2, 3, 4]
    told = parts[-1].events[-1]
    assert (told.action, told.actor, told.request_id) == ("audit.export", "b", "req_1")
    assert told.shown("after") == {"after_sequence": 1}
    head = parts[-1].head
    assert head is not None
    assert (head.sequence, head.digest, parts[-1].total) == (4, told.digest, 3)
    report = await trail.verify(AUDITOR, organization_name(MINE), first=0, last=0, expected=head)
    assert report.broken is None


async def test_a_kept_head_under_the_nodes_key_must_be_signed_by_it() -> None:
    """Of the chain that is asked for; a head of a key that this node does not know is held against the chain alone."""
    store, signer = MemoryAuditStore(), HeadSigner(new_signing_key())
    trail = Trail(store, ManualClock(START), PageTokens(bytes(range(32))), HeadVerifier(signer.public_pem))
    for chain in (MINE, PLATFORM):
        await store.record(event(OPERATOR, Origin(), organization_id=chain, time=START, action="a.b", resource="r"))
    head = await store.head(MINE)
    good = signer.sign(MINE, head, START)
    unknown = HeadSigner(new_signing_key()).sign(MINE, head, START)
    for signed, defect in (
        (good, 0),
        (unknown, 0),
        (replace(good, signature=bytes(64)), pb.AUDIT_CHAIN_DEFECT_BAD_SIGNATURE),
        (replace(good, signature=b"x"), pb.AUDIT_CHAIN_DEFECT_BAD_SIGNATURE),
        (replace(unknown, signing_key_id=signer.key_id), pb.AUDIT_CHAIN_DEFECT_BAD_SIGNATURE),
        (signer.sign(PLATFORM, head, START), pb.AUDIT_CHAIN_DEFECT_BAD_SIGNATURE),
    ):
        report = await trail.verify(ADMIN, organization_name(MINE), first=0, last=0, expected=head, signed=signed)
        assert (report.broken.defect if report.broken else 0) == defect
