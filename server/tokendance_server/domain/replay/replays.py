"""Model calls with an idempotency key: made and charged once, and answered again from what was kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1.completions_service_pb2 import StreamCompletionResponse
from tokendance_server.domain.completions import Caller, Completions, Events
from tokendance_server.domain.metered import Metered
from tokendance_server.domain.metering import Meter
from tokendance_server.domain.replay.claims import Claims, Keeping
from tokendance_server.domain.replay.refusals import unreadable
from tokendance_server.domain.replay.running import Bounds, Feed, Runs
from tokendance_server.domain.replay.store import Claim, Found
from tokendance_server.domain.replay.tickets import Ticket
from tokendance_server.domain.sealing import UnsealError

_AT_ONCE = 64
"""How many events of a kept stream travel together."""


class Replays:
    """Answers calls with an idempotency key over `completions`. `report` gets what no caller is there to see."""

    def __init__(
        self,
        completions: Completions,
        meter: Meter,
        claims: Claims,
        report: Callable[[BaseException], None],
        *,
        keeping: Keeping,
        bounds: Bounds,
    ) -> None:
        self._completions = completions
        self._meter = meter
        self._claims = claims
        self._report = report
        self._most = keeping.answer_bytes
        self._runs = Runs(bounds, report)

    async def create(self, request: pb.CompletionRequest, caller: Caller, ticket: Ticket) -> pb.Completion:
        """Answer as `Completions.create`, or send the kept answer again. Raises as that and `Claims.enter`."""
        entered = await self._enter(request, caller, ticket, streamed=False)
        if isinstance(entered, Found):
            completion = pb.Completion()
            await self._again(request, caller, ticket, entered, completion)
            return completion
        task = self._runs.start(self._create(request, caller, ticket, entered))
        try:
            return await asyncio.shield(task)
        finally:
            self._runs.leave(task)

    async def stream(self, request: pb.CompletionRequest, caller: Caller, ticket: Ticket) -> AsyncIterator[Events]:
        """Answer as `Completions.stream`, or send the kept answer again as a stream. Raises as `create`."""
        entered = await self._enter(request, caller, ticket, streamed=True)
        if isinstance(entered, Found):
            kept = StreamCompletionResponse()
            await self._again(request, caller, ticket, entered, kept)
            for start in range(0, len(kept.events), _AT_ONCE):
                yield kept.events[start : start + _AT_ONCE]
            return
        feed = Feed()
        task = self._runs.start(self._stream(request, caller, ticket, entered, feed))
        try:
            while (events := await feed.get()) is not None:
                yield events
            await asyncio.shield(task)
        finally:
            feed.leave()
            self._runs.leave(task)

    def start(self) -> None:
        """Look after the claims until `close`."""
        self._claims.start()

    async def close(self) -> None:
        """End the calls that go on without callers; harmless where it was never started."""
        await self._runs.close()
        await self._claims.close()

    async def _create(
        self, request: pb.CompletionRequest, caller: Caller, ticket: Ticket, claim: Claim
    ) -> pb.Completion:
        try:
            completion = await self._completions.create(request, caller)
        except BaseException:
            await self._claims.release(claim)
            raise
        completion.warnings.extend(await self._keep(claim, ticket, completion.SerializeToString()))
        return completion

    async def _stream(
        self, request: pb.CompletionRequest, caller: Caller, ticket: Ticket, claim: Claim, feed: Feed
    ) -> None:
        kept, size, complete = StreamCompletionResponse(), 0, False
        try:
            async with aclosing(self._completions.stream(request, caller)) as batches:  # type: ignore[type-var]
                async for events in batches:
                    size += sum(event.ByteSize() for event in events)
                    if size <= self._most:
                        kept.events.extend(events)
                    elif feed.left:
                        # It would be read to its end for nobody.
                        break
                    last = events[-1]
                    if last.WhichOneof("event") == "finished":
                        complete = True
                        answer = kept.SerializeToString() if size <= self._most else None
                        last.finished.warnings.extend(await self._keep(claim, ticket, answer))
                    await feed.put(events)
        finally:
            if not complete:
                await self._claims.release(claim)
            await feed.put(None)

    async def _enter(
        self, request: pb.CompletionRequest, caller: Caller, ticket: Ticket, *, streamed: bool
    ) -> Claim | Found:
        try:
            return await self._claims.enter(caller, ticket)
        except GatewayError as error:
            await self._begin(request, caller, streamed=streamed).fail(error)
            raise

    async def _again(
        self,
        request: pb.CompletionRequest,
        caller: Caller,
        ticket: Ticket,
        found: Found,
        answer: pb.Completion | StreamCompletionResponse,
    ) -> None:
        """Read a kept answer, with the account of this call in it, and put this call on record: free of charge."""
        streamed = isinstance(answer, StreamCompletionResponse)
        metered = self._begin(request, caller, streamed=streamed)
        try:
            assert found.sealed is not None
            try:
                answer.ParseFromString(ticket.open(found.sealed))
            except UnsealError as exc:
                self._report(exc)
                raise unreadable() from exc
            if isinstance(answer, StreamCompletionResponse):
                accounts = [answer.events[0].started.account, answer.events[-1].finished.account]
            else:
                accounts = [answer.account]
            for account in accounts:
                told = pb.CallAccount(
                    served_by=account.served_by,
                    fallback_model=account.fallback_model,
                    cost_micros=0,
                    replay_of=found.request_id,
                )
                account.CopyFrom(told)
            await metered.replay(found.request_id)
        except BaseException as exc:
            await metered.fail(exc)
            raise

    def _begin(self, request: pb.CompletionRequest, caller: Caller, *, streamed: bool) -> Metered:
        caller.model = request.model
        return self._meter.begin(caller, request.model, streamed=streamed, user=request.user, metadata=request.metadata)

    async def _keep(self, claim: Claim, ticket: Ticket, answer: bytes | None) -> Sequence[pb.Warning]:
        """Keep an answer; returns the warning for one that is not kept. The answer itself is good in any case."""
        if answer is None or len(answer) > self._most:
            await self._claims.release(claim)
            why = f"The answer is larger than {self._most} bytes and is not kept: a repeat will be charged again."
        elif await self._claims.keep(claim, ticket.seal(answer)):
            return ()
        else:
            why = "The answer could not be kept: a repeat will be charged again."
        return (pb.Warning(field="idempotency_key", why=why),)
