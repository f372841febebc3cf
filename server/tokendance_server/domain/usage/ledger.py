"""The ledger of a node: each request is opened before an upstream is called, and finished before its answer ends.

What is finished waits here, and in the journal, until it is in the database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, errors_pb2, usage_pb2
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance.gateway.v1.usage_pb2 import DeliveryOutcome, RequestOutcome
from tokendance.ids import new_id
from tokendance_server.domain.prices.tariff import DEFAULT_TIER, Tariff
from tokendance_server.domain.usage.counts import Counts, add_up, believe
from tokendance_server.domain.usage.entries import (
    Consulted,
    FinishedAttempt,
    FinishedEntry,
    OpenEntry,
    OpenRequest,
    StartedAttempt,
    cost_of,
    decode,
    encode,
)

LONGEST_MESSAGE = 1000
"""Characters of an error's sentence that a record keeps."""
AT_HAND = 5000
"""How many finished requests wait for the database as they are; those behind them wait encoded, a fifth the size.

More than a node at full load finishes between two writes, so that only a database that hangs makes it encode them.
"""


class JournalError(Exception):
    """The journal could not be written; what it was to hold is held nowhere but in memory."""


class Journal(Protocol):
    """Holds entries on disk until they are in the database."""

    def has_room(self) -> bool:
        """Tell whether one more request can be opened and finished; False also where writing fails."""

    def open(self, record_id: str, payload: bytes) -> Awaitable[None]:
        """Append an open entry; done once it is written. Raises JournalError then."""

    def finish(self, record_id: str, payload: bytes) -> Awaitable[None]:
        """Append a finished entry; done once it is written. Raises JournalError then."""

    def drained(self, record_ids: Sequence[str]) -> None:
        """Forget requests whose finished entries are in the database."""


class Charge(NamedTuple):
    """What an attempt was charged: its counts, whether any is an estimate, micro-USD (None: no price)."""

    counts: Counts
    estimated: bool
    cost_micros: int | None


class _Waiting(NamedTuple):
    """A finished request that is not in the database yet, as it is or encoded."""

    id: str
    start_us: int
    entry: FinishedEntry | bytes

    def decoded(self) -> FinishedEntry:
        entry = self.entry
        if isinstance(entry, bytes):
            decoded = decode(entry)
            assert isinstance(decoded, FinishedEntry)
            return decoded
        return entry


class Ledger:
    """Opens and finishes the requests of one node; `now_us` tells microseconds since 1970."""

    def __init__(self, journal: Journal, node: str, now_us: Callable[[], int], report: Callable[[str], None]) -> None:
        self.now_us = now_us
        self._journal = journal
        self._node = node
        self._report = report
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self.listeners: list[Callable[[FinishedEntry], None]] = []
        """Told of each request that ends. They are quick, and raise nothing."""

    def open(self, request: OpenRequest) -> OpenRecord:
        """Begin the record of a request. Raises ledger_unavailable where the journal is full, and records nothing.

        Refusals are recorded too: finish the record with REQUEST_OUTCOME_REFUSED and no attempt.
        """
        if not self._journal.has_room():
            raise _unavailable()
        return OpenRecord(self, request, new_id("rec"))

    @property
    def backlog(self) -> int:
        """Finished requests that are not in the database yet."""
        return len(self._waiting)

    def oldest_waiting_us(self) -> int | None:
        """Return when the request began that waits longest for the database, or None where none waits."""
        return self._waiting[0].start_us if self._waiting else None

    def waiting(self, limit: int | None = None) -> list[FinishedEntry]:
        """Return the finished requests that are not in the database yet, the oldest first, at most `limit`."""
        return [one.decoded() for one in islice(self._waiting, limit)]

    def restore(self, entries: Sequence[FinishedEntry]) -> None:
        """Take over what a journal still held: it goes to the database before everything new."""
        held = [
            _Waiting(one.id, one.request.start_us, one if place < AT_HAND else encode(one))
            for place, one in enumerate(entries)
        ]
        self._waiting.extendleft(reversed(held))
        if held:
            self._arrived.set()

    def drained(self, entries: Sequence[FinishedEntry]) -> None:
        """Forget the oldest waiting requests, which are in the database now."""
        for entry in entries:
            if self._waiting.popleft().id != entry.id:
                raise AssertionError("requests are drained in their order")
        self._journal.drained([entry.id for entry in entries])
        if not self._waiting:
            self._arrived.clear()

    async def something_waits(self) -> None:
        """Return once a finished request waits for the database."""
        await self._arrived.wait()

    async def write_open(self, record: OpenRecord, attempt: StartedAttempt) -> None:
        """Put a request with an attempt that is about to be made into the journal. Raises ledger_unavailable."""
        entry = OpenEntry(
            id=record.id, node=self._node, request=record.request, attempt=attempt, ended=tuple(record.attempts)
        )
        try:
            await self._journal.open(record.id, encode(entry))
        except JournalError as exc:
            self._report(str(exc))
            raise _unavailable() from exc

    def write_finished(self, entry: FinishedEntry) -> Awaitable[None]:
        """Put a finished request where the drain finds it, and into the journal; done once it is written."""
        for listener in self.listeners:
            listener(entry)
        payload = encode(entry)
        kept = entry if len(self._waiting) < AT_HAND else payload
        self._waiting.append(_Waiting(entry.id, entry.request.start_us, kept))
        self._arrived.set()
        return self._journal.finish(entry.id, payload)

    def failed_to_write(self, error: JournalError) -> None:
        """Tell that a finished entry is in memory only: an answer that was made is not taken back for it."""
        self._report(str(error))

    @property
    def node(self) -> str:
        """The node's id."""
        return self._node


