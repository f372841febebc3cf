"""Model calls over upstreams that a test scripts: who answers, who fails and how, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tests.server.domain.meters import NOW, meter_of
from tests.server.domain.routing.routers import Told, router_of
from tests.server.domain.usage.doubles import MemoryJournal

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import access_pb2, errors_pb2
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1.errors_pb2 import ErrorReason
from tokendance_server.domain.catalogue.in_force import Seat, Serving
from tokendance_server.domain.catalogue.models import Caps, Model, ModelIndex, Route
from tokendance_server.domain.clock import ManualClock
from tokendance_server.domain.completions import Completions
from tokendance_server.domain.keys.key import LimitRule
from tokendance_server.domain.principals import Principal
from tokendance_server.domain.routing.caps import CapCounters
from tokendance_server.domain.routing.router import RoutingRules
from tokendance_server.domain.usage.entries import FinishedEntry, decode
from tokendance_server.stores.memory_counters import MemoryCounters

ORGANIZATION = "organizations/org_1"
KEY = f"{ORGANIZATION}/keys/key_1"
HOLDER = Principal(
    kinds=frozenset({access_pb2.CALLER_KIND_API_KEY}),
    name=KEY,
    organization=ORGANIZATION,
    key_id="key_1",
    owner=f"{ORGANIZATION}/members/user_1",
    team=f"{ORGANIZATION}/teams/team_1",
)
LIMITED = errors_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED
UNAVAILABLE = errors_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE
ERROR = errors_pb2.ERROR_REASON_PROVIDER_ERROR
TIMEOUT = errors_pb2.ERROR_REASON_PROVIDER_TIMEOUT
CUT = errors_pb2.ERROR_REASON_STREAM_INTERRUPTED


def failure(reason: ErrorReason.ValueType = ERROR, *, wait_s: int | None = None) -> GatewayError:
    """An error of an upstream."""
    return GatewayError(reason, "It failed.", retry_after_s=wait_s, origin="provider")


class Scripted:
    """An upstream that does what it is told, the same for every call unless told otherwise.

    `failure` and `status` are how it fails; `begins` lets a stream begin before that; `refuses` what it cannot carry.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.failure: GatewayError | None = None
        self.status = 200
        self.begins = False
        self.fails_midway = False
        self.refuses: GatewayError | None = None
        self.each: Callable[[int], GatewayError | None] | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def fail(self, reason: ErrorReason.ValueType = ERROR, status: int = 503, *, wait_s: int | None = None) -> None:
        """Fail from now on."""
        self.failure, self.status = failure(reason, wait_s=wait_s), status

    def work(self) -> None:
        """Answer from now on."""
        self.failure, self.status, self.begins, self.fails_midway = None, 200, False, False

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        if self.refuses is not None:
            raise self.refuses
        return ()

    async def complete(self, request: pb.CompletionRequest, call: Any) -> pb.Completion:
        await self._meet(call)
        completion = pb.Completion(usage=pb.Usage(input_tokens=7, output_tokens=5, source=pb.USAGE_SOURCE_PROVIDER))
        completion.choices.add().message.parts.add().text.text = self.name
        return completion

    async def embed(self, request: pb.EmbeddingsRequest, call: Any) -> pb.Embeddings:
        await self._meet(call)
        return pb.Embeddings(usage=pb.Usage(input_tokens=7, source=pb.USAGE_SOURCE_PROVIDER))

    async def stream(self, request: pb.CompletionRequest, call: Any) -> AsyncIterator[list[pb.CompletionEvent]]:
        if not self.begins and not self.fails_midway:
            await self._meet(call)
        yield [pb.CompletionEvent(started=pb.Started())]
        if self.begins:
            await self._meet(call)
        yield [pb.CompletionEvent(text=pb.TextDelta(text=self.name))]
        if self.fails_midway:
            await self._meet(call)
        usage = pb.Usage(input_tokens=7, output_tokens=5, source=pb.USAGE_SOURCE_PROVIDER)
        yield [pb.CompletionEvent(finished=pb.Finished(usage=usage))]

    async def _meet(self, call: Any) -> None:
        self.calls += 1
        await self.gate.wait()
        told = self.failure if self.each is None else self.each(self.calls)
        call.seen.status = 200 if told is None else self.status
        if told is not None:
            raise told


