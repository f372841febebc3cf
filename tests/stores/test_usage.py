"""What every store of usage must do."""

from __future__ import annotations

from typing import Any

import pytest

from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.domain.usage.entries import FinishedAttempt, FinishedEntry, OpenRequest
from tokendance_server.domain.usage.store import DAY_US, HOUR_US, EntryRefusedError, Grouping, Sums, UsageFilter
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.usage import SqlUsageStore

T0 = 20_000 * DAY_US
OK, REFUSED = usage_pb2.REQUEST_OUTCOME_SUCCEEDED, usage_pb2.REQUEST_OUTCOME_REFUSED
ALL = UsageFilter()


def entry(number: int, at_us: int, **changes: Any) -> FinishedEntry:
    """Return a request of 10 and 2 tokens that took a second."""
    request = {
        "request_id": f"req_{number}",
        "start_us": at_us,
        "organization_id": "org_1",
        "key_id": "key_1",
        "member_id": "user_1",
        "team_id": "team_1",
        **{name: changes.pop(name) for name in list(changes) if name in OpenRequest.__struct_fields__},
    }
    fields = {
        "outcome": OK,
        "end_us": at_us + 1_000_000,
        "served_model": "small",
        "counts": Counts(10, 2),
        "cost_micros": 5,
        "attempts": (FinishedAttempt(number=1, start_us=at_us, outcome=OK, counts=Counts(10, 2), cost_micros=5),),
        **changes,
    }
    return FinishedEntry(id=f"rec_{number:03}", node="node_1", request=OpenRequest(**request), **fields)


async def total(store: SqlUsageStore, wanted: UsageFilter = ALL, start: int = 0, end: int = 2 * T0) -> Sums:
    """Return the sums of all that a filter lets through."""
    groups = await store.sum_up(wanted, start, end, [], 0)
    sums = Sums()
    for one in groups:
        sums.add(one.sums)
    return sums


async def test_batch_written_twice_counts_once(database: Database) -> None:
    """Neither rows nor sums grow where a batch, or a part of it, is replayed."""
    store = SqlUsageStore(database)
    entries = [entry(number, T0 + number * HOUR_US) for number in range(5)]
    assert await store.insert(entries) == 5
    before = await total(store)
    assert await store.insert([*entries[2:], entry(9, T0), entry(9, T0)]) == 1
    after = await total(store)
    assert (before.requests, after.requests, after.cost_micros) == (5, 6, 30)