class OpenRecord:
    """One request that runs. `id` is its billing id; `request` may be replaced until the first attempt."""

    __slots__ = ("_ledger", "_number", "_running", "attempts", "finished", "id", "request")

    def __init__(self, ledger: Ledger, request: OpenRequest, record_id: str) -> None:
        self._ledger = ledger
        self._number = 0
        self._running: OpenAttempt | None = None
        self.request = request
        self.id = record_id
        self.attempts: list[FinishedAttempt] = []
        self.finished: FinishedEntry | None = None

    async def attempt(
        self,
        *,
        model: str,
        provider: str,
        provider_label: str,
        upstream_model: str,
        input_tokens: int,
        output_tokens: int,
        tariff: Tariff | None,
        tier: str = DEFAULT_TIER,
    ) -> OpenAttempt:
        """Begin an attempt; returns once it is in the journal, and only then may the upstream be called.

        `input_tokens` is the estimate of the prompt, `output_tokens` the learnt size of an answer: what is charged
        should this node die. `tariff` is the model's as at the reservation, None where it has no price. Raises
        ledger_unavailable where the journal cannot be written.
        """
        self._number += 1
        started = StartedAttempt(
            number=self._number,
            start_us=self._ledger.now_us(),
            provider=provider,
            provider_label=provider_label,
            upstream_model=upstream_model,
            model=model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_micros=None if tariff is None else tariff.cost(Counts(input_tokens, output_tokens), tier),
        )
        await self._ledger.write_open(self, started)
        self._running = OpenAttempt(self, started, tariff, tier)
        return self._running

    def attempt_ended(self, attempt: FinishedAttempt) -> None:
        """Take an attempt that ended."""
        self.attempts.append(attempt)
        self._running = None

    def now_us(self) -> int:
        """Return the time, in microseconds since 1970."""
        return self._ledger.now_us()

    async def finish(
        self,
        outcome: RequestOutcome.ValueType,
        *,
        reason: ErrorReason.ValueType = errors_pb2.ERROR_REASON_UNSPECIFIED,
        message: str = "",
        delivery: DeliveryOutcome.ValueType = usage_pb2.DELIVERY_OUTCOME_UNSPECIFIED,
        replay_of: str = "",
        first_byte_us: int | None = None,
        added_us: int | None = None,
        limits: Sequence[Consulted] = (),
        warnings: Sequence[tuple[str, str]] = (),
    ) -> FinishedEntry:
        """End the record; returns once it is in the journal, and only then may the last byte of the answer go out.

        A repeat changes nothing and returns the record as it was. An attempt that nobody finished is charged as if this
        node had died. Where the journal cannot be written, the record is
        kept in memory for the database, the operator is told, and the next request is refused. Cancelling the wait
        does not undo it. `message` is the error's sentence as the caller saw it; durations are in microseconds.
        """
        if self.finished is not None:
            return self.finished
        if self._running is not None:
            self._running.abandon()
        attempts = tuple(self.attempts)
        last = attempts[-1] if attempts else None
        self.finished = FinishedEntry(
            id=self.id,
            node=self._ledger.node,
            request=self.request,
            end_us=self._ledger.now_us(),
            outcome=outcome,
            served_model=last.model if last else self.request.served_model,
            reason=reason,
            message=message[:LONGEST_MESSAGE],
            counts=add_up(one.counts for one in attempts),
            estimated=any(one.estimated for one in attempts),
            cost_micros=cost_of(attempts),
            attempts=attempts,
            delivery=delivery,
            replay_of=replay_of,
            first_byte_us=first_byte_us,
            added_us=added_us,
            limits=tuple(limits),
            warnings=tuple(warnings),
        )
        try:
            await self._ledger.write_finished(self.finished)
        except JournalError as exc:
            self._ledger.failed_to_write(exc)
        return self.finished


