"""Model calls met by limits: what is held, charged, recorded and told, however a call ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from tests.server.domain.meters import NOW, meter_of
from tests.server.domain.routing.routers import router_of
from tests.server.domain.usage.doubles import MemoryJournal

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2, quota_pb2, usage_pb2
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import Model, ModelIndex, Route
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.completions import Completions
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.upstream import Seen
from tokendance_server.domain.usage.entries import FinishedEntry, decode

ORGANIZATION = "organizations/org_1"
KEY = f"{ORGANIZATION}/keys/key_1"
TOTAL = quota_pb2.LIMIT_WINDOW_TOTAL
REQUESTS = quota_pb2.LIMIT_METRIC_REQUESTS
OUTPUT = quota_pb2.LIMIT_METRIC_OUTPUT_TOKENS
HOLDER = Principal(
    kinds=frozenset({access_pb2.CALLER_KIND_API_KEY}),
    name=KEY,
    organization=ORGANIZATION,
    key_id="key_1",
    owner=f"{ORGANIZATION}/members/user_1",
    team=f"{ORGANIZATION}/teams/team_1",
    labels={"app": "search"},
)


class Upstream:
    """Answers as it is told, and remembers the last request."""

    def __init__(self) -> None:
        self.usage: pb.Usage | None = pb.Usage(input_tokens=7, output_tokens=5, source=pb.USAGE_SOURCE_PROVIDER)
        self.failure: Exception | None = None
        self.texts = ["Hello ", "there."]
        self.piece: Callable[[str], pb.CompletionEvent] = lambda text: pb.CompletionEvent(text=pb.TextDelta(text=text))
        self.request = pb.CompletionRequest()
        self.calls = 0
        self.shown = Seen()
        self.waits_s = 0.0
        self.answer_id = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self.before_gate = 0

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        return ()

    async def complete(self, request: pb.CompletionRequest, call: Any) -> pb.Completion:
        self.request.CopyFrom(request)
        self.calls += 1
        await self._show(call)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        completion = pb.Completion(id=self.answer_id, usage=self.usage)
        completion.choices.add().message.parts.add().text.text = "".join(self.texts)
        return completion

    async def stream(self, request: pb.CompletionRequest, call: Any) -> AsyncIterator[list[pb.CompletionEvent]]:
        self.request.CopyFrom(request)
        self.calls += 1
        await self._show(call)
        yield [pb.CompletionEvent(started=pb.Started(id=self.answer_id))]
        for place, text in enumerate(self.texts):
            if place >= self.before_gate:
                await self.gate.wait()
            yield [self.piece(text)]
            if self.failure is not None:
                raise self.failure
        yield [pb.CompletionEvent(finished=pb.Finished(usage=self.usage))]

    async def _show(self, call: Any) -> None:
        await asyncio.sleep(self.waits_s)
        call.seen.status, call.seen.request_id = self.shown.status, self.shown.request_id
        call.seen.connect_us = self.shown.connect_us


class House:
    """Completions over one upstream, whose calls meet the limits that a test states."""

    def __init__(self, *limits: LimitRule, subject: str = KEY) -> None:
        self.upstream = Upstream()
        self.journal = MemoryJournal()
        self.meter = meter_of({subject: limits}, journal=self.journal)
        index = ModelIndex([Model("m", (Route("p", "up"),))])
        serving = Serving(index, {"p": self.upstream}, {"p": "Acme"})  # type: ignore[dict-item] # what the tests call
        clock = ManualClock(NOW)
        self.completions = Completions(lambda: serving, clock, self.meter, router_of(lambda: serving, clock))

    async def create(self, **fields: Any) -> pb.Completion:
        """Call, and return the answer."""
        return await self.completions.create(request(**fields), caller())

    async def stream(self, **fields: Any) -> list[pb.CompletionEvent]:
        """Call, and return all events."""
        async with aclosing(self.completions.stream(request(**fields), caller())) as batches:  # type: ignore[type-var]
            return [event async for events in batches for event in events]

    @property
    def records(self) -> list[FinishedEntry]:
        """What is on record, in order."""
        entries = [decode(payload) for payload in self.journal.finished.values()]
        assert all(isinstance(one, FinishedEntry) for one in entries)
        return entries  # type: ignore[return-value]

    async def standing(self, rule: LimitRule) -> tuple[int, int]:
        """What is spent and held of a key's limit."""
        from tokendance_server.domain.quota.claims import row_of

        (one,) = await self.meter.reservations.standings(ORGANIZATION, [row_of(KEY, rule)])
        return one.spent, one.held


