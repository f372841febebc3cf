"""One model call on its way through limits, ledger and charge: whatever becomes of it, its record is finished."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2, usage_pb2
from tokendance_server.domain.catalogue.models import Model, Route
from tokendance_server.domain.prices.book import PriceBook
from tokendance_server.domain.prices.tariff import Tariff
from tokendance_server.domain.quota.accounts import consulted, refused_by, tell_rates
from tokendance_server.domain.quota.claims import Used
from tokendance_server.domain.quota.limits import Subjects
from tokendance_server.domain.quota.reservations import Reservation, Reservations
from tokendance_server.domain.sizes import BLOCK_TOKENS, dearest_of, sizes_of
from tokendance_server.domain.upstream import Seen
from tokendance_server.domain.usage.counts import Counts
from tokendance_server.domain.usage.entries import Consulted, FinishedEntry
from tokendance_server.domain.usage.estimates import Estimates, PromptEstimate, size_of
from tokendance_server.domain.usage.ledger import Charge, Ledger, OpenAttempt, OpenRecord

_LONGEST_ID = 128
_LEFT = "The caller left before the answer was complete."


class MeterParts(NamedTuple):
    """What metering stands on: the ledger of requests, what is learnt of sizes, prices, and limits."""

    ledger: Ledger
    estimates: Estimates
    prices: PriceBook
    reservations: Reservations


class Metered:
    """One call on its way through limits, ledger and charge. `seen` is what its upstream shows of itself."""

    __slots__ = (
        "_added",
        "_answer",
        "_asked",
        "_asked_cap",
        "_attempt",
        "_attempted",
        "_began",
        "_cap",
        "_charged",
        "_delivered",
        "_fallback_model",
        "_first",
        "_label",
        "_meter",
        "_model",
        "_prompt",
        "_record",
        "_reservation",
        "_retries",
        "_subjects",
        "_tariff",
        "_tier",
        "_waited",
        "seen",
    )

    def __init__(self, meter: MeterParts, record: OpenRecord, subjects: Subjects) -> None:
        self._meter = meter
        self._record = record
        self._subjects = subjects
        self._model = ""
        self._label = ""
        self._tier = ""
        self._prompt = PromptEstimate(0, 0, 0, 0)
        self._answer = 0
        self._cap: int | None = None
        # What the caller said of the length of its answer, 0 for nothing, where limits have capped it since.
        self._asked_cap: int | None = None
        self._retries = 0
        self._fallback_model = ""
        self._tariff: Tariff | None = None
        self._reservation: Reservation | None = None
        self._attempt: OpenAttempt | None = None
        self._charged = False
        self._delivered = 0
        # In the nanoseconds of a clock that nobody sets.
        self._began = self._attempted = self._asked = _now()
        self._waited = 0
        self._first: int | None = None
        self._added: int | None = None
        self.seen = Seen()

    async def admit(self, model: Model, request: pb.CompletionRequest, *, streamed: bool) -> None:
        """Hold what a completion may use; raises the refusals of `Reservations.reserve`.

        An answer in one message is capped at what the limits that count it leave; a stream begins with what such an
        answer is likely to have, and grows by `grow`. Where another model was held before, that is freed first.
        """
        if self._reservation is not None:
            await self._free(request)
        sizes = sizes_of(self._meter.estimates, model, request, streamed=streamed)
        self._model = model.id
        self._tier = request.service_tier
        self._prompt, self._cap, self._answer = sizes.prompt, sizes.cap, sizes.likely
        if model.max_output_tokens is not None and request.max_output_tokens > model.max_output_tokens:
            # Agents ask for more than any model gives, and upstreams refuse that instead of giving less.
            self._cap_at(request, model.max_output_tokens)
        reservation = await self._reserve(sizes.wanted, sizes.least)
        if not streamed and reservation.bounds_answer:
            self._cap_at(request, max(reservation.output_tokens // (request.choice_count or 1), 1))

    async def admit_texts(self, model: Model, request: pb.EmbeddingsRequest) -> None:
        """Hold what an embedding uses: its texts, and no answer."""
        self._model = model.id
        size = sum(size_of(text) for text in request.inputs)
        estimate = self._meter.estimates.texts(model.id, size)
        ids = sum(len(tokens.ids) for tokens in request.token_inputs)
        self._prompt = estimate._replace(tokens=estimate.tokens + ids) if ids else estimate
        await self._reserve(0, 0)

    async def attempt(self, route: Route, label: str) -> None:
        """Open an attempt; the upstream is called only behind this. Raises ledger_unavailable."""
        self._label = label
        self._attempted = _now()
        self._attempt = await self._record.attempt(
            model=self._model,
            provider=route.provider,
            provider_label=label,
            upstream_model=route.upstream_model,
            input_tokens=self._prompt.tokens,
            output_tokens=self._answer,
            tariff=self._tariff,
            tier=self._tier,
        )

    def retry(self, error: GatewayError) -> None:
        """End an attempt that failed before anything of an answer came: it is on record, and charged nothing.

        What the call holds stays held, for the next attempt.
        """
        assert self._attempt is not None
        self._end(self._attempt, usage_pb2.REQUEST_OUTCOME_FAILED, reason=error.reason, estimate=None)
        self._attempt = None
        self.seen = Seen()

    @property
    def needs(self) -> tuple[int, int]:
        """The tokens of the prompt, as estimated, and those that are held of an answer."""
        reservation = self._reservation
        return self._prompt.tokens, self._answer if reservation is None else reservation.output_tokens

    @property
    def used(self) -> Used:
        """What the last attempt used; nothing before it has ended."""
        ended = self._record.attempts
        return Used(ended[-1].counts.input_tokens, ended[-1].counts.output_tokens) if ended else Used()

    def serve_by(self, retries: int, fallback_model: str) -> None:
        """Note how many calls to upstreams failed before the one that answers, and which model stands in, if any."""
        self._retries, self._fallback_model = retries, fallback_model

    def ask(self) -> None:
        """Begin to wait for the upstream."""
        self._asked = _now()

    def hear(self, *, stream: bool = False) -> float:
        """End the wait for the upstream, of a stream for what comes of it first; returns how long it was, in seconds.

        What the gateway adds to a stream is what it adds until then: afterwards its reader's pace is in the time.
        """
        now = _now()
        waited = now - self._asked
        self._waited += waited
        if stream:
            self._added = now - self._began - self._waited
        return waited / 1e9

    def deliver(self, events: Sequence[pb.CompletionEvent]) -> None:
        """Take note of what goes to the caller of a stream, which pays for that much if it leaves."""
        if self._first is None and any(event.WhichOneof("event") != "started" for event in events):
            self._first = _now()
        size = 0
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "text":
                size += size_of(event.text.text)
            elif kind == "tool_call":
                size += size_of(event.tool_call.arguments)
            elif kind == "reasoning":
                size += size_of(event.reasoning.text) + size_of(event.reasoning.summary)
            elif kind == "refusal":
                size += size_of(event.refusal.text)
        self._delivered += size

    async def grow(self) -> bool:
        """Hold more where a stream has outgrown what it holds; False where a limit has no room for more."""
        reservation = self._reservation
        if reservation is None or not reservation.bounds_answer:
            return True
        produced = self._meter.estimates.delivered(self._model, self._delivered)
        if produced < reservation.output_tokens:
            return True
        more = produced + max(BLOCK_TOKENS, self._answer)
        if self._cap is not None:
            more = max(min(more, self._cap), produced)
        return more <= reservation.output_tokens or await reservation.extend(more)

    @property
    def produced(self) -> Counts:
        """The gateway's own count of the call so far."""
        return Counts(self._prompt.tokens, self._meter.estimates.delivered(self._model, self._delivered))

    async def succeed(self, usage: pb.Usage | None, delivered: int = 0) -> FinishedEntry:
        """Charge an answer that is complete, and finish the record. `delivered` is its size in bytes of text."""
        self._delivered += delivered
        if self._first is None:
            self._first = _now()
        await self._charge(usage_pb2.REQUEST_OUTCOME_SUCCEEDED, usage)
        return await self._record.finish(
            usage_pb2.REQUEST_OUTCOME_SUCCEEDED,
            delivery=usage_pb2.DELIVERY_OUTCOME_COMPLETE,
            first_byte_us=self._first_byte_us(self._began),
            added_us=self._added_us(),
            limits=self._consulted(),
        )

    async def leave(self, usage: pb.Usage) -> None:
        """Charge what the provider counted of an answer whose caller left; harmless once the record is finished."""
        if self._record.finished is not None:
            return
        await self._charge(usage_pb2.REQUEST_OUTCOME_CANCELLED, usage)
        await self._record.finish(
            usage_pb2.REQUEST_OUTCOME_CANCELLED,
            reason=errors_pb2.ERROR_REASON_CANCELLED,
            message=_LEFT,
            delivery=usage_pb2.DELIVERY_OUTCOME_CALLER_LEFT,
            first_byte_us=self._first_byte_us(self._began),
            added_us=self._added_us(),
            limits=self._consulted(),
        )

    async def replay(self, of: str) -> None:
        """Finish the record of a call that got the kept answer of another request: nothing is held or charged."""
        await self._record.finish(
            usage_pb2.REQUEST_OUTCOME_SUCCEEDED,
            delivery=usage_pb2.DELIVERY_OUTCOME_COMPLETE,
            replay_of=of,
            added_us=self._added_us(),
        )

    async def fail(self, error: BaseException, told: GatewayError | None = None) -> None:
        """Charge what a call that ended otherwise used, free the rest, and finish the record; harmless once it is.

        `told` is what a caller was told whose call the gateway cancelled, such as that its deadline is over.
        """
        if self._record.finished is not None:
            return
        reason, message = errors_pb2.ERROR_REASON_CANCELLED, _LEFT
        outcome = usage_pb2.REQUEST_OUTCOME_CANCELLED
        if isinstance(error, GatewayError):
            reason, message = error.reason, error.message
            asked = self._attempt is not None or bool(self._record.attempts)
            outcome = usage_pb2.REQUEST_OUTCOME_FAILED if asked else usage_pb2.REQUEST_OUTCOME_REFUSED
        elif not isinstance(error, Exception):
            if told is not None:
                reason, message = told.reason, told.message
        else:
            reason, message = errors_pb2.ERROR_REASON_INTERNAL_ERROR, "Something went wrong inside the gateway."
            outcome = usage_pb2.REQUEST_OUTCOME_FAILED
        if self._attempt is not None and not self._charged:
            await self._charge_failed(outcome, reason)
        elif self._reservation is not None:
            await self._reservation.release()
        delivery = usage_pb2.DELIVERY_OUTCOME_UNSPECIFIED
        if outcome == usage_pb2.REQUEST_OUTCOME_CANCELLED:
            delivery = usage_pb2.DELIVERY_OUTCOME_CALLER_LEFT
        elif self._delivered:
            delivery = usage_pb2.DELIVERY_OUTCOME_FAILED
        await self._record.finish(
            outcome,
            reason=reason,
            message=message,
            delivery=delivery,
            first_byte_us=self._first_byte_us(self._began),
            added_us=self._added_us(),
            limits=self._consulted(error),
        )

    def account(self) -> pb.CallAccount:
        """Return what the call leaves of its limits and, once it was charged, what it cost."""
        account = pb.CallAccount(served_by=self._label)
        if self._retries:
            account.retries = self._retries
        if self._fallback_model:
            account.fallback_model = self._fallback_model
        if self._reservation is not None:
            tell_rates(account, self._reservation.standings, self._taken, self._meter.ledger.now_us() / 1e6)
        entry = self._record.attempts[-1] if self._charged and self._record.attempts else None
        if entry is not None:
            account.estimated = entry.estimated
            if entry.cost_micros is not None:
                account.cost_micros = entry.cost_micros
        return account

    def _cap_at(self, request: pb.CompletionRequest, tokens: int) -> None:
        if self._asked_cap is None:
            self._asked_cap = request.max_output_tokens if request.HasField("max_output_tokens") else 0
        request.max_output_tokens = tokens

    async def _free(self, request: pb.CompletionRequest) -> None:
        """Give back what another model was to use, and the cap that its limits had set."""
        assert self._reservation is not None
        await self._reservation.release()
        self._reservation = None
        if self._asked_cap is not None:
            request.ClearField("max_output_tokens")
            if self._asked_cap:
                request.max_output_tokens = self._asked_cap
            self._asked_cap = None

    async def _reserve(self, wanted: int, least: int) -> Reservation:
        self._tariff = self._meter.prices.tariff(self._model)
        input_cost, output_price = dearest_of(self._tariff, self._prompt.tokens, self._tier)
        self._reservation = await self._meter.reservations.reserve(
            self._subjects,
            self._model,
            identity=self._record.id,
            input_tokens=self._prompt.tokens,
            output_tokens=wanted,
            least_output_tokens=least,
            input_cost=input_cost,
            output_price=output_price,
        )
        return self._reservation

    async def _charge(self, outcome: usage_pb2.RequestOutcome.ValueType, usage: pb.Usage | None) -> None:
        assert self._attempt is not None
        assert self._reservation is not None
        charge = self._end(self._attempt, outcome, usage=usage, estimate=self.produced)
        self._charged = True
        counts = charge.counts
        self._meter.estimates.settled(self._model, self._prompt, counts, estimated=charge.estimated)
        await self._reservation.settle(Used(counts.input_tokens, counts.output_tokens, charge.cost_micros))

    async def _charge_failed(
        self, outcome: usage_pb2.RequestOutcome.ValueType, reason: errors_pb2.ErrorReason.ValueType
    ) -> None:
        """Charge what was delivered; an answer of which nothing came is charged only where its caller left it."""
        assert self._attempt is not None
        assert self._reservation is not None
        billed = bool(self._delivered) or outcome == usage_pb2.REQUEST_OUTCOME_CANCELLED
        charge = self._end(self._attempt, outcome, reason=reason, estimate=self.produced if billed else None)
        self._charged = True
        if billed:
            counts = charge.counts
            await self._reservation.settle(Used(counts.input_tokens, counts.output_tokens, charge.cost_micros))
        else:
            await self._reservation.release()

    def _end(
        self,
        attempt: OpenAttempt,
        outcome: usage_pb2.RequestOutcome.ValueType,
        *,
        reason: errors_pb2.ErrorReason.ValueType = errors_pb2.ERROR_REASON_UNSPECIFIED,
        usage: pb.Usage | None = None,
        estimate: Counts | None,
    ) -> Charge:
        """End the attempt, with what was seen of its upstream."""
        seen = self.seen
        return attempt.finish(
            outcome,
            usage=usage,
            estimate=estimate,
            reason=reason,
            upstream_status=seen.status,
            upstream_request_id=_plain(seen.request_id),
            connect_us=seen.connect_us,
            first_byte_us=self._first_byte_us(self._attempted),
        )

    def _first_byte_us(self, since: int) -> int | None:
        return None if self._first is None else (self._first - since) // 1000

    def _added_us(self) -> int:
        added = self._added if self._added is not None else _now() - self._began - self._waited
        return max(added // 1000, 0)

    def _consulted(self, error: BaseException | None = None) -> list[Consulted]:
        return refused_by(error) if self._reservation is None else consulted(self._reservation.standings)

    def _taken(self, metric: int) -> int:
        last = self._record.attempts[-1].counts if self._charged and self._record.attempts else None
        output = 0 if self._reservation is None else self._reservation.output_tokens
        used = Used(self._prompt.tokens, output) if last is None else Used(last.input_tokens, last.output_tokens)
        return used.of(metric)


def _plain(value: str) -> str:
    """Return an upstream's id of a call where it has the form of one; it is somebody else's text."""
    return value if len(value) <= _LONGEST_ID and value.isascii() and value.isprintable() else ""


def _now() -> int:
    # Not the event loop's clock: it may count in milliseconds, and the gateway adds less than one.
    return time.perf_counter_ns()
