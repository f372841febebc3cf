"""Usage as its readers get it, over a real store: sums, months, pages, and each within its scope."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.server.domain.usage.doubles import MemoryJournal

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2, usage_pb2
from tokendance_server.domain.page_tokens import PageTokens
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.domain.usage.drain import Drain
from tokendance_server.domain.usage.entries import FinishedAttempt, FinishedEntry, OpenRequest
from tokendance_server.domain.usage.ledger import Ledger
from tokendance_server.domain.usage.queries import MONTH_US, Question, UsageQueries
from tokendance_server.domain.usage.store import DAY_US, Group, Grouping, UsageFilter
from tokendance_server.stores.sql.database import Database
from tokendance_server.stores.sql.usage import SqlUsageStore

ORG, OTHER = f"org_{'0' * 26}", f"org_{'1' * 26}"
KEYS = [f"key_{number:026}" for number in range(3)]
MEMBERS = [f"user_{number:026}" for number in range(3)]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NOW_US = round(NOW.timestamp() * 1_000_000)
PLATFORM = Principal(frozenset({access_pb2.CALLER_KIND_PLATFORM_ADMIN}), "local-operator")
ADMIN = Principal(
    frozenset({access_pb2.CALLER_KIND_ORGANIZATION_ADMIN}),
    f"organizations/{ORG}/members/{MEMBERS[2]}",
    f"organizations/{ORG}",
)
MEMBER = Principal(
    frozenset({access_pb2.CALLER_KIND_MEMBER}), f"organizations/{ORG}/members/{MEMBERS[0]}", f"organizations/{ORG}"
)
KEY = Principal(
    frozenset({access_pb2.CALLER_KIND_API_KEY}),
    f"organizations/{ORG}/keys/{KEYS[1]}",
    f"organizations/{ORG}",
    key_id=KEYS[1],
)
QUESTION = Question("organizations/-", UsageFilter(), 0, NOW_US, 0, "", "the question")


class _Clock:
    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class _Nowhere:
    def put(self, entry: FinishedEntry, why: str) -> None:
        raise AssertionError(why)


def entry(number: int, *, organization: str = ORG, days_ago: int = 0) -> FinishedEntry:
    """Return a request of 10 and 2 tokens; keys and members take turns."""
    at_us = NOW_US - days_ago * DAY_US - 3_600_000_000 + number
    ok = usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    return FinishedEntry(
        id=f"rec_{number:03}",
        node="node_1",
        request=OpenRequest(
            request_id=f"req_{number}",
            start_us=at_us,
            organization_id=organization,
            key_id=KEYS[number % 3],
            member_id=MEMBERS[number % 3],
            team_id="",
        ),
        outcome=ok,
        end_us=at_us + 1_000_000,
        served_model="small",
        counts=Counts(10, 2),
        cost_micros=5,
        attempts=(FinishedAttempt(number=1, start_us=at_us, outcome=ok, counts=Counts(10, 2), cost_micros=5),),
    )


@pytest.fixture
async def queries(database: Database) -> UsageQueries:
    """Give queries over ten requests of one organization on ten days, and one request of another."""
    store = SqlUsageStore(database)
    await store.insert([*(entry(number, days_ago=number) for number in range(10)), entry(10, organization=OTHER)])
    ledger = Ledger(MemoryJournal(), "node_1", lambda: NOW_US, lambda problem: None)
    drain = Drain(
        ledger,
        store,
        lambda error: None,
        aside=_Nowhere(),
        report_prune=lambda error: None,
        keep_records_us=DAY_US,
        keep_hours_us=DAY_US,
    )
    return UsageQueries(store, drain, PageTokens(bytes(32)), _Clock())


async def seen(queries: UsageQueries, caller: Principal, question: Question = QUESTION) -> int:
    """Return how many requests a caller's sums count, once the records have told the same."""
    report = await queries.sum_up(caller, question, [], 0)
    page = await queries.list(caller, question)
    assert page.total == len(page.entries) == report.totals.requests
    return report.totals.requests