def request(**fields: Any) -> pb.CompletionRequest:
    """A small request."""
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])
    return pb.CompletionRequest(**{"model": "m", "messages": [message], **fields})


def caller() -> Any:
    """One RPC of the key's holder."""
    return SimpleNamespace(
        request_id="req_1",
        method="/package.Service/Method",
        deadline=0.0,
        model="",
        upstream_s=0.0,
        ended_by=None,
        identity=HOLDER,
        surface=errors_pb2.SURFACE_CHAT,
        address="192.0.2.1",
        caller=None,
    )


def limit(metric: Any, most: int, window: Any = TOTAL, **fields: Any) -> LimitRule:
    """A limit of the key."""
    return LimitRule(metric, window, most, **fields)


async def test_an_answer_is_charged_what_its_provider_counted() -> None:
    """On the limit, on the record, and in the answer, with what is left."""
    rules = limit(REQUESTS, 3), limit(OUTPUT, 100)
    house = House(*rules)
    answer = await house.create(user="end-user", metadata={"task": "t1"})
    assert [await house.standing(rule) for rule in rules] == [(1, 0), (5, 0)]
    assert (answer.account.requests.limit, answer.account.requests.remaining) == (3, 2)
    assert (answer.account.tokens.limit, answer.account.tokens.remaining) == (100, 95)
    assert (answer.account.served_by, answer.account.estimated) == ("Acme", False)
    (record,) = house.records
    assert record.outcome == usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    assert (record.counts.input_tokens, record.counts.output_tokens, record.estimated) == (7, 5, False)
    sent = record.request
    assert (sent.request_id, sent.organization_id, sent.key_id) == ("req_1", "org_1", "key_1")
    assert (sent.member_id, sent.team_id, sent.user, sent.metadata) == ("user_1", "team_1", "end-user", {"task": "t1"})
    assert sent.key_labels == {"app": "search"}


async def test_a_limit_refuses_before_anything_goes_upstream() -> None:
    """With the limit in the error; the refusal is on record and charges nothing."""
    rule = limit(REQUESTS, 1)
    house = House(rule)
    await house.create()
    with pytest.raises(GatewayError) as raised:
        await house.create()
    assert raised.value.code == "quota_exceeded"
    assert raised.value.metadata["subject"] == KEY
    assert (raised.value.metadata["spent"], raised.value.metadata["limit"]) == ("1", "1")
    assert house.upstream.calls == 1
    assert await house.standing(rule) == (1, 0)
    record = house.records[-1]
    assert record.outcome == usage_pb2.REQUEST_OUTCOME_REFUSED
    assert [(one.refused, one.asked) for one in record.limits] == [(True, 1)]
    assert record.attempts == ()


async def test_limits_of_the_organization_count_too() -> None:
    """All four subjects do; the refusal names whose it is."""
    house = House(limit(REQUESTS, 0), subject=ORGANIZATION)
    with pytest.raises(GatewayError, match="The organization is at its limit"):
        await house.create()


async def test_an_answer_in_one_message_is_capped_at_what_is_left() -> None:
    """And holds that much while it runs, so that no other call takes it."""
    rule = limit(OUTPUT, 100)
    house = House(rule)
    house.upstream.gate.clear()
    running = asyncio.create_task(house.create(max_output_tokens=1000))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await house.standing(rule) == (0, 100)
    with pytest.raises(GatewayError) as raised:
        await house.create()
    assert raised.value.code == "quota_held"
    house.upstream.gate.set()
    await running
    assert house.upstream.request.max_output_tokens == 100
    assert await house.standing(rule) == (5, 0)


async def test_without_a_limit_on_tokens_nothing_is_capped() -> None:
    """The caller's request goes out as it came."""
    house = House(limit(REQUESTS, 10))
    await house.create()
    assert not house.upstream.request.HasField("max_output_tokens")


async def test_a_stream_is_charged_before_its_last_event() -> None:
    """And the last event tells it."""
    rule = limit(OUTPUT, 5000)
    house = House(rule)
    events = await house.stream()
    assert events[0].started.account.tokens.limit == 5000
    assert events[-1].finished.account.served_by == "Acme"
    assert await house.standing(rule) == (5, 0)
    assert house.records[0].request.streamed