@pytest.mark.parametrize(
    ("start", "end"),
    [(T0, T0 + 3 * DAY_US), (T0 + 1, T0 + 2 * DAY_US + 5), (T0 + HOUR_US + 7, T0 + HOUR_US + 9 * 60_000_000)],
)
@pytest.mark.parametrize("interval", [0, HOUR_US, DAY_US])
async def test_sums_agree_with_the_records(database: Database, start: int, end: int, interval: int) -> None:
    """Whatever the edges of the time are, days, hours and requests are put together without a gap or an overlap."""
    store = SqlUsageStore(database)
    entries = [entry(number, T0 + number * 1_234_567_891) for number in range(180)]
    await store.insert(entries)
    groups = await store.sum_up(ALL, start, end, [Grouping("key_id")], interval)
    within = [one for one in entries if start <= one.request.start_us < end]
    assert sum(one.sums.requests for one in groups) == len(within)
    assert sum(one.sums.input_tokens for one in groups) == 10 * len(within)
    if interval:
        assert {one.bucket_us for one in groups} == {one.request.start_us // interval * interval for one in within}


async def test_groups(database: Database) -> None:
    """By column, by the caller's user, and by a label of the caller or of the key."""
    store = SqlUsageStore(database)
    await store.insert(
        [
            entry(1, T0, labels={"job": "a"}, user="u1"),
            entry(2, T0, labels={"job": "a"}, key_labels={"job": "k"}),
            entry(3, T0, key_labels={"job": "k"}),
            entry(4, T0, key_id="key_2", outcome=REFUSED, reason=errors_pb2.ERROR_REASON_QUOTA_EXCEEDED, attempts=()),
        ]
    )
    for groups, expected in (
        ([Grouping("labels", "job")], {("a",): 2, ("k",): 1, ("",): 1}),
        ([Grouping("user_name")], {("u1",): 1, ("",): 3}),
        ([Grouping("key_id"), Grouping("outcome")], {("key_1", OK): 3, ("key_2", REFUSED): 1}),
    ):
        found = await store.sum_up(ALL, 0, 2 * T0, groups, 0)
        assert {one.values: one.sums.requests for one in found} == expected
    assert (await total(store, UsageFilter(labels={"job": "a"}))).requests == 2
    assert (await total(store, UsageFilter(keys=["key_2"]))).refused == 1
    assert (await total(store)).charged == 3
    assert (await total(store, UsageFilter(organization_id="org_2"))).requests == 0
    assert (await total(store, UsageFilter(seen_by="user_9", seen_teams=frozenset({"team_1"})))).requests == 4
    assert (await total(store, UsageFilter(seen_by="user_9"))).requests == 0


async def test_list_runs_from_the_newest(database: Database) -> None:
    """Page by page, without a repeat where several began at once."""
    store = SqlUsageStore(database)
    entries = [entry(number, T0 + number // 3) for number in range(9)]
    await store.insert(entries)
    seen: list[FinishedEntry] = []
    before = None
    while rows := await store.page(ALL, 0, 2 * T0, before, 2):
        seen += rows
        before = (rows[-1].request.start_us, rows[-1].id)
    assert seen == entries[::-1]
    assert await store.count(ALL, 0, 2 * T0, 100) == 9
    assert await store.count(ALL, 0, 2 * T0, 4) == 4


async def test_found_by_either_id(database: Database) -> None:
    """By the billing id, and by the id that callers saw: the newest first, where they chose one twice."""
    store = SqlUsageStore(database)
    await store.insert([entry(1, T0, request_id="same"), entry(2, T0 + 1, request_id="same", organization_id="org_2")])
    assert [one.id for one in await store.find("same", "", 10)] == ["rec_002", "rec_001"]
    assert [one.id for one in await store.find("same", "org_1", 10)] == ["rec_001"]
    assert [one.id for one in await store.find("rec_002", "", 10)] == ["rec_002"]
    assert await store.find("rec_002", "org_1", 10) == []


async def test_what_no_database_takes_holds_nothing_up(database: Database) -> None:
    """NUL, and texts that are too long, are made to fit; the caller's id is no billing id."""
    store = SqlUsageStore(database)
    odd = entry(1, T0, request_id="r" * 900, user="a\0b", key_labels={"a'b": 'c"\0'}, client_kind="k" * 500)
    assert await store.insert([odd, entry(2, T0, request_id="rec_001")]) == 2
    assert (await total(store)).requests == 2


async def test_old_rows_go_in_small_batches_and_sums_stay(database: Database) -> None:
    """Days outlive the requests that they sum up."""
    store = SqlUsageStore(database)
    await store.insert([entry(number, T0 + number * DAY_US) for number in range(6)])
    horizon = T0 + 4 * DAY_US
    rounds = 0
    while await store.prune(horizon, horizon, 2):
        rounds += 1
    assert rounds == 2
    assert await store.count(ALL, 0, 2 * T0, 100) == 2
    assert (await total(store)).requests == 6


async def test_pseudonym_keeps_totals(database: Database) -> None:
    """An erased member's rows tell no more who it was, and still add up."""
    store = SqlUsageStore(database)
    await store.insert([entry(1, T0, user="somebody", address="192.0.2.1"), entry(2, T0, member_id="user_2")])
    await store.pseudonymise("org_1", "user_1", "erased_1")
    (first,) = await store.find("req_1", "", 1)
    assert (first.request.member_id, first.request.user, first.request.address) == ("erased_1", "", "")
    found = await store.sum_up(ALL, 0, 2 * T0, [Grouping("member_id")], 0)
    assert {one.values: one.sums.requests for one in found} == {("erased_1",): 1, ("user_2",): 1}


@pytest.mark.parametrize("end_us", [2**63, 2**70])
async def test_value_that_fits_no_row_is_refused_and_leaves_nothing(database: Database, end_us: int) -> None:
    """Typed apart from a database that is gone, whichever driver finds out; none of its batch is written."""
    store = SqlUsageStore(database)
    with pytest.raises(EntryRefusedError):
        await store.insert([entry(1, T0), entry(2, T0, end_us=end_us)])
    assert (await total(store)).requests == 0
    assert await store.insert([entry(1, T0)]) == 1


async def test_call_that_failed_before_anything_came_is_charged_to_no_limit(database: Database) -> None:
    """As it was while the node ran, which gave its hold back; alike by sums and by records."""
    store = SqlUsageStore(database)
    failed = usage_pb2.REQUEST_OUTCOME_FAILED
    nothing = FinishedAttempt(number=1, start_us=T0, outcome=failed)
    await store.insert(
        [
            entry(1, T0),
            entry(2, T0, outcome=failed, counts=Counts(), attempts=(nothing,)),
            entry(3, T0, outcome=failed, counts=Counts(10, 1)),
            entry(4, T0, outcome=REFUSED, counts=Counts(), attempts=()),
        ]
    )
    assert (await total(store)).charged == 2
    assert (await total(store, start=T0 - 1, end=T0 + 1)).charged == 2