async def test_each_sees_what_is_its_own(queries: UsageQueries) -> None:
    """A key its own, a member its own, administrators their organization's, the platform's everything."""
    assert await seen(queries, PLATFORM) == 11
    assert await seen(queries, ADMIN) == 10
    assert await seen(queries, MEMBER) == 4
    assert await seen(queries, KEY) == 3
    assert await seen(queries, KEY, replace(QUESTION, parent="")) == 3


@pytest.mark.parametrize("caller", [ADMIN, MEMBER, KEY], ids=["admin", "member", "key"])
async def test_another_organization_is_not_there(queries: UsageQueries, caller: Principal) -> None:
    """Named outright it is not found; a filter does not lead into it either."""
    with pytest.raises(GatewayError) as refused:
        await queries.sum_up(caller, replace(QUESTION, parent=f"organizations/{OTHER}"), [], 0)
    assert refused.value.reason == errors_pb2.ERROR_REASON_NOT_FOUND


async def test_key_sees_no_other_key(queries: UsageQueries) -> None:
    """Neither by asking for it, nor by asking for both."""
    for keys in ([KEYS[0]], [KEYS[0], KEYS[1]]):
        with pytest.raises(GatewayError) as refused:
            await queries.list(KEY, replace(QUESTION, wanted=UsageFilter(keys=keys)))
        assert refused.value.reason == errors_pb2.ERROR_REASON_NOT_FOUND


async def test_rows_name_their_subjects_and_add_up(queries: UsageQueries) -> None:
    """By key and organization: resource names, the most requests first, totals the sum of the rows."""
    report = await queries.sum_up(PLATFORM, QUESTION, [Grouping("key_id"), Grouping("organization_id")], 0)
    assert [(row.values, row.sums.requests) for row in report.rows] == [
        ((f"organizations/{ORG}/keys/{KEYS[0]}", f"organizations/{ORG}"), 4),
        ((f"organizations/{ORG}/keys/{KEYS[1]}", f"organizations/{ORG}"), 3),
        ((f"organizations/{ORG}/keys/{KEYS[2]}", f"organizations/{ORG}"), 3),
        ((f"organizations/{OTHER}/keys/{KEYS[1]}", f"organizations/{OTHER}"), 1),
    ]
    assert report.totals.input_tokens == sum(row.sums.input_tokens for row in report.rows) == 110


async def test_months_are_the_calendar_s(queries: UsageQueries) -> None:
    """Days of one month are one row, which begins on its first day."""
    early = replace(QUESTION, start_us=0)
    report = await queries.sum_up(PLATFORM, early, [], MONTH_US)
    first = round(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1_000_000)
    assert [(row.bucket_us, row.sums.requests) for row in report.rows] == [(first, 11)]


async def test_pages_hold_together(queries: UsageQueries) -> None:
    """All rows once and in order, whatever the size of a page; a token is good for its question alone."""
    whole = await queries.sum_up(PLATFORM, QUESTION, [Grouping("key_id")], DAY_US)
    paged = await _all_rows(queries)
    assert [(row.bucket_us, row.values) for row in paged] == [(row.bucket_us, row.values) for row in whole.rows]
    records, token = [], ""
    while True:
        page = await queries.list(ADMIN, replace(QUESTION, page_size=3, page_token=token))
        records += [one.id for one in page.entries]
        token = page.next_page_token
        if not token:
            break
        with pytest.raises(GatewayError):
            await queries.list(MEMBER, replace(QUESTION, page_token=token))
    assert records == [f"rec_{number:03}" for number in range(10)]


async def _all_rows(queries: UsageQueries) -> list[Group]:
    rows: list[Group] = []
    token = ""
    while True:
        page = await queries.sum_up(
            PLATFORM, replace(QUESTION, page_size=3, page_token=token), [Grouping("key_id")], DAY_US
        )
        assert page.totals.requests == 11
        rows += page.rows
        token = page.next_page_token
        if not token:
            return rows


async def test_time_that_ends_before_it_begins_is_refused(queries: UsageQueries) -> None:
    """Not answered with nothing, which would look like an answer."""
    with pytest.raises(GatewayError) as refused:
        await queries.sum_up(PLATFORM, replace(QUESTION, start_us=NOW_US, end_us=NOW_US), [], 0)
    assert (refused.value.code, refused.value.param) == ("invalid_request", "start_time")
