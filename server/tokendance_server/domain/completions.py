"""Model calls: the model is found, a route chosen, the upstream asked, and its answer made the gateway's own."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2, completions_service_pb2, errors_pb2
from tokendance.ids import new_id
from tokendance_server.domain.catalogue.in_force import Serving
from tokendance_server.domain.catalogue.models import COMPLETIONS, EMBEDDINGS, Model, Route
from tokendance_server.domain.clock import Clock
from tokendance_server.domain.metering import Meter, Metered, MeteredCaller
from tokendance_server.domain.quota.refusals import metric_name, window_name
from tokendance_server.domain.upstream import AfterLeaving, Upstream, UpstreamCall
from tokendance_server.domain.usage.estimates import measure

Events = Sequence[completion_pb2.CompletionEvent]


class Caller(MeteredCaller, Protocol):
    """What a model call needs to know of its RPC, and may note down about it.

    `deadline` is in the event loop's monotonic seconds. `model` becomes the public id once it is known;
    `upstream_s` is the time spent waiting for the upstream, in seconds (of a stream: for its first event).
    """

    deadline: float
    model: str
    upstream_s: float


class Completions:
    """Answers model calls over the upstreams of the catalogue in force, which `serving` returns.

    `after_leaving` reads a stream on whose caller has left; without it, the upstream is cancelled then.
    """

    def __init__(
        self, serving: Callable[[], Serving], clock: Clock, meter: Meter, after_leaving: AfterLeaving | None = None
    ) -> None:
        self._serving = serving
        self._clock = clock
        self._meter = meter
        self._after_leaving = after_leaving

    async def create(self, request: completion_pb2.CompletionRequest, caller: Caller) -> completion_pb2.Completion:
        """Answer in one message. Raises the errors of the model, request, quota and provider families."""
        metered = self._begin(request, caller, streamed=False)
        try:
            serving = self._serving()
            model, route, upstream = self._choose(serving, request.model, COMPLETIONS, caller)
            warnings = upstream.warnings(request)
            await metered.admit(model, request, streamed=False)
            await metered.attempt(route, serving.labels[route.provider])
            metered.ask()
            try:
                completion = await upstream.complete(request, _call(model, route, caller, metered))
            finally:
                caller.upstream_s += metered.hear()
            metered.seen.request_id = metered.seen.request_id or completion.id
            await metered.succeed(_usage_of(completion), _size_of(completion))
        except BaseException as exc:
            await metered.fail(exc)
            raise
        completion.id = new_id("cmpl")
        completion.model = model.id
        completion.created = int(self._clock.now().timestamp())
        completion.warnings.extend(warnings)
        completion.account.CopyFrom(metered.account())
        return completion

    async def stream(self, request: completion_pb2.CompletionRequest, caller: Caller) -> AsyncIterator[Events]:
        """Answer as batches of events: Started first, Finished last. Raises as `create`, before or midway."""
        metered = self._begin(request, caller, streamed=True)
        try:
            serving = self._serving()
            model, route, upstream = self._choose(serving, request.model, COMPLETIONS, caller)
            warnings = upstream.warnings(request)
            await metered.admit(model, request, streamed=True)
            await metered.attempt(route, serving.labels[route.provider])
            call = dataclasses.replace(_call(model, route, caller, metered), after_leaving=self._after_leaving)
            async with aclosing(self._answer(upstream.stream(request, call), metered, caller)) as batches:  # type: ignore[type-var]
                started = False
                async for events in batches:
                    if not started:
                        started = True
                        self._introduce(events[0], model, warnings, metered)
                    yield events
        except BaseException as exc:
            await metered.fail(exc)
            raise

    async def _answer(self, answer: AsyncIterator[Events], metered: Metered, caller: Caller) -> AsyncIterator[Events]:
        """Yield an upstream's events; those of its end only once the call is charged.

        Where a limit has no room for more of it, the answer ends with the reason `length`, as at a cap of the caller.
        """
        metered.ask()
        waiting = True
        try:
            async with aclosing(answer) as batches:  # type: ignore[type-var]
                async for events in batches:
                    if waiting:
                        waiting = False
                        caller.upstream_s += metered.hear(stream=True)
                        metered.seen.request_id = metered.seen.request_id or events[0].started.id
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
                else:
                    raise GatewayError(
                        errors_pb2.ERROR_REASON_STREAM_INTERRUPTED,
                        "The provider's stream ended before the answer was complete; send the request again.",
                        origin="provider",
                    )
        finally:
            if waiting:
                caller.upstream_s += metered.hear()
        counts = metered.produced
        await metered.succeed(None)
        usage = completion_pb2.Usage(
            input_tokens=counts.input_tokens,
            output_tokens=counts.output_tokens,
            source=completion_pb2.USAGE_SOURCE_ESTIMATED,
        )
        ended = completion_pb2.ChoiceFinished(finish_reason=completion_pb2.FINISH_REASON_LENGTH)
        finished = completion_pb2.Finished(usage=usage, account=metered.account())
        yield [
            completion_pb2.CompletionEvent(choice_finished=ended),
            completion_pb2.CompletionEvent(finished=finished),
        ]

    async def embed(self, request: completion_pb2.EmbeddingsRequest, caller: Caller) -> completion_pb2.Embeddings:
        """Turn texts into vectors. Raises the errors of the model, request, quota and provider families."""
        metered = self._meter.begin(caller, request.model, streamed=False, user=request.user)
        try:
            serving = self._serving()
            model, route, upstream = self._choose(serving, request.model, EMBEDDINGS, caller)
            await metered.admit_texts(model, request)
            await metered.attempt(route, serving.labels[route.provider])
            metered.ask()
            try:
                embeddings = await upstream.embed(request, _call(model, route, caller, metered))
            finally:
                caller.upstream_s += metered.hear()
            await metered.succeed(embeddings.usage if embeddings.HasField("usage") else None)
        except BaseException as exc:
            await metered.fail(exc)
            raise
        embeddings.model = model.id
        embeddings.account.CopyFrom(metered.account())
        return embeddings

    async def explain(
        self, request: completion_pb2.CompletionRequest, caller: Caller
    ) -> completions_service_pb2.ExplainCompletionResponse:
        """Tell what would happen to a call, and call nobody. A refusal is part of the answer, not an error."""
        answer = completions_service_pb2.ExplainCompletionResponse()
        serving = self._serving()
        try:
            model, chosen, _ = self._choose(serving, request.model, COMPLETIONS, caller)
        except GatewayError as refusal:
            answer.reason = refusal.reason
            answer.message = refusal.message
            return answer
        answer.model = model.id
        answer.admitted = True
        for route in _in_order(model):
            explained = answer.routes.add(provider=serving.labels[route.provider], chosen=route is chosen)
            if route is not chosen:
                explained.skipped_because = "Another route of the model comes first."
            try:
                explained.warnings.extend(serving.upstreams[route.provider].warnings(request))
            except GatewayError as refusal:
                explained.skipped_because = refusal.message
                if route is chosen:
                    answer.admitted, answer.reason, answer.message = False, refusal.reason, refusal.message
        await self._explain_limits(answer, model, request, caller)
        return answer

    async def count(self, request: completion_pb2.CompletionRequest, caller: Caller) -> tuple[int, bool]:
        """Return the tokens of a prompt, and whether that is an estimate. Raises the errors of the model family."""
        model = self._find(self._serving(), request.model, COMPLETIONS, caller)
        prompt = self._meter.estimates.prompt(model.id, request)
        return prompt.tokens, not prompt.exact

    async def _explain_limits(
        self,
        answer: completions_service_pb2.ExplainCompletionResponse,
        model: Model,
        request: completion_pb2.CompletionRequest,
        caller: Caller,
    ) -> None:
        preview = await self._meter.preview(caller.identity, model, request, streamed=False)
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
        if preview.refusal is not None and answer.admitted:
            answer.admitted, answer.reason, answer.message = False, preview.refusal.reason, preview.refusal.message

    @classmethod
    def _choose(cls, serving: Serving, name: str, capability: str, caller: Caller) -> tuple[Model, Route, Upstream]:
        model = cls._find(serving, name, capability, caller)
        route = _in_order(model)[0]
        return model, route, serving.upstreams[route.provider]

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
        model: Model,
        warnings: Sequence[completion_pb2.Warning],
        metered: Metered,
    ) -> None:
        if event.WhichOneof("event") != "started":
            raise AssertionError("an upstream's first event is Started")
        event.started.id = new_id("cmpl")
        event.started.model = model.id
        event.started.created = int(self._clock.now().timestamp())
        event.started.warnings.extend(warnings)
        event.started.account.CopyFrom(metered.account())


def _usage_of(completion: completion_pb2.Completion) -> completion_pb2.Usage | None:
    return completion.usage if completion.HasField("usage") else None


def _size_of(completion: completion_pb2.Completion) -> int:
    """Return the bytes of text in an answer: what it is charged by where its provider did not count."""
    return sum(measure(choice.message.parts)[0] for choice in completion.choices)


def _in_order(model: Model) -> list[Route]:
    return sorted(model.routes, key=lambda route: (route.priority, -route.weight))


def _call(model: Model, route: Route, caller: Caller, metered: Metered) -> UpstreamCall:
    return UpstreamCall(
        model=route.upstream_model,
        deadline=caller.deadline,
        request_id=caller.request_id,
        seen=metered.seen,
        output_cap=model.max_output_tokens,
    )