class OpenAttempt:
    """One call to an upstream, under way."""

    __slots__ = ("_charge", "_record", "_started", "_tariff", "_tier")

    def __init__(self, record: OpenRecord, started: StartedAttempt, tariff: Tariff | None, tier: str) -> None:
        self._record = record
        self._started = started
        self._tariff = tariff
        self._tier = tier
        self._charge: Charge | None = None

    @property
    def number(self) -> int:
        """The attempt, from 1."""
        return self._started.number

    def finish(
        self,
        outcome: RequestOutcome.ValueType,
        *,
        usage: completion_pb2.Usage | None = None,
        estimate: Counts | None = None,
        repeated: bool = False,
        tier: str | None = None,
        reason: ErrorReason.ValueType = errors_pb2.ERROR_REASON_UNSPECIFIED,
        upstream_status: int = 0,
        upstream_request_id: str = "",
        connect_us: int | None = None,
        first_byte_us: int | None = None,
    ) -> Charge:
        """End the attempt and return its charge; a repeat changes nothing.

        `usage` is what the provider told, None where it told nothing; `estimate` is what the gateway makes of the
        prompt and of the text that was delivered, None where the provider has nothing to bill (it refused, or was not
        reached). `tier` is the service tier that served, where it is known. See `believe` for what is charged.
        """
        if self._charge is not None:
            return self._charge
        counts, estimated = believe(usage, estimate, repeated=repeated)
        cost = None if self._tariff is None else self._tariff.cost(counts, self._tier if tier is None else tier)
        self._charge = Charge(counts, estimated, cost)
        started, record = self._started, self._record
        record.attempt_ended(
            FinishedAttempt(
                number=started.number,
                start_us=started.start_us,
                outcome=outcome,
                provider=started.provider,
                provider_label=started.provider_label,
                upstream_model=started.upstream_model,
                model=started.model,
                reason=reason,
                upstream_status=upstream_status,
                upstream_request_id=upstream_request_id,
                connect_us=connect_us,
                first_byte_us=first_byte_us,
                total_us=max(record.now_us() - started.start_us, 0),
                counts=counts,
                estimated=estimated,
                cost_micros=cost,
            )
        )
        return self._charge

    def abandon(self) -> Charge:
        """End an attempt of which nobody knows what it used: it is charged like one whose node died."""
        started = self._started
        return self.finish(
            usage_pb2.REQUEST_OUTCOME_UNKNOWN, estimate=Counts(started.input_tokens, started.output_tokens)
        )


def _unavailable() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_LEDGER_UNAVAILABLE,
        "The gateway cannot record usage now, and so makes no call that costs; try again in a few seconds.",
        retry_after_s=5,
    )
