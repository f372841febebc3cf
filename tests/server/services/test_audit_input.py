"""Bad input to AuditService, over SQLite: each text of a filter, and every name of a chain that is not the caller's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry
from tests.server.services.edge import MESSAGE_LIMIT, METADATA_LIMIT, VALIDATOR
from tests.server.services.test_key_input import CONTROL, HUGE, PATTERNS, TOKEN

from tokendance.gateway.v1 import access_pb2, audit_service_pb2_grpc
from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance.ids import new_id
from tokendance.rpc import from_rpc
from tokendance_server.domain.audit.events import Origin, event
from tokendance_server.domain.audit.store import EventFilter
from tokendance_server.domain.audit.trail import Trail
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.names import organization_name
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.services.access import read_rules
from tokendance_server.services.admission import Admission
from tokendance_server.services.audit import AuditService
from tokendance_server.services.call import Trust
from tokendance_server.services.interceptors import Chain, DeadlinePolicy
from tokendance_server.services.local_channel import LocalChannel, MethodTable
from tokendance_server.services.records import Recorder
from tokendance_server.services.sign_in import SignIn
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.database import Database
from tokendance_server.telemetry import Metrics

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
FILTERS = ("actor", "action", "resource", "request_id")
BAD = {**CONTROL, **PATTERNS, "huge": HUGE, "case": "ORGANIZATIONS", "dot": ".", "surrogate half": "\ufffd"}
HOME = organization_name(new_id("org"))
AUDITOR = Principal(frozenset({access_pb2.CALLER_KIND_AUDITOR}), f"{HOME}/members/{new_id('user')}", HOME)


class _Tokens:
    """Takes every token for one of the auditor's."""

    async def identify(self, token: str) -> Principal:
        return AUDITOR


def _filter(field: str, text: str) -> pb.AuditFilter:
    wanted = pb.AuditFilter()
    setattr(wanted, field, text)
    return wanted


class Desk:
    """The servicer behind its chain; one event of the auditor's organization."""

    def __init__(self, database: Database) -> None:
        self.store = SqlAuditStore(database)
        service = AuditService(Trail(self.store, ManualClock(START), PageTokens(bytes(range(32)))))
        chain = Chain(
            Trust.NETWORK,
            rules=read_rules([pb.DESCRIPTOR]),
            keys=None,  # type: ignore[arg-type] # nobody comes with a key
            admission=Admission(10),
            deadlines=DeadlinePolicy(unary_s=5, stream_s=5, admin_s=5, margin_s=0.1),
            recorder=Recorder(Metrics(CollectorRegistry()), known_model=lambda _: False),
            validator=VALIDATOR,
            sign_in=SignIn(_Tokens()),
        )
        table = MethodTable()
        target: Any = table
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(service, target)
        wrapped = {path: chain.wrap(path, handler) for path, handler in table.handlers.items()}
        channel: Any = LocalChannel(wrapped, max_message_bytes=MESSAGE_LIMIT, max_metadata_bytes=METADATA_LIMIT)
        self._stub = audit_service_pb2_grpc.AuditServiceStub(channel)

    async def open(self) -> Desk:
        origin = Origin("req_1")
        told = event(
            AUDITOR,
            origin,
            organization_id=HOME.partition("/")[2],
            time=START,
            action="key.create",
            resource=f"{HOME}/keys/k",
        )
        await self.store.record(told)
        return self

    async def code(self, rpc: str, request: Any) -> tuple[str, list[pb.AuditEvent]]:
        """Make a call; return the code of the refusal, or `ok` and the events."""
        try:
            call = getattr(self._stub, rpc)(request, metadata=TOKEN)
            if rpc == "ExportAuditEvents":
                return "ok", [one async for part in call for one in part.audit_events]
            return "ok", list(getattr(await call, "audit_events", ()))
        except grpc.aio.AioRpcError as error:
            return from_rpc(error).code, []


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A database with one event."""
    database = await Database.open_sqlite(tmp_path / "gateway.db")
    yield await Desk(database).open()
    await database.close()


async def test_what_is_there_is_found_by_each_filter(desk: Desk) -> None:
    """Otherwise nothing below would show anything."""
    for field, text in (
        ("actor", AUDITOR.name),
        ("action", "key."),
        ("resource", HOME),
        ("request_id", "req_1"),
    ):
        wanted = _filter(field, text)
        code, found = await desk.code("ListAuditEvents", pb.ListAuditEventsRequest(parent=HOME, filter=wanted))
        assert (code, len(found)) == ("ok", 1), field


@pytest.mark.parametrize("field", FILTERS)
async def test_no_text_of_a_filter_is_taken_for_a_pattern(desk: Desk, field: str) -> None:
    """Whatever it holds, it finds nothing or is refused; an export tells of it in a chain that stays whole."""
    tried = 0
    for kind, text in BAD.items():
        wanted = _filter(field, text)
        for rpc, request in (
            ("ListAuditEvents", pb.ListAuditEventsRequest(parent=HOME, filter=wanted)),
            ("ListAuditEvents", pb.ListAuditEventsRequest(parent="organizations/-", filter=wanted)),
            ("ExportAuditEvents", pb.ExportAuditEventsRequest(parent=HOME, filter=wanted)),
        ):
            code, found = await desk.code(rpc, request)
            tried += 1
            expected = {"invalid_request"} if kind == "huge" else {"ok", "invalid_request"}
            assert code in expected, f"{rpc} {field} {kind}"
            assert found == [], f"{rpc} {field} {kind}"
    assert tried == 3 * len(BAD)
    chain = await desk.store.chain(EventFilter(organization_id=HOME.partition("/")[2]), 0, 1000)
    assert len(chain) > 1
    assert all(one.is_intact() for one in chain)


@pytest.mark.parametrize("rpc", ["ListAuditEvents", "VerifyAuditChain", "ExportAuditEvents"])
async def test_a_chain_of_somebody_else_is_not_there(desk: Desk, rpc: str) -> None:
    """Neither another organization's nor the platform's; what is no name at all is refused as that."""
    message = getattr(pb, f"{rpc}Request")
    for parent in (organization_name(new_id("org")), "platform"):
        assert (await desk.code(rpc, message(parent=parent)))[0] == "not_found", parent
    for parent in (*CONTROL.values(), *PATTERNS.values(), HUGE, "", "organizations/", f"{HOME}/", f"{HOME}\n"):
        code, found = await desk.code(rpc, message(parent=parent))
        assert code in {"invalid_request", "not_found"}, parent
        assert found == []


async def test_a_page_token_goes_with_its_question_only(desk: Desk) -> None:
    """One that was made up, and one of another filter, is refused."""
    for token in ("%", "a\r\nb", "AAAA", "x" * 1000):
        request = pb.ListAuditEventsRequest(parent=HOME, page_token=token)
        assert (await desk.code("ListAuditEvents", request))[0] == "invalid_request", token
