"""Calls with an idempotency key: made once, charged once, and answered again to nobody but who may have it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from tests.server.domain.meters import NOW
from tests.server.domain.test_metering import HOLDER, House, request

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.changes import Change, ChangeKind
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.replay.claims import Claims, Keeping
from tokendance_server.domain.replay.replays import Replays
from tokendance_server.domain.replay.running import Bounds
from tokendance_server.domain.replay.store import Claim, Found, ReplaysUnavailableError
from tokendance_server.domain.replay.tickets import ticket_of
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.stores.memory_replays import MemoryReplayStore

SECRET = "tdk_one"
CALLER = replace(HOLDER, secret_time=NOW)


class Gone(MemoryReplayStore):
    """A store that cannot be reached."""

    async def claim(self, claim: Claim, most: int) -> Found | None:
        raise ReplaysUnavailableError("gone")


class Desk:
    """Replays over one upstream, in memory."""

    def __init__(self, *, bounds: Bounds | None = None, store: Any = None, **keeping: Any) -> None:
        self.count = 0
        self.house = House()
        self.clock = ManualClock(NOW)
        self.works = True
        self.store = store or MemoryReplayStore(lambda key, time, now: self.works)
        self.disabled = False
        self.reported: list[BaseException] = []
        kept = Keeping(**{"wait_s": 0.0, **keeping})

        async def disabled(organization: str) -> bool:
            assert organization == "org_1"
            return self.disabled

        self.claims = Claims(self.store, self.clock, disabled, self.reported.append, kept)
        self.replays = Replays(
            self.house.completions,
            self.house.meter,
            self.claims,
            self.reported.append,
            keeping=kept,
            bounds=bounds or Bounds(),
        )

    async def create(self, key: str = "a", secret: str = SECRET, **fields: Any) -> pb.Completion:
        """Call with a key."""
        asked = request(**fields)
        return await self.replays.create(asked, self.caller(), ticket_of(secret, key, "create", asked))

    async def stream(self, key: str = "a", **fields: Any) -> list[pb.CompletionEvent]:
        """Call with a key, and return all events."""
        return [event async for events in self.open(key, **fields) for event in events]

    def open(self, key: str = "a", **fields: Any) -> Any:
        """Call with a key."""
        asked = request(**fields)
        return self.replays.stream(asked, self.caller(), ticket_of(SECRET, key, "stream", asked))

    def caller(self) -> Any:
        """The next call of the key's holder."""
        self.count += 1
        return SimpleNamespace(
            request_id=f"req_{self.count}",
            method="",
            deadline=asyncio.get_running_loop().time() + 60,
            model="",
            upstream_s=0.0,
            ended_by=None,
            identity=CALLER,
            surface=errors_pb2.SURFACE_CHAT,
            address="",
            caller=None,
        )


async def refused(call: Awaitable[object]) -> GatewayError:
    """The error of a call."""
    with pytest.raises(GatewayError) as caught:
        await call
    return caught.value