class Roads:
    """Completions over scripted upstreams: `a`, `b` and so on, each with the public label `Label a`.

    `models` are by id; a provider with several credentials is named in `seats`.
    """

    def __init__(
        self,
        models: Mapping[str, Sequence[Route]] | Sequence[Model],
        *limits: LimitRule,
        seats: Mapping[str, int] | None = None,
        caps: Mapping[str, Caps] | None = None,
        random: Callable[[], float] = lambda: 0.0,
        rules: RoutingRules | None = None,
    ) -> None:
        self.clock = ManualClock(NOW)
        self.journal = MemoryJournal()
        self.meter = meter_of({KEY: limits}, clock=self.clock, journal=self.journal)
        self.told = Told()
        listed = models if not isinstance(models, Mapping) else [Model(name, tuple(of)) for name, of in models.items()]
        providers = {route.provider for model in listed for route in model.routes}
        self.up: dict[str, Scripted] = {}
        places: dict[str, list[Seat]] = {}
        for name in sorted(providers):
            count = (seats or {}).get(name, 1)
            names = [name] if count == 1 else [f"{name}{number}" for number in range(count)]
            self.up |= {one: Scripted(one) for one in names}
            places[name] = [Seat(one, self.up[one]) for one in names]  # type: ignore[arg-type] # what is called of it
        self.serving = Serving(
            ModelIndex(listed),
            {name: found[0].upstream for name, found in places.items()},
            {name: f"Label {name}" for name in places},
            places,
            caps or {},
        )
        self.router = router_of(lambda: self.serving, self.clock, random=random, rules=rules, told=self.told)
        self.caps = CapCounters(MemoryCounters(self.clock), lambda error: None)
        self.completions = Completions(lambda: self.serving, self.clock, self.meter, self.router, caps=self.caps)
        self.callers: list[Any] = []

    def caller(self, who: Principal = HOLDER, *, left_s: float = 60.0) -> Any:
        """One RPC, with so much time left."""
        made = SimpleNamespace(
            request_id=f"req_{len(self.callers)}",
            method="/package.Service/Method",
            deadline=asyncio.get_running_loop().time() + left_s,
            model="",
            upstream_s=0.0,
            ended_by=None,
            identity=who,
            surface=errors_pb2.SURFACE_CHAT,
            address="",
            caller=None,
        )
        self.callers.append(made)
        return made

    async def create(
        self, model: str = "m", *, who: Principal = HOLDER, left_s: float = 60.0, **fields: Any
    ) -> pb.Completion:
        """Call, and return the answer."""
        return await self.completions.create(request(model, **fields), self.caller(who, left_s=left_s))

    async def said(self, model: str = "m", *, who: Principal = HOLDER, streamed: bool = False) -> str:
        """Call, and return who answered."""
        if not streamed:
            return (await self.create(model, who=who)).choices[0].message.parts[0].text.text
        return "".join(event.text.text for event in await self.stream(model, who=who))

    async def stream(self, model: str = "m", *, who: Principal = HOLDER) -> list[pb.CompletionEvent]:
        """Call, and return all events."""
        batches = self.completions.stream(request(model), self.caller(who))
        async with aclosing(batches) as opened:  # type: ignore[type-var]
            return [event async for events in opened for event in events]

    async def code(self, model: str = "m", *, who: Principal = HOLDER, streamed: bool = False) -> str:
        """Call, and return how it ended: `ok`, or the code of its error."""
        try:
            await self.said(model, who=who, streamed=streamed)
        except GatewayError as error:
            return error.code
        return "ok"

    @property
    def calls(self) -> dict[str, int]:
        """How often each upstream was asked."""
        return {name: one.calls for name, one in self.up.items()}

    @property
    def records(self) -> list[FinishedEntry]:
        """What is on record, in order."""
        entries = [decode(payload) for payload in self.journal.finished.values()]
        return [one for one in entries if isinstance(one, FinishedEntry)]


def request(model: str = "m", **fields: Any) -> pb.CompletionRequest:
    """A small request."""
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])
    return pb.CompletionRequest(model=model, messages=[message], **fields)


def other_organization(number: int) -> Principal:
    """A caller of another organization."""
    return replace(HOLDER, organization=f"organizations/org_{number}", name=f"organizations/org_{number}/keys/k")
