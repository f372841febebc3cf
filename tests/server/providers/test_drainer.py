"""Answers that are read on after their callers have left, against a real upstream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from dev.simulator import Simulator
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.catalogue.models import ProviderConfig
from tokendance_server.domain.egress import EgressPolicy
from tokendance_server.domain.upstream import OpenAnswer, UpstreamCall
from tokendance_server.providers.drainer import Drainer
from tokendance_server.providers.openai import OpenAICodec
from tokendance_server.providers.relay import HttpUpstream
from tokendance_server.providers.transport import Client, open_transport

PACED = "sim:tokens=20:rate=100"
ENDLESS = "sim:tokens=4000:rate=100"
ASKED = pb.CompletionRequest(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="Hi"))])])


@dataclass
class Ears:
    """Hears what came after the caller had left."""

    text: str = ""
    usage: pb.Usage | None = None
    complete: list[bool] = field(default_factory=list)

    def events(self, events: Sequence[pb.CompletionEvent]) -> None:
        assert not self.complete
        for event in events:
            self.text += event.text.text
            if event.HasField("finished"):
                self.usage = event.finished.usage

    async def ended(self, *, complete: bool) -> None:
        self.complete.append(complete)


class Figures:
    """Counts how answers ended."""

    def __init__(self) -> None:
        self.complete: list[bool] = []

    def ended(self, *, complete: bool) -> None:
        self.complete.append(complete)


@dataclass
class To:
    """Hands an answer to a drainer. Satisfies AfterLeaving."""

    drainer: Drainer
    ears: Ears

    def take(self, answer: OpenAnswer) -> bool:
        return self.drainer.take(answer, self.ears)


@dataclass
class Rig:
    upstream: HttpUpstream
    sim: Simulator

    async def leave(self, model: str, drainer: Drainer | None, ears: Ears) -> str:
        """Read the beginning of a stream and leave; returns what was read of it."""
        deadline = asyncio.get_running_loop().time() + 30
        after = None if drainer is None else To(drainer, ears)
        call = UpstreamCall(model=model, deadline=deadline, request_id="req_1", after_leaving=after)
        text = ""
        stream: Any = self.upstream.stream(ASKED, call)
        async with aclosing(stream) as batches:
            async for events in batches:
                text += "".join(event.text.text for event in events)
                if text:
                    break
        return text


@pytest.fixture
async def rig(upstream_client: Client) -> AsyncIterator[Rig]:
    """An upstream of the simulator."""
    transport = open_transport(upstream_client, EgressPolicy(allow_loopback=True))
    async with Simulator() as sim:
        provider = ProviderConfig(id="p", kind="openai", base_url=sim.base_url, idle_timeout_s=1.0)
        yield Rig(HttpUpstream(OpenAICodec(event_bytes=1024 * 1024), transport, provider), sim)
        await transport.close()


@pytest.fixture
async def drainer() -> AsyncIterator[Drainer]:
    """A drainer with room for two, which is empty once closed."""
    made = Drainer(Figures(), count=2, answer_bytes=1024 * 1024, seconds=10)
    yield made
    await made.close()
    assert made.draining == 0


async def ended(ears: Ears) -> bool:
    """Wait for the end, and return whether it was the answer's own."""
    async with asyncio.timeout(10):
        while not ears.complete:
            await asyncio.sleep(0.01)
    (complete,) = ears.complete
    return complete


async def peer_left(rig: Rig, at: int = -1) -> None:
    """Wait until the upstream has lost its client."""
    async with asyncio.timeout(5):
        while not rig.sim.log[at].peer_left:
            await asyncio.sleep(0.01)


async def test_the_rest_of_an_answer_is_heard(rig: Rig, drainer: Drainer) -> None:
    """Beginning and rest are the whole answer, with its usage, and nothing is held afterwards."""
    ears = Ears()
    began = await rig.leave(PACED, drainer, ears)
    assert drainer.draining == 1
    assert await ended(ears)
    assert len((began + ears.text).split()) == 20
    assert ears.usage is not None
    assert ears.usage.output_tokens == 20
    await asyncio.sleep(0)
    assert drainer.draining == 0


async def test_nothing_is_read_on_unless_asked_for(rig: Rig) -> None:
    """Without it the upstream loses its client at once."""
    await rig.leave(ENDLESS, None, Ears())
    await peer_left(rig)


async def test_a_caller_that_has_everything_does_not_leave(rig: Rig, drainer: Drainer) -> None:
    """One that closes the stream behind its end has been served."""
    ears = Ears()
    deadline = asyncio.get_running_loop().time() + 30
    call = UpstreamCall(model="sim", deadline=deadline, request_id="req_1", after_leaving=To(drainer, ears))
    stream: Any = rig.upstream.stream(ASKED, call)
    async with aclosing(stream) as batches:
        async for events in batches:
            if events[-1].HasField("finished"):
                break
    assert drainer.draining == 0
    assert ears.complete == []


async def test_no_more_than_so_many_are_read_on(rig: Rig) -> None:
    """One more is cancelled, counted, and left to who charges it."""
    figures = Figures()
    drainer = Drainer(figures, count=2, answer_bytes=1024 * 1024, seconds=10)
    heard = [Ears(), Ears(), Ears()]
    for ears in heard:
        await rig.leave(ENDLESS, drainer, ears)
    assert drainer.draining == 2
    assert figures.complete == [False]
    assert [ears.complete for ears in heard] == [[], [], []]
    await peer_left(rig)
    await drainer.close()
    assert [ears.complete for ears in heard] == [[False], [False], []]


@pytest.mark.parametrize("bounds", [{"answer_bytes": 2000}, {"seconds": 0.2}])
async def test_an_answer_without_end_is_given_up(rig: Rig, bounds: dict[str, Any]) -> None:
    """After so many bytes or seconds."""
    drainer = Drainer(Figures(), **({"count": 2, "answer_bytes": 1024 * 1024, "seconds": 10} | bounds))
    ears = Ears()
    await rig.leave(ENDLESS, drainer, ears)
    assert not await ended(ears)
    assert ears.text
    await peer_left(rig)
    await drainer.close()


@pytest.mark.parametrize("model", ["fault:cut:n=3", "fault:stall-after:n=3"])
async def test_a_rest_that_breaks_is_not_complete(rig: Rig, drainer: Drainer, model: str) -> None:
    """The faults of upstreams end it, whoever reads."""
    ears = Ears()
    await rig.leave(model, drainer, ears)
    assert not await ended(ears)


async def test_a_listener_that_fails_ends_its_own_answer(rig: Rig, drainer: Drainer) -> None:
    """And nobody else's; the upstream is let go."""

    class Deaf(Ears):
        def events(self, events: Sequence[pb.CompletionEvent]) -> None:
            raise ValueError("deaf")

    ears = Deaf()
    await rig.leave(ENDLESS, drainer, ears)
    assert not await ended(ears)
    await peer_left(rig)


async def test_closing_gives_everything_up(rig: Rig) -> None:
    """Also what was handed over a moment ago; and nothing is taken any more."""
    drainer = Drainer(Figures(), count=2, answer_bytes=1024 * 1024, seconds=10)
    heard = [Ears(), Ears()]
    await rig.leave(ENDLESS, drainer, heard[0])
    await asyncio.sleep(0.05)
    await rig.leave(ENDLESS, drainer, heard[1])
    await drainer.close()
    assert [ears.complete for ears in heard] == [[False], [False]]
    assert drainer.draining == 0
    for at in (-2, -1):
        await peer_left(rig, at)
    late = Ears()
    await rig.leave(ENDLESS, drainer, late)
    assert late.complete == []
    await peer_left(rig)
