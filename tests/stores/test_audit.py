"""What every audit trail must do: chains without gaps, filters, erasure, and rows that cannot be touched unnoticed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update
from tests.stores.test_keys import DAY, MARK, NOW, Tenant

from tokendance.gateway.v1 import access_pb2
from tokendance.gateway.v1 import audit_service_pb2 as pb
from tokendance_server.domain.audit.events import (
    PLATFORM,
    AuditEvent,
    ChainHead,
    EventDraft,
    Origin,
    PersonalData,
    event,
)
from tokendance_server.domain.audit.store import EventCursor, EventFilter
from tokendance_server.domain.audit.verify import ChainReport, verify_chain
from tokendance_server.domain.keys.audited import key_event
from tokendance_server.domain.principals import Principal
from tokendance_server.stores.errors import StoreUnavailableError
from tokendance_server.stores.sql.audit import SqlAuditStore
from tokendance_server.stores.sql.audit_tables import audit_events, audit_heads, audit_personal
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.keys import SqlKeyStore
from tokendance_server.stores.sql.people import SqlPeopleStore

ORGANIZATION = "org_01h455vb4pex5vsknk084sn02q"
ADMIN = Principal(frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), "local-operator")
ORIGIN = Origin("req_1", pb.AUDIT_SOURCE_GRPC, "192.0.2.7", "curl/8 \N{SNOWMAN}\0")


def draft(number: int = 0, **changes: Any) -> EventDraft:
    """An event of an organization."""
    given = {
        "organization_id": ORGANIZATION,
        "time": NOW + timedelta(seconds=number),
        "action": "key.update",
        "resource": f"organizations/{ORGANIZATION}/keys/k{number}",
        "before": {"purpose": "a\0b", "number": number},
        "after": {"purpose": "ü"},
        "reason": "be\0cause",
    }
    return event(ADMIN, ORIGIN, **{**given, **changes})


async def _fill(store: Any, count: int = 6) -> list[AuditEvent]:
    return [await store.record(draft(number)) for number in range(count)]


async def test_an_empty_chain_is_whole(stores: Any) -> None:
    """It has a head at 0, and nothing to show."""
    assert await stores.audit.head(PLATFORM) == ChainHead()
    assert await stores.audit.page(EventFilter(), None, 10) == []
    assert await verify_chain(stores.audit, PLATFORM) == ChainReport(0, None, ChainHead())


async def test_events_are_read_back_as_they_were_written(stores: Any) -> None:
    """Whatever characters they hold, or their digests would not hold."""
    written = await _fill(stores.audit)
    assert await stores.audit.chain(EventFilter(ORGANIZATION), 0, 10) == written
    assert await stores.audit.page(EventFilter(ORGANIZATION), None, 10) == written[::-1]
    assert [one.sequence for one in written] == [1, 2, 3, 4, 5, 6]
    assert written[0].shown("before") == {"purpose": "a\0b", "number": 0}
    assert written[0].shown("actor") == {"address": "192.0.2.7", "user_agent": "curl/8 \N{SNOWMAN}\0"}
    report = await verify_chain(stores.audit, ORGANIZATION)
    assert report == ChainReport(6, None, ChainHead(6, written[-1].digest))


async def test_pages_follow_each_other_over_all_chains(stores: Any) -> None:
    """Each event once, newest first, also where times are the same."""
    for number in range(4):
        await stores.audit.record(draft(number // 2))
        await stores.audit.record(draft(number // 2, organization_id=PLATFORM))
    seen: list[AuditEvent] = []
    after = None
    while page := await stores.audit.page(EventFilter(), after, 3):
        seen += page
        after = EventCursor(page[-1].time, page[-1].organization_id, page[-1].sequence)
    assert len({one.id for one in seen}) == 8
    places = [(one.time, one.organization_id, one.sequence) for one in seen]
    assert places == sorted(places, reverse=True)


@pytest.mark.parametrize(
    ("narrowed", "found"),
    [
        ({"organization_id": PLATFORM}, {5}),
        ({"action": "key.update"}, {1, 2, 5}),
        ({"action": "key."}, {1, 2, 4, 5}),
        ({"action": "key"}, set()),
        ({"action": "KEY."}, set()),
        ({"resource": "a"}, {1, 2}),
        ({"resource": "a_b"}, {4}),
        ({"resource": "%"}, set()),
        ({"resource": "\0"}, set()),
        ({"actor": "local-operator"}, {1, 2, 3, 4, 5}),
        ({"actor": "\0"}, set()),
        ({"request_id": "req_1"}, {1, 2, 3, 4, 5}),
        ({"request_id": "req_2"}, set()),
        ({"start_time": NOW + DAY}, {2}),
        ({"end_time": NOW + DAY}, {1, 3, 4, 5}),
        ({"outcome": pb.AUDIT_OUTCOME_DONE}, {1, 2, 3, 4, 5}),
        ({"outcome": pb.AUDIT_OUTCOME_REFUSED}, set()),
    ],
)
async def test_filters_narrow(stores: Any, narrowed: dict[str, Any], found: set[int]) -> None:
    """Each of them, in both directions and in the count."""
    wanted = [
        draft(resource="a", after={"n": 1}),
        draft(resource="a/b", time=NOW + DAY, after={"n": 2}),
        draft(resource="aXb", action="model.create", after={"n": 3}),
        draft(resource="a_b", action="key.rotate", after={"n": 4}),
        draft(resource="b", organization_id=PLATFORM, after={"n": 5}),
    ]
    for one in wanted:
        await stores.audit.record(one)
    numbers = [one.shown("after")["n"] for one in await stores.audit.page(EventFilter(**narrowed), None, 10)]
    assert set(numbers) == found
    chains: list[int] = []
    counted = 0
    for chain in {narrowed.get("organization_id", ORGANIZATION), narrowed.get("organization_id", PLATFORM)}:
        one_chain = EventFilter(**{**narrowed, "organization_id": chain})
        chains += [one.shown("after")["n"] for one in await stores.audit.chain(one_chain, 0, 10)]
        counted += await stores.audit.count(one_chain, 0)
    assert set(chains) == found
    assert counted == len(found)


async def test_fifty_writers_at_once_keep_each_chain_whole(stores: Any) -> None:
    """No number is missing or given twice, in two chains at the same time; keys and their events go together."""
    tenant = await Tenant().open(stores)
    keys = [tenant.key() for _ in range(25)]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number, key in enumerate(keys):
            made = key_event(ADMIN, ORIGIN, "key.create", None, key)
            group.create_task(stores.keys.add(key, "", MARK, made))
            group.create_task(stores.audit.record(draft(number, organization_id=PLATFORM)))
    for chain in (tenant.organization, PLATFORM):
        report = await verify_chain(stores.audit, chain)
        assert (report.checked, report.broken) == (25, None)
    told = await stores.audit.chain(EventFilter(tenant.organization), 0, 100)
    assert {one.resource for one in told} == {key.name for key in keys}


async def test_what_is_not_done_leaves_no_event(stores: Any) -> None:
    """Neither a repeat of a creation nor a change that came too late."""
    tenant = await Tenant().open(stores)
    key = tenant.key()
    made = key_event(ADMIN, ORIGIN, "key.create", None, key)
    await stores.keys.add(key, "r", MARK, made)
    await stores.keys.add(tenant.key(), "r", MARK, made)
    late = replace(key, version=7)
    assert not await stores.keys.replace(late, late, event=made)
    assert (await stores.audit.head(tenant.organization)).sequence == 1


async def test_erased_personal_data_leaves_the_chain_whole(stores: Any) -> None:
    """It is gone from the events, that of others stays, and the check finds nothing wrong."""
    member = PersonalData("after", "organizations/x/members/y", {"email": "ann@example.com"})
    await stores.audit.record(draft(1, personal=(member,)))
    await stores.audit.record(draft(2))
    before = await stores.audit.chain(EventFilter(ORGANIZATION), 0, 10)
    assert before[0].shown("after") == {"purpose": "ü", "email": "ann@example.com"}
    assert await stores.audit.erase("organizations/x/members/y") == 1
    assert await stores.audit.erase("organizations/x/members/y") == 0
    first, second = await stores.audit.chain(EventFilter(ORGANIZATION), 0, 10)
    assert first.shown("after") == {"purpose": "ü"}
    assert first.shown("actor") == second.shown("actor") == before[0].shown("actor")
    assert await stores.audit.erase("local-operator") == 2
    report = await verify_chain(stores.audit, ORGANIZATION)
    assert (report.checked, report.broken) == (2, None)


async def test_a_part_of_a_chain_can_be_checked(stores: Any) -> None:
    """From a place, up to a place, and against a head that was kept elsewhere."""
    written = await _fill(stores.audit)
    assert (await verify_chain(stores.audit, ORGANIZATION, first=3, last=4)).checked == 2
    assert (await verify_chain(stores.audit, ORGANIZATION, first=3)).checked == 4
    kept = ChainHead(4, written[3].digest)
    assert (await verify_chain(stores.audit, ORGANIZATION, expected=kept)).broken is None
    other = (await verify_chain(stores.audit, ORGANIZATION, expected=ChainHead(4, bytes(32)))).broken
    assert other is not None
    assert (other.sequence, other.defect) == (4, pb.AUDIT_CHAIN_DEFECT_CHANGED)
    short = (await verify_chain(stores.audit, ORGANIZATION, expected=ChainHead(9, bytes(32)))).broken
    assert short is not None
    assert (short.sequence, short.defect) == (7, pb.AUDIT_CHAIN_DEFECT_CUT_SHORT)


def _row(sequence: int) -> Any:
    return audit_events.c.sequence == sequence


async def _swap(connection: Any, one: int, other: int) -> None:
    for old, new in ((one, 99), (other, one), (99, other)):
        await connection.execute(update(audit_events).where(_row(old)).values(sequence=new))
        await connection.execute(update(audit_personal).where(audit_personal.c.sequence == old).values(sequence=new))


async def _close_gap(connection: Any, gone: int, last: int) -> None:
    await connection.execute(delete(audit_events).where(_row(gone)))
    await connection.execute(delete(audit_personal).where(audit_personal.c.sequence == gone))
    for old in range(gone + 1, last + 1):
        await connection.execute(update(audit_events).where(_row(old)).values(sequence=old - 1))
        await connection.execute(
            update(audit_personal).where(audit_personal.c.sequence == old).values(sequence=old - 1)
        )


async def _write_anew(connection: Any, written: AuditEvent) -> None:
    forged = replace(written, reason="forged")
    values = {"reason": "forged", "digest": forged.expected_digest()}
    await connection.execute(update(audit_events).where(_row(written.sequence)).values(values))


CHANGED, REMOVED, MOVED = (
    pb.AUDIT_CHAIN_DEFECT_CHANGED,
    pb.AUDIT_CHAIN_DEFECT_REMOVED,
    pb.AUDIT_CHAIN_DEFECT_MOVED,
)
_OTHERS = {
    "id": "evt_other",
    "time": NOW - DAY,
    "action": "key.revoke",
    "resource": "other",
    "outcome": 2,
    "code": "other",
    "actor_kind": 1,
    "actor": "other",
    "request_id": "other",
    "source": 5,
    "before": '{"other":1}',
    "after": "",
    "reason": "other",
    "personal_digests": "{}",
    "previous": b"x" * 32,
    "digest": b"x" * 32,
}


@pytest.mark.parametrize("column", list(_OTHERS))
async def test_an_edit_of_any_column_is_found_and_named(database: Database, column: str) -> None:
    """Also where several rows were changed, the first is named."""
    store = SqlAuditStore(database)
    written = await _fill(store)
    async with database.transaction() as connection:
        for place in (3, 5):
            edit = update(audit_events).where(_row(place)).values({column: _OTHERS[column]})
            await connection.execute(edit)
    report = await verify_chain(store, ORGANIZATION)
    assert report.broken is not None
    assert (report.checked, report.broken.sequence, report.broken.defect) == (2, 3, CHANGED)
    assert report.broken.event is not None
    assert column == "id" or report.broken.event.id == written[2].id


@pytest.mark.parametrize(
    ("tamper", "place", "defect"),
    [
        (lambda c, w: c.execute(delete(audit_events).where(_row(1))), 1, REMOVED),
        (lambda c, w: c.execute(delete(audit_events).where(_row(3))), 3, REMOVED),
        (lambda c, w: c.execute(delete(audit_events).where(_row(6))), 6, REMOVED),
        (lambda c, w: c.execute(delete(audit_events)), 1, REMOVED),
        (lambda c, w: c.execute(delete(audit_heads)), 1, CHANGED),
        (lambda c, w: c.execute(update(audit_heads).values(sequence=5, digest=w[4].digest)), 6, CHANGED),
        (lambda c, w: _close_gap(c, 3, 6), 3, REMOVED),
        (lambda c, w: _close_gap(c, 1, 6), 1, REMOVED),
        (lambda c, w: _swap(c, 3, 4), 3, MOVED),
        (lambda c, w: _swap(c, 1, 6), 1, MOVED),
        (lambda c, w: _write_anew(c, w[0]), 1, CHANGED),
        (lambda c, w: _write_anew(c, w[2]), 3, CHANGED),
        (lambda c, w: _write_anew(c, w[5]), 6, CHANGED),
        (lambda c, w: c.execute(update(audit_personal).values(document="{}")), 1, CHANGED),
        (lambda c, w: c.execute(update(audit_personal).values(salt=b"x" * 16)), 1, CHANGED),
    ],
)
async def test_tampering_is_found_and_the_row_named(database: Database, tamper: Any, place: int, defect: int) -> None:
    """Rows removed, with or without a gap; moved; written anew with a digest that fits; and heads set back."""
    store = SqlAuditStore(database)
    written = await _fill(store)
    async with database.transaction() as connection:
        await tamper(connection, written)
    broken = (await verify_chain(store, ORGANIZATION)).broken
    assert broken is not None
    assert (broken.sequence, broken.defect) == (place, defect)


async def test_a_change_whose_event_cannot_be_written_is_not_made(database: Database) -> None:
    """The event's number is taken already: neither the key nor a second event is there afterwards."""
    keys, audit = SqlKeyStore(database), SqlAuditStore(database)

    class Opened:
        """What a tenant needs."""

    opened: Any = Opened()
    opened.people = SqlPeopleStore(database)
    tenant = await Tenant().open(opened)
    await audit.record(draft(organization_id=tenant.organization))
    async with database.transaction() as connection:
        await connection.execute(update(audit_heads).values(sequence=0))
    key = tenant.key()
    with pytest.raises(StoreUnavailableError):
        await keys.add(key, "", MARK, key_event(ADMIN, ORIGIN, "key.create", None, key))
    assert await keys.get(key.id) is None
    async with database.read() as connection:
        assert len((await connection.execute(select(audit_events))).all()) == 1