async def test_a_stream_that_outgrows_its_limit_ends_with_length() -> None:
    """Charged for what was produced, by the gateway's own count; the limit is not overrun by more than one piece."""
    rule = limit(OUTPUT, 200)
    house = House(rule)
    house.upstream.texts = ["x" * 100] * 40
    events = await house.stream()
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[-2:] == ["choice_finished", "finished"]
    assert events[-2].choice_finished.finish_reason == pb.FINISH_REASON_LENGTH
    assert events[-1].finished.usage.source == pb.USAGE_SOURCE_ESTIMATED
    spent, held = await house.standing(rule)
    assert held == 0
    assert 200 <= spent <= 225
    assert house.records[0].estimated


async def test_a_caller_that_leaves_pays_for_what_it_got() -> None:
    """After each number of pieces: the prompt and the text so far, marked as an estimate."""
    for count in range(3):
        rule = limit(OUTPUT, 5000)
        house = House(rule)
        house.upstream.texts = ["twelve bytes"] * 5
        async with aclosing(house.completions.stream(request(), caller())) as batches:  # type: ignore[type-var]
            for _ in range(count + 1):
                await anext(batches)
        (record,) = house.records
        assert record.outcome == usage_pb2.REQUEST_OUTCOME_CANCELLED
        assert record.delivery == usage_pb2.DELIVERY_OUTCOME_CALLER_LEFT
        assert record.counts.output_tokens == 3 * (count + 1)
        assert record.estimated
        assert await house.standing(rule) == (3 * (count + 1), 0)


@pytest.mark.parametrize(
    "piece",
    [
        lambda text: pb.CompletionEvent(reasoning=pb.ReasoningDelta(text=text)),
        lambda text: pb.CompletionEvent(reasoning=pb.ReasoningDelta(summary=text)),
        lambda text: pb.CompletionEvent(refusal=pb.RefusalDelta(text=text)),
        lambda text: pb.CompletionEvent(tool_call=pb.ToolCallDelta(arguments=text)),
    ],
)
async def test_whatever_kind_of_text_came_is_paid_for(piece: Callable[[str], pb.CompletionEvent]) -> None:
    """Thoughts, their summaries, refusals and arguments are what the model produced, too."""
    house = House(limit(OUTPUT, 5000))
    house.upstream.piece = piece
    house.upstream.texts = ["twelve bytes"] * 5
    async with aclosing(house.completions.stream(request(), caller())) as batches:  # type: ignore[type-var]
        await anext(batches)
    assert house.records[0].counts.output_tokens == 3


async def test_a_provider_that_fails_costs_nothing() -> None:
    """The request itself neither: what is held is free again, and the failure is on record."""
    rules = limit(REQUESTS, 5), limit(OUTPUT, 5000)
    house = House(*rules)
    house.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "It failed.", origin="provider")
    with pytest.raises(GatewayError):
        await house.create()
    assert [await house.standing(rule) for rule in rules] == [(0, 0), (0, 0)]
    (record,) = house.records
    assert (record.outcome, record.reason) == (
        usage_pb2.REQUEST_OUTCOME_FAILED,
        errors_pb2.ERROR_REASON_PROVIDER_ERROR,
    )
    assert [one.outcome for one in record.attempts] == [usage_pb2.REQUEST_OUTCOME_FAILED]


async def test_a_stream_that_breaks_is_charged_what_came() -> None:
    """As an estimate."""
    rule = limit(OUTPUT, 5000)
    house = House(rule)
    house.upstream.texts = ["twelve bytes"]
    house.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_STREAM_INTERRUPTED, "It broke.", origin="provider")
    with pytest.raises(GatewayError):
        await house.stream()
    assert await house.standing(rule) == (3, 0)
    assert house.records[0].delivery == usage_pb2.DELIVERY_OUTCOME_FAILED


async def test_a_call_cancelled_in_the_middle_frees_what_it_held() -> None:
    """And is on record; the prompt is charged, for the provider has it."""
    rules = limit(OUTPUT, 50_000), limit(quota_pb2.LIMIT_METRIC_CONCURRENT_REQUESTS, 1, 0)
    house = House(*rules)
    house.upstream.gate.clear()
    running = asyncio.create_task(house.create())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(GatewayError) as raised:
        await house.create()
    assert raised.value.code == "concurrency_limit_exceeded"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [await house.standing(rule) for rule in rules] == [(0, 0), (0, 0)]
    assert house.records[-1].outcome == usage_pb2.REQUEST_OUTCOME_CANCELLED


