"""What only a head that was kept elsewhere shows, on each database; and many changes at once in one chain."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sqlalchemy import delete, update
from tests.stores.test_audit import ADMIN, ORGANIZATION, ORIGIN, draft
from tests.stores.test_keys import MARK, Tenant

from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_server.domain.audit.events import AuditEvent, ChainHead
from tokendance_server.domain.audit.verify import verify_chain
from tokendance_server.domain.keys.audited import key_event
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.audit_tables import audit_events, audit_heads, audit_personal
from tokendance_server.stores.sql.database import Database

_FEW_S = 20.0


async def _cut(database: Database, written: list[AuditEvent], left: int) -> None:
    """Take the tail of a chain away and set its end back, as who can write to the database may."""
    gone = audit_events.c.sequence > left
    end = ChainHead(left, written[left - 1].digest) if left else ChainHead()
    async with database.transaction() as connection:
        await connection.execute(delete(audit_events).where(gone))
        await connection.execute(delete(audit_personal).where(audit_personal.c.sequence > left))
        await connection.execute(update(audit_heads).values(sequence=end.sequence, digest=end.digest))


@pytest.mark.parametrize("left", [0, 1, 5])
async def test_a_tail_that_was_removed_shows_against_a_kept_head(database: Database, left: int) -> None:
    """The chain by itself is whole; the first place that is gone is named."""
    store = SqlAuditStore(database)
    written = [await store.record(draft(number)) for number in range(6)]
    await _cut(database, written, left)
    assert (await verify_chain(store, ORGANIZATION)).broken is None
    broken = (await verify_chain(store, ORGANIZATION, expected=ChainHead(6, written[5].digest))).broken
    assert broken is not None
    assert (broken.sequence, broken.defect) == (left + 1, pb.AUDIT_CHAIN_DEFECT_CUT_SHORT)


async def test_a_chain_that_was_written_anew_shows_against_a_kept_head(database: Database) -> None:
    """Each digest of it fits, it is longer than it was, and heads from before the forgery still fit."""
    store = SqlAuditStore(database)
    written = [await store.record(draft(number)) for number in range(6)]
    await _cut(database, written, 3)
    for number in range(6):
        await store.record(draft(number, resource="forged"))
    assert (await verify_chain(store, ORGANIZATION)).checked == 9
    for place, defect in ((3, None), (4, pb.AUDIT_CHAIN_DEFECT_CHANGED), (6, pb.AUDIT_CHAIN_DEFECT_CHANGED)):
        report = await verify_chain(
            store, ORGANIZATION, first=place, last=place, expected=ChainHead(place, written[place - 1].digest)
        )
        assert (report.broken and (report.broken.sequence, report.broken.defect)) == (defect and (place, defect))


async def test_fifty_changes_at_once_in_one_organization_make_one_whole_chain(
    stores: Any, record_property: Any
) -> None:
    """They wait for each other at the end of the chain, and for nothing else; what that costs is in the report."""
    tenant = await Tenant().open(stores)
    keys = [tenant.key() for _ in range(50)]

    async def add(key: Any) -> None:
        await stores.keys.add(key, "", MARK, key_event(ADMIN, ORIGIN, "key.create", None, key))

    began = time.perf_counter()
    async with asyncio.timeout(_FEW_S), asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(add(key))
    took = time.perf_counter() - began
    record_property("ms_per_change", round(took * 1000 / len(keys), 2))
    report = await verify_chain(stores.audit, tenant.organization)
    assert (report.checked, report.broken, report.head.sequence) == (50, None, 50)