async def settled(wanted: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    for _ in range(200):
        if wanted():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to be")


async def test_a_repeat_gets_the_first_answer_and_pays_nothing() -> None:
    """One call upstream, one charge; the second is on record under its own id with what it repeats."""
    desk = Desk()
    first, again = await desk.create(), await desk.create()
    assert desk.house.upstream.calls == 1
    assert again.account == pb.CallAccount(served_by="Acme", cost_micros=0, replay_of="req_1")
    assert first.account.replay_of == ""
    for one in (first, again):
        one.ClearField("account")
    assert again == first
    paid, free = desk.house.records
    assert (paid.replay_of, len(paid.attempts)) == ("", 1)
    assert (free.replay_of, free.attempts, free.cost_micros, free.counts) == ("req_1", (), 0, Counts())
    assert free.outcome == usage_pb2.REQUEST_OUTCOME_SUCCEEDED
    assert paid.id != free.id


async def test_a_stream_is_replayed_as_a_stream() -> None:
    """The same events in the same order, with the account of the repeat at both ends."""
    desk = Desk()
    first, again = await desk.stream(), await desk.stream()
    assert desk.house.upstream.calls == 1
    assert again[0].started.account.replay_of == again[-1].finished.account.replay_of == "req_1"
    assert again[1:-1] == first[1:-1]
    assert again[0].started.id == first[0].started.id
    assert again[-1].finished.usage == first[-1].finished.usage
    assert desk.house.records[1].request.streamed


async def test_another_request_under_the_same_key_is_refused() -> None:
    """Finally, also while the first runs, and a stream is another request than an answer in one message."""
    desk = Desk()
    await desk.create()
    error = await refused(desk.create(user="somebody"))
    assert (error.code, error.param, error.spec.http_status, error.retryable) == (
        "idempotency_conflict", "idempotency_key", 422, False,
    )  # fmt: skip
    assert (await refused(desk.stream())).code == "idempotency_conflict"
    assert [one.outcome for one in desk.house.records[1:]] == [usage_pb2.REQUEST_OUTCOME_REFUSED] * 2
    assert desk.house.upstream.calls == 1


async def test_the_scope_is_the_secret() -> None:
    """The same key of another secret is another key: what the first got stays with the first."""
    desk = Desk()
    await desk.create()
    other = await desk.create(secret="tdk_two", user="another body")
    assert other.account.replay_of == ""
    assert desk.house.upstream.calls == 2


async def test_one_in_progress_is_waited_for() -> None:
    """Then its answer comes; who can wait no longer is told to come again."""
    desk = Desk(wait_s=5.0)
    desk.house.upstream.gate.clear()
    first = asyncio.create_task(desk.create())
    await settled(lambda: desk.house.upstream.calls == 1)
    second = asyncio.create_task(desk.create())
    await asyncio.sleep(0.03)
    desk.house.upstream.gate.set()
    assert (await second).account.replay_of == "req_1"
    assert (await first).account.replay_of == ""
    assert desk.house.upstream.calls == 1


async def test_who_cannot_wait_is_told_to_come_again() -> None:
    """409, to be repeated, with a time."""
    desk = Desk()
    desk.house.upstream.gate.clear()
    first = asyncio.create_task(desk.create())
    await settled(lambda: desk.house.upstream.calls == 1)
    error = await refused(desk.create())
    assert (error.code, error.spec.http_status, error.retry_after_s) == ("idempotency_in_progress", 409, 2)
    desk.house.upstream.gate.set()
    await first


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failed_call_frees_its_key(streamed: bool) -> None:
    """Nothing is kept of it, whatever came before it failed."""
    desk = Desk()
    desk.house.upstream.failure = GatewayError(errors_pb2.ERROR_REASON_PROVIDER_ERROR, "No.", origin="provider")
    call = desk.stream if streamed else desk.create
    assert (await refused(call())).code == "provider_error"
    assert not desk.store.rows
    desk.house.upstream.failure = None
    before = desk.house.upstream.calls
    await call()
    assert desk.house.upstream.calls == before + 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_caller_that_leaves_finds_the_answer_later(streamed: bool) -> None:
    """The call goes on without it, and is charged once, for what its provider counted."""
    desk = Desk()
    desk.house.upstream.gate.clear()
    desk.house.upstream.before_gate = 1
    if streamed:
        async with aclosing(desk.open()) as batches:
            await anext(batches)
    else:
        left = asyncio.create_task(desk.create())
        await settled(lambda: desk.house.upstream.calls == 1)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
    desk.house.upstream.gate.set()
    await settled(lambda: any(sealed for _, sealed in desk.store.rows.values()))
    if streamed:
        assert [event.text.text for event in (await desk.stream())[1:-1]] == desk.house.upstream.texts
    else:
        assert (await desk.create()).account.replay_of == "req_1"
    assert desk.house.upstream.calls == 1
    paid = desk.house.records[0]
    assert (paid.outcome, paid.estimated) == (usage_pb2.REQUEST_OUTCOME_SUCCEEDED, False)


@pytest.mark.parametrize("bounds", [Bounds(count=0), Bounds(seconds=0.001)], ids=["count", "seconds"])
async def test_calls_without_a_caller_are_bounded(bounds: Bounds) -> None:
    """Beyond that they end like those of any caller that leaves, and the key is free."""
    desk = Desk(bounds=bounds)
    desk.house.upstream.gate.clear()
    desk.house.upstream.before_gate = 1
    async with aclosing(desk.open()) as batches:
        await anext(batches)
    await settled(lambda: not desk.store.rows)
    (record,) = desk.house.records
    assert record.outcome == usage_pb2.REQUEST_OUTCOME_CANCELLED


async def test_closing_ends_what_goes_on() -> None:
    """A node that stops leaves no claim behind."""
    desk = Desk()
    desk.house.upstream.gate.clear()
    desk.house.upstream.before_gate = 1
    async with aclosing(desk.open()) as batches:
        await anext(batches)
    desk.replays.start()
    await desk.replays.close()
    assert not desk.store.rows
    assert not desk.reported


async def test_too_large_an_answer_is_delivered_and_not_kept() -> None:
    """A warning says so, and the key is free."""
    desk = Desk(answer_bytes=100)
    desk.house.upstream.texts = ["x" * 200]
    (warning,) = (await desk.create()).warnings
    assert warning.field == "idempotency_key"
    assert "100 bytes" in warning.why
    events = await desk.stream()
    assert [one.field for one in events[-1].finished.warnings] == ["idempotency_key"]
    assert not desk.store.rows


async def test_a_slow_reader_holds_little() -> None:
    """The call waits for who reads it, so that what waits for a reader is bounded."""
    desk = Desk()
    desk.house.upstream.texts = ["x"] * 100
    delivered = []
    async with aclosing(desk.open()) as batches:
        await anext(batches)
        await asyncio.sleep(0.01)
        delivered = [feed async for feed in batches]
    assert len(delivered) == 100
    assert len(await desk.stream()) == 102


async def test_an_organization_can_do_without() -> None:
    """Calls with a key are refused at once when the policy says so, and what was kept goes."""
    desk = Desk()
    await desk.create()
    desk.disabled = True
    desk.claims.changed(Change(1, ChangeKind.POLICY, "organizations/org_1/policy", "org_1", NOW))
    error = await refused(desk.create())
    assert (error.code, error.param) == ("unsupported_parameter", "idempotency_key")
    await desk.claims.tidy()
    assert not desk.store.rows


async def test_what_is_kept_goes_with_its_secret_and_with_time() -> None:
    """A change of the key that leaves its secret alone takes nothing away."""
    desk = Desk()
    await desk.create()
    news = Change(1, ChangeKind.KEY, HOLDER.name, "org_1", NOW)
    desk.claims.changed(news)
    await desk.claims.tidy()
    assert len(desk.store.rows) == 1
    desk.works = False
    desk.claims.changed(news)
    await desk.claims.tidy()
    assert not desk.store.rows
    await desk.create()
    desk.clock.advance(86_401)
    assert (await desk.create()).account.replay_of == ""
    desk.clock.advance(86_401)
    await desk.claims.tidy()
    assert not desk.store.rows


async def test_an_answer_whose_claim_was_lost_is_not_kept() -> None:
    """Revoked midway, or taken over: the answer comes with a warning, and nobody finds it."""
    desk = Desk()
    desk.house.upstream.gate.clear()
    call = asyncio.create_task(desk.create())
    await settled(lambda: desk.house.upstream.calls == 1)
    desk.store.rows.clear()
    desk.house.upstream.gate.set()
    assert [one.field for one in (await call).warnings] == ["idempotency_key"]
    assert not desk.store.rows


async def test_running_calls_hold_their_claims() -> None:
    """For as long as they take; the claim of a node that died runs out."""
    desk = Desk(lease_s=0.03)
    desk.replays.start()
    desk.house.upstream.gate.clear()
    call = asyncio.create_task(desk.create())
    await settled(lambda: desk.house.upstream.calls == 1)
    desk.clock.advance(0.02)
    await asyncio.sleep(0.02)
    desk.clock.advance(0.02)
    assert (await refused(desk.create())).code == "idempotency_in_progress"
    desk.house.upstream.gate.set()
    await call
    await desk.replays.close()


async def test_a_store_that_does_not_answer_is_no_licence_to_charge_twice() -> None:
    """Nobody can tell whether the key was used, so nothing is called."""
    desk = Desk(store=Gone())
    error = await refused(desk.create())
    assert (error.code, error.retry_after_s, desk.house.upstream.calls) == ("ledger_unavailable", 5, 0)
    assert len(desk.reported) == 1


async def test_a_changed_answer_is_not_sent() -> None:
    """Somebody with the database cannot put words into an answer."""
    desk = Desk()
    await desk.create()
    ((place, (claim, sealed)),) = desk.store.rows.items()
    assert sealed is not None
    desk.store.rows[place] = (claim, sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert (await refused(desk.create())).code == "internal_error"
    assert desk.house.upstream.calls == 1
