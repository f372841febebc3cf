"""The attempts of one call at an answer: each goes a way of its own, is on record, and is judged by how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.catalogue.models import Model
from tokendance_server.domain.metered import Metered
from tokendance_server.domain.quota.claims import Grant, Used
from tokendance_server.domain.routing.caps import CapCounters
from tokendance_server.domain.routing.router import Router
from tokendance_server.domain.routing.way import Way
from tokendance_server.domain.upstream import AfterLeaving, Upstream, UpstreamCall

T = TypeVar("T")
_FAILED = frozenset({errors_pb2.ERROR_FAMILY_PROVIDER, errors_pb2.ERROR_FAMILY_GATEWAY})


class AttemptCaller(Protocol):
    """What attempts need to know of an RPC. `deadline` is in the event loop's seconds, `upstream_s` in seconds."""

    request_id: str
    deadline: float
    upstream_s: float


class Attempts:
    """The attempts of one call: `make` them, tell what `failed` midway, and `end` in any case."""

    __slots__ = ("_admitted", "_answered", "_caller", "_caps", "_grant", "_metered", "_router", "_way")

    def __init__(
        self, router: Router, way: Way, metered: Metered, caller: AttemptCaller, caps: CapCounters | None
    ) -> None:
        self._router = router
        self._way = way
        self._metered = metered
        self._caller = caller
        self._caps = caps
        self._grant: Grant | None = None
        self._admitted: Model | None = None
        self._answered = False

    async def make(
        self,
        admit: Callable[[Model], Awaitable[None]],
        ask: Callable[[Upstream, UpstreamCall], Awaitable[T]],
        *,
        streamed: bool = False,
        after_leaving: AfterLeaving | None = None,
    ) -> T:
        """Return what `ask` gets from an upstream, the first of those that are asked one after the other to answer.

        `admit` holds what the call may use of a model, once for each. Raises as `Way.choose`, `admit` and
        `Metered.attempt`, or what the first upstream raised where none is to be asked any more.
        """
        metered, caller = self._metered, self._caller
        while True:
            call = await self._begin(admit, after_leaving)
            try:
                answer = await ask(self._way.upstream, call)
            except BaseException as exc:  # noqa: BLE001 - whatever it is, the attempt is ended by it
                caller.upstream_s += metered.hear()
                await self.failed(exc)
                continue
            waited_s = metered.hear(stream=streamed)
            caller.upstream_s += waited_s
            self._answered = True
            self._way.succeed(waited_s)
            self._router.answered(self._way, caller.upstream_s)
            return answer

    async def _begin(
        self, admit: Callable[[Model], Awaitable[None]], after_leaving: AfterLeaving | None
    ) -> UpstreamCall:
        """Choose where to go, hold what that needs, and open the attempt."""
        way, metered, caller = self._way, self._metered, self._caller
        while True:
            way.choose()
            model = way.model
            try:
                if model is not self._admitted:
                    await admit(model)
                    self._admitted = model
                if way.rows and self._caps is not None and not await self._take_caps(self._caps):
                    continue
                if way.degraded:
                    metered.serve_by(way.retries, model.id if way.fell_back else "")
                await metered.attempt(way.route, way.lane.label)
            except BaseException:
                way.leave()
                raise
            break
        way.begin()
        metered.ask()
        route = way.route
        return UpstreamCall(
            route.upstream_model, caller.deadline, caller.request_id, after_leaving, metered.seen,
            model.max_output_tokens, route.default_parameters, route.forced_parameters,
        )  # fmt: skip

    async def failed(self, error: BaseException) -> None:
        """Take how an attempt ended; returns where another one is to be made, and raises the error otherwise."""
        way, metered = self._way, self._metered
        way.end()
        if not isinstance(error, GatewayError):
            way.leave()
            raise error
        seen = metered.seen
        way.fail(error, seen)
        left_s = self._caller.deadline - asyncio.get_running_loop().time()
        if self._answered or not way.again(error, seen, left_s):
            if error.retryable and error.spec.family in _FAILED:
                self._router.failed(way.asked.id, midway=self._answered)
            raise error
        metered.retry(error)
        await self._end_caps(None)
        if way.pause_s:
            await asyncio.sleep(way.pause_s)

    async def end(self) -> None:
        """Give back what the last attempt held of its route; harmless where it held nothing."""
        self._way.end()
        if self._grant is not None:
            await self._end_caps(self._metered.used)

    async def _take_caps(self, caps: CapCounters) -> bool:
        way = self._way
        got = await caps.take(way.rows, *self._metered.needs)
        if isinstance(got, float):
            way.full(got)
            return False
        self._grant = got
        return True

    async def _end_caps(self, used: Used | None) -> None:
        grant, self._grant = self._grant, None
        if grant is not None and self._caps is not None:
            await self._caps.end(grant, used)
