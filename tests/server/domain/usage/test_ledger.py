"""One record a request: opened before the upstream, finished before the last byte."""

from __future__ import annotations

import pytest
from tests.server.domain.usage.doubles import START_US, MemoryJournal, Ticking, memory_ledger

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2, usage_pb2
from tokendance_server.domain.prices.tariff import Step, Tariff
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.domain.usage.entries import FinishedEntry, OpenEntry, OpenRequest, decode, unknown
from tokendance_server.domain.usage.ledger import OpenAttempt, OpenRecord

OK, REFUSED = usage_pb2.REQUEST_OUTCOME_SUCCEEDED, usage_pb2.REQUEST_OUTCOME_REFUSED
FAILED, UNKNOWN = usage_pb2.REQUEST_OUTCOME_FAILED, usage_pb2.REQUEST_OUTCOME_UNKNOWN
TARIFF = Tariff({"": {"input": [Step(1_000_000)], "output": [Step(2_000_000)]}})


def request(request_id: str = "req_1") -> OpenRequest:
    """Return a request of one key."""
    return OpenRequest(request_id=request_id, start_us=START_US, organization_id="org_1", key_id="key_1")


async def attempt_of(record: OpenRecord, tariff: Tariff | None = TARIFF) -> OpenAttempt:
    """Begin an attempt that is estimated at 10 and 5 tokens."""
    return await record.attempt(
        model="small", provider="p", provider_label="P", upstream_model="up", input_tokens=10, output_tokens=5,
        tariff=tariff,
    )  # fmt: skip


def usage(input_tokens: int, output_tokens: int) -> completion_pb2.Usage:
    """Return a usage as a provider counted it."""
    return completion_pb2.Usage(
        input_tokens=input_tokens, output_tokens=output_tokens, source=completion_pb2.USAGE_SOURCE_PROVIDER
    )


async def test_open_entry_is_written_before_the_attempt() -> None:
    """Once an attempt is there, the journal has what is needed to charge it."""
    journal = MemoryJournal()
    record = memory_ledger(journal).open(request())
    assert journal.opened == {}
    await attempt_of(record)
    entry = decode(journal.opened[record.id])
    assert isinstance(entry, OpenEntry)
    assert (entry.request, entry.attempt.number, entry.attempt.cost_micros) == (request(), 1, 20)


async def test_finished_entry_has_every_attempt_and_their_sums() -> None:
    """A failed attempt that was billed is charged beside the one that answered."""
    journal, clock = MemoryJournal(), Ticking()
    ledger = memory_ledger(journal, clock)
    record = ledger.open(request())
    first = await attempt_of(record)
    clock.now += 250
    first.finish(FAILED, estimate=Counts(10, 0), reason=errors_pb2.ERROR_REASON_PROVIDER_ERROR, upstream_status=502)
    second = await attempt_of(record)
    charge = second.finish(OK, usage=usage(8, 3), upstream_request_id="up_1")
    entry = await record.finish(OK)
    assert charge == (Counts(8, 3), False, 14)
    assert [one.number for one in entry.attempts] == [1, 2]
    assert (entry.counts, entry.cost_micros, entry.estimated) == (Counts(18, 3), 24, True)
    assert entry.attempts[0].total_us == 250
    assert decode(journal.finished[record.id]) == entry
    assert ledger.waiting() == [entry]
    ledger.drained([entry])
    assert (ledger.backlog, journal.finished, journal.opened) == (0, {}, {})


async def test_finishing_twice_changes_nothing() -> None:
    """The first end of a request and of an attempt is the one that counts."""
    ledger = memory_ledger()
    record = ledger.open(request())
    attempt = await attempt_of(record)
    assert attempt.finish(OK, usage=usage(1, 1)) is attempt.finish(FAILED, usage=usage(9, 9))
    first = await record.finish(OK)
    assert await record.finish(FAILED) is first
    assert ledger.backlog == 1


async def test_refusal_needs_no_attempt_and_costs_nothing() -> None:
    """A refusal is recorded with the code and the sentence that the caller saw."""
    ledger = memory_ledger()
    entry = await ledger.open(request()).finish(
        REFUSED, reason=errors_pb2.ERROR_REASON_QUOTA_EXCEEDED, message="The quota is spent."
    )
    assert (entry.attempts, entry.cost_micros, entry.counts) == ((), 0, Counts())
    assert entry.message == "The quota is spent."


async def test_model_without_a_price_is_unpriced_not_free() -> None:
    """Nobody knows what it cost, and the record says so."""
    record = memory_ledger().open(request())
    (await attempt_of(record, None)).finish(OK, usage=usage(1, 1))
    assert (await record.finish(OK)).cost_micros is None


async def test_full_journal_refuses_and_forgets_nothing() -> None:
    """Where usage cannot be recorded, no call is made that costs."""
    journal = MemoryJournal()
    ledger = memory_ledger(journal)
    journal.full = True
    with pytest.raises(GatewayError) as refused:
        ledger.open(request())
    assert refused.value.code == "ledger_unavailable"
    assert refused.value.retry_after_s == 5


async def test_journal_that_breaks_before_the_call_prevents_it() -> None:
    """An attempt whose open entry is not written is not made."""
    journal = MemoryJournal()
    record = memory_ledger(journal).open(request())
    journal.broken = True
    with pytest.raises(GatewayError) as refused:
        await attempt_of(record)
    assert refused.value.code == "ledger_unavailable"


async def test_journal_that_breaks_after_the_call_takes_no_answer_back() -> None:
    """The record waits in memory for the database."""
    journal = MemoryJournal()
    ledger = memory_ledger(journal)
    record = ledger.open(request())
    attempt = await attempt_of(record)
    journal.broken = True
    attempt.finish(OK, usage=usage(1, 1))
    entry = await record.finish(OK)
    assert ledger.waiting() == [entry]


async def test_request_ids_of_callers_never_meet_billing_ids() -> None:
    """Two requests that chose one id, even one that looks like a billing id, are two records."""
    ledger = memory_ledger()
    first = ledger.open(request("same"))
    second = ledger.open(request(first.id))
    assert len({first.id, second.id, "same"}) == 3


async def test_attempt_that_nobody_finished_is_charged_by_the_rule() -> None:
    """A defect in the model path costs the caller what a dead node would, not nothing."""
    record = memory_ledger().open(request())
    await attempt_of(record)
    entry = await record.finish(FAILED)
    assert (entry.attempts[0].outcome, entry.counts, entry.estimated) == (UNKNOWN, Counts(10, 5), True)


async def test_entry_found_open_is_charged_by_the_rule() -> None:
    """The prompt's estimate and the learnt size of an answer, at the price of the reservation, flagged."""
    journal = MemoryJournal()
    record = memory_ledger(journal).open(request())
    (await attempt_of(record)).finish(FAILED, estimate=Counts(10))
    await attempt_of(record)
    opened = decode(journal.opened[record.id])
    assert isinstance(opened, OpenEntry)
    entry = unknown(opened)
    assert [(one.number, one.outcome) for one in entry.attempts] == [(1, FAILED), (2, UNKNOWN)]
    assert (entry.id, entry.outcome, entry.end_us) == (record.id, UNKNOWN, None)
    assert (entry.counts, entry.cost_micros, entry.estimated) == (Counts(20, 5), 30, True)
    assert isinstance(entry, FinishedEntry)
