"""Model calls: the model is found, a route chosen, the upstream asked, and its answer made the gateway's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, completions_service_pb2, errors_pb2
from tokendance.ids import new_id
from tokendance_server.domain.attempts import Attempts
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import COMPLETIONS, EMBEDDINGS, Model
from tokendance_server.domain.catalogue.parameters import overridden
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.leaving import Leaving, ReadsOn
from tokendance_server.domain.metered import Metered
from tokendance_server.domain.metering import Meter, MeteredCaller, Preview
from tokendance_server.domain.quota.refusals import metric_name, window_name
from tokendance_server.domain.routing.caps import CapCounters
from tokendance_server.domain.routing.explain import explain
from tokendance_server.domain.routing.router import Router
from tokendance_server.domain.routing.way import Way
from tokendance_server.domain.usage.estimates import measure

Events = Sequence[completion_pb2.CompletionEvent]

# What may come before anything of an answer does.
_NO_CONTENT = frozenset({"started", "item_started"})


class Caller(MeteredCaller, Protocol):
    """What a model call needs to know of its RPC, and may note down about it.

    `deadline` is in the event loop's monotonic seconds. `model` becomes the public id once it is known;
    `upstream_s` is the time spent waiting for the upstream, in seconds (of a stream: for its first event).
    """

    deadline: float
    model: str
    upstream_s: float

    @property
    def ended_by(self) -> GatewayError | None:
        """Why the gateway itself ends the call; None where it does not."""


class Completions:
    """Answers model calls over the upstreams of the catalogue in force, which `serving` returns, as `router` chooses.

    `reads_on` reads a stream on whose caller has left; without it, the upstream is cancelled then. `caps` count
    what runs on routes that have any.
    """

    def __init__(
        self,
        serving: Callable[[], Serving],
        clock: Clock,
        meter: Meter,
        router: Router,
        reads_on: ReadsOn | None = None,
        *,
        caps: CapCounters | None = None,
    ) -> None:
        self._serving = serving
        self._clock = clock
        self._meter = meter
        self._router = router
        self._reads_on = reads_on
        self._caps = caps

    async def create(self, request: completion_pb2.CompletionRequest, caller: Caller) -> completion_pb2.Completion:
        """Answer in one message. Raises the errors of the model, request, quota and provider families."""
        metered = self._begin(request, caller, streamed=False)
        attempts: Attempts | None = None
        try:
            model = self._find(self._serving(), request.model, COMPLETIONS, caller)
            way = self._router.way(model, caller.identity, request)
            attempts = Attempts(self._router, way, metered, caller, self._caps)
            completion = await attempts.make(
                lambda chosen: metered.admit(chosen, request, streamed=False),
                lambda upstream, call: upstream.complete(request, call),
            )
            metered.seen.request_id = metered.seen.request_id or completion.id
            await metered.succeed(_usage_of(completion), _size_of(completion))
        except BaseException as exc:
            await metered.fail(exc, caller.ended_by)
            raise
        finally:
            if attempts is not None:
                await attempts.end()
        completion.id = new_id("cmpl")
        completion.model = way.model.id
        completion.created = int(self._clock.now().timestamp())
        completion.warnings.extend(way.warnings)
        completion.warnings.extend(overridden(request, way.route.forced_parameters))
        completion.account.CopyFrom(metered.account())
        return completion

    async def stream(self, request: completion_pb2.CompletionRequest, caller: Caller) -> AsyncIterator[Events]:
        """Answer as batches of events: Started first, Finished last. Raises as `create`, before or midway.

        Nothing comes out before the first event that carries content: until then another upstream may be asked.
        """
        metered = self._begin(request, caller, streamed=True)
        attempts: Attempts | None = None
        answer: AsyncIterator[Events] | None = None
        leaving = None if self._reads_on is None else Leaving(self._reads_on, metered)
        try:
            model = self._find(self._serving(), request.model, COMPLETIONS, caller)
            way = self._router.way(model, caller.identity, request, streamed=True)
            attempts = Attempts(self._router, way, metered, caller, self._caps)
            reading, events = await attempts.make(
                lambda chosen: metered.admit(chosen, request, streamed=True),
                lambda upstream, call: _open(upstream.stream(request, call)),
                streamed=True,
                after_leaving=leaving,
            )
            answer = reading
            metered.seen.request_id = metered.seen.request_id or events[0].started.id
            self._introduce(events[0], request, way, metered)
            while True:
                metered.deliver(events)
                last = events[-1]
                if last.WhichOneof("event") == "finished":
                    await metered.succeed(last.finished.usage if last.finished.HasField("usage") else None)
                    last.finished.account.CopyFrom(metered.account())
                    yield events
                    return
                yield events
                if not await metered.grow():
                    break
                try:
                    events = await anext(reading)
                except StopAsyncIteration:
                    await attempts.failed(_interrupted())
                except GatewayError as error:
                    await attempts.failed(error)
            # A limit has no room for more: the answer ends with the reason `length`, as at a cap of the caller.
            if leaving is not None:
                leaving.over = True
            await _close(reading)
            yield await _cut_short(metered)
        except BaseException as exc:
            if answer is not None:
                # First of all: an upstream whose caller left makes no more of what nobody reads.
                await _close(answer)
            if leaving is not None and leaving.taken:
                leaving.error = exc
            else:
                await metered.fail(exc, caller.ended_by)
            raise
        finally:
            if answer is not None:
                await _close(answer)
            if attempts is not None:
                await attempts.end()

    async def embed(self, request: completion_pb2.EmbeddingsRequest, caller: Caller) -> completion_pb2.Embeddings:
        """Turn texts into vectors. Raises the errors of the model, request, quota and provider families."""
        metered = self._meter.begin(caller, request.model, streamed=False, user=request.user)
        attempts: Attempts | None = None
        try:
            model = self._find(self._serving(), request.model, EMBEDDINGS, caller)
            way = self._router.way(model, caller.identity, None)
            attempts = Attempts(self._router, way, metered, caller, self._caps)
            embeddings = await attempts.make(
                lambda chosen: metered.admit_texts(chosen, request),
                lambda upstream, call: upstream.embed(request, call),
            )
            await metered.succeed(embeddings.usage if embeddings.HasField("usage") else None)
        except BaseException as exc:
            await metered.fail(exc, caller.ended_by)
            raise
        finally:
            if attempts is not None:
                await attempts.end()
        embeddings.model = model.id
        embeddings.account.CopyFrom(metered.account())
        return embeddings

    async def explain(
        self, request: completion_pb2.CompletionRequest, caller: Caller
    ) -> completions_service_pb2.ExplainCompletionResponse:
        """Tell what would happen to a call, and call nobody. A refusal is part of the answer, not an error."""
        answer = completions_service_pb2.ExplainCompletionResponse()
        try:
            model = self._find(self._serving(), request.model, COMPLETIONS, caller)
        except GatewayError as refusal:
            answer.reason = refusal.reason
            answer.message = refusal.message
            return answer
        preview = await self._meter.preview(caller.identity, model, request, streamed=False)
        way = self._router.look(model, caller.identity, request)
        tokens = preview.prompt.tokens, preview.output_tokens
        explanation = await explain(way, request, caller.identity, self._caps, tokens)
        answer.model = explanation.model
        for route in explanation.routes:
            answer.routes.add(
                provider=route.label,
                chosen=route.chosen,
                skipped_because=route.skipped_because,
                warnings=route.warnings,
            )
        refused = explanation.refusal or preview.refusal
        answer.admitted = refused is None
        if refused is not None:
            answer.reason, answer.message = refused.reason, refused.message
        _tell_limits(answer, preview)
        return answer

    async def count(self, request: completion_pb2.CompletionRequest, caller: Caller) -> tuple[int, bool]:
        """Return the tokens of a prompt, and whether that is an estimate. Raises the errors of the model family."""
        model = self._find(self._serving(), request.model, COMPLETIONS, caller)
        prompt = self._meter.estimates.prompt(model.id, request)
        return prompt.tokens, not prompt.exact

    @staticmethod
    def _find(serving: Serving, name: str, capability: str, caller: Caller) -> Model:
        caller.model = name
        model = serving.catalog.find(name, caller.identity)
        caller.model = model.id
        if capability not in model.capabilities:
            raise GatewayError(
                errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
                f"The model {model.id!r} does not serve {capability}; GET /v1/models tells what each model serves.",
                param="model",
                metadata={"model": model.id, "capability": capability},
                origin="caller",
            )
        return model

    def _begin(self, request: completion_pb2.CompletionRequest, caller: Caller, *, streamed: bool) -> Metered:
        caller.model = request.model
        return self._meter.begin(caller, request.model, streamed=streamed, user=request.user, metadata=request.metadata)

    def _introduce(
        self,
        event: completion_pb2.CompletionEvent,
        request: completion_pb2.CompletionRequest,
        way: Way,
        metered: Metered,
    ) -> None:
        if event.WhichOneof("event") != "started":
            raise AssertionError("an upstream's first event is Started")
        event.started.id = new_id("cmpl")
        event.started.model = way.model.id
        event.started.created = int(self._clock.now().timestamp())
        event.started.warnings.extend(way.warnings)
        event.started.warnings.extend(overridden(request, way.route.forced_parameters))
        event.started.account.CopyFrom(metered.account())


def _usage_of(completion: completion_pb2.Completion) -> completion_pb2.Usage | None:
    return completion.usage if completion.HasField("usage") else None


def _size_of(completion: completion_pb2.Completion) -> int:
    """Return the bytes of text in an answer: what it is charged by where its provider did not count."""
    return sum(measure(choice.message.parts)[0] for choice in completion.choices)


def _tell_limits(answer: completions_service_pb2.ExplainCompletionResponse, preview: Preview) -> None:
    answer.estimated_input_tokens = preview.prompt.tokens
    if preview.worst_cost is not None:
        answer.worst_case_cost_micros = preview.worst_cost
    for one in sorted(preview.standings, key=lambda one: one.left / max(one.row.rule.limit, 1)):
        rule = one.row.rule
        answer.limits.add(
            subject=one.row.subject,
            metric=metric_name(rule.metric),
            window=window_name(rule.window),
            limit=rule.limit,
            remaining=one.left,
            would_hold=preview.claim.need(rule.metric, preview.output_tokens),
        )


async def _open(answer: AsyncIterator[Events]) -> tuple[AsyncIterator[Events], Events]:
    """Read a stream up to what arrived with its first content, and return both; raises where nothing like it comes."""
    held: Events = ()
    try:
        async for events in answer:
            held = [*held, *events] if held else events
            if any(event.WhichOneof("event") not in _NO_CONTENT for event in events):
                return answer, held
    except BaseException:
        await _close(answer)
        raise
    raise _interrupted()


async def _cut_short(metered: Metered) -> Events:
    counts = metered.produced
    await metered.succeed(None)
    usage = completion_pb2.Usage(
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        source=completion_pb2.USAGE_SOURCE_ESTIMATED,
    )
    ended = completion_pb2.ChoiceFinished(finish_reason=completion_pb2.FINISH_REASON_LENGTH)
    finished = completion_pb2.Finished(usage=usage, account=metered.account())
    return [
        completion_pb2.CompletionEvent(choice_finished=ended),
        completion_pb2.CompletionEvent(finished=finished),
    ]


async def _close(answer: AsyncIterator[Events]) -> None:
    await answer.aclose()  # type: ignore[attr-defined]  # upstreams stream with generators


def _interrupted() -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED,
        "The provider's stream ended before the answer was complete; send the request again.",
        origin="provider",
    )