async def test_an_unknown_model_is_on_record() -> None:
    """Refusals of a known key are, whatever refused them."""
    house = House()
    with pytest.raises(GatewayError):
        await house.create(model="nothing")
    (record,) = house.records
    assert (record.request.requested_model, record.reason) == ("nothing", errors_pb2.ERROR_REASON_MODEL_NOT_FOUND)


async def test_without_room_in_the_journal_nothing_is_called() -> None:
    """Paid work that cannot be recorded is refused, not forgotten."""
    house = House()
    house.journal.full = True
    with pytest.raises(GatewayError) as raised:
        await house.create()
    assert raised.value.code == "ledger_unavailable"
    assert house.upstream.calls == 0


async def test_a_call_is_explained_without_being_made() -> None:
    """Which limits it would meet, the tightest first, what it would hold, and who would refuse it; nothing is held."""
    rules = limit(REQUESTS, 1), limit(OUTPUT, 100_000)
    house = House(*rules)
    told = await house.completions.explain(request(max_output_tokens=50), caller())
    assert told.admitted
    assert told.estimated_input_tokens > 0
    assert not told.HasField("worst_case_cost_micros")
    assert [(one.metric, one.remaining, one.would_hold) for one in told.limits] == [
        ("requests", 1, 1),
        ("output_tokens", 100_000, 50),
    ]
    assert [await house.standing(rule) for rule in rules] == [(0, 0), (0, 0)]
    await house.create()
    told = await house.completions.explain(request(), caller())
    assert (told.admitted, told.reason) == (False, errors_pb2.ERROR_REASON_QUOTA_EXCEEDED)
    assert house.upstream.calls == 1
    assert len(house.records) == 1


async def test_a_prompt_is_counted_without_a_call() -> None:
    """As an estimate, where no tokenizer is at hand; a model that is not there is told."""
    house = House()
    tokens, estimated = await house.completions.count(request(), caller())
    assert tokens > 0
    assert estimated
    with pytest.raises(GatewayError):
        await house.completions.count(request(model="nothing"), caller())


async def test_a_record_tells_what_was_seen_of_the_upstream() -> None:
    """Its status and its own id; how long it took until something came, and what the gateway added."""
    house = House()
    house.upstream.shown = Seen(status=200, request_id="up_1", connect_us=40)
    await house.create()
    await house.stream()
    for record in house.records:
        assert record.request.route == "/package.Service/Method"
        (attempt,) = record.attempts
        assert (attempt.upstream_status, attempt.upstream_request_id, attempt.connect_us) == (200, "up_1", 40)
        assert attempt.first_byte_us is not None
        assert record.first_byte_us is not None
        assert record.added_us is not None
        assert 0 <= attempt.first_byte_us <= record.first_byte_us
        assert record.added_us >= 0


async def test_waiting_for_the_upstream_is_not_added_by_the_gateway() -> None:
    """Neither where it answers nor where it fails."""
    house = House()
    house.upstream.waits_s = 0.02
    await house.create()
    await house.stream()
    house.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "It failed.")
    with pytest.raises(GatewayError):
        await house.create()
    for record in house.records:
        assert record.added_us is not None
        assert record.added_us < 20_000
        assert record.first_byte_us is None or record.first_byte_us >= 20_000
    assert [record.first_byte_us is None for record in house.records] == [False, False, True]


@pytest.mark.parametrize("written", ["x" * 129, "ü", "line\n"])
async def test_an_id_that_has_no_form_of_one_is_not_kept(written: str) -> None:
    """It is somebody else's text."""
    house = House()
    house.upstream.shown = Seen(request_id=written)
    await house.create()
    assert house.records[0].attempts[0].upstream_request_id == ""


async def test_where_no_header_tells_an_id_the_answers_own_is_kept() -> None:
    """Providers find a call by either."""
    house = House()
    house.upstream.answer_id = "chatcmpl-1"
    await house.create()
    await house.stream()
    assert [record.attempts[0].upstream_request_id for record in house.records] == ["chatcmpl-1", "chatcmpl-1"]
