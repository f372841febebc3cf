"""An answer in several hops is one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.upstream import UpstreamCall
from tokendance_server.providers.continuing import MOST_HOPS, ContinuingUpstream
from tokendance_server.providers.gemini import GeminiCodec

WIRE = Path(__file__).parents[2] / "wire" / "providers" / "gemini"
FIRST, LAST = "first_of_two_hops", "last_of_two_hops"
REQUEST = pb.CompletionRequest()
CALL = UpstreamCall("m", 1.0, "req_1", forced_parameters='{"top":1}')


class Recorded:
    """An upstream that gives one recording after the other, the last one again and again; keeps what it was asked."""

    def __init__(self, *names: str) -> None:
        self._names = list(names)
        self._codec = GeminiCodec(mint=lambda: "call_minted")
        self.forced: list[str] = []

    def _next(self, call: UpstreamCall) -> str:
        self.forced.append(call.forced_parameters)
        return self._names.pop(0) if len(self._names) > 1 else self._names[0]

    async def complete(self, request: pb.CompletionRequest, call: UpstreamCall) -> pb.Completion:
        """The next recorded answer."""
        return self._codec.decode_completion((WIRE / "answers" / f"{self._next(call)}.json").read_bytes(), request)

    async def stream(
        self, request: pb.CompletionRequest, call: UpstreamCall
    ) -> AsyncIterator[Sequence[pb.CompletionEvent]]:
        """The next recorded stream, an event of the wire at a time."""
        decoder = self._codec.stream_decoder(request)
        for packet in (WIRE / "streams" / f"{self._next(call)}.sse").read_bytes().split(b"\n\n"):
            if events := decoder.feed(packet + b"\n\n"):
                yield events
        yield decoder.close()

    async def embed(self, request: pb.EmbeddingsRequest, call: UpstreamCall) -> pb.Embeddings:
        """No vectors."""
        return pb.Embeddings()

    async def discover(self, call: UpstreamCall) -> Sequence[str]:
        """No models."""
        return ()

    def warnings(self, request: pb.CompletionRequest) -> Sequence[pb.Warning]:
        """Nothing left out."""
        return ()


async def test_two_hops_are_one_answer() -> None:
    """Texts are joined, the usage is added up, the end is that of the last; the token goes back and no further."""
    upstream = Recorded(FIRST, LAST)
    answer = await ContinuingUpstream(upstream).complete(REQUEST, CALL)
    parts = answer.choices[0].message.parts
    assert [part.text.text or part.tool_call.name for part in parts] == ["abcdefghijklmnop", "f"]
    assert answer.choices[0].finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (14, 11)
    assert upstream.forced == ['{"top":1}', '{"top":1,"continuationToken":"more-of-it"}']
    assert answer.extra_json == ""


async def test_two_hops_are_one_stream() -> None:
    """It begins once and ends once; the text goes on in the item where it broke off."""
    upstream = Recorded(FIRST, LAST)
    events = [event async for batch in ContinuingUpstream(upstream).stream(REQUEST, CALL) for event in batch]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["started", "text", "text", "text", "tool_call", "choice_finished", "finished"]
    assert "".join(event.text.text for event in events) == "abcdefghijklmnop"
    assert {event.text.item for event in events if event.HasField("text")} == {0}
    assert (events[4].tool_call.item, events[4].tool_call.index) == (1, 0)
    assert events[5].choice_finished.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    usage = events[6].finished.usage
    assert (usage.input_tokens, usage.output_tokens) == (14, 11)
    assert events[6].finished.extra_json == ""
    assert len(upstream.forced) == 2


async def test_one_hop_is_as_it_was() -> None:
    """Nothing is asked twice."""
    upstream = Recorded(LAST)
    continuing = ContinuingUpstream(upstream)
    assert await continuing.complete(REQUEST, CALL) == await Recorded(LAST).complete(REQUEST, CALL)
    streamed = [event async for batch in continuing.stream(REQUEST, CALL) for event in batch]
    assert streamed == [event async for batch in Recorded(LAST).stream(REQUEST, CALL) for event in batch]
    assert len(upstream.forced) == 2


async def read(continuing: ContinuingUpstream) -> None:
    """A stream, to its end."""
    async for _ in continuing.stream(REQUEST, CALL):
        pass


async def test_an_answer_that_never_ends_is_a_failure() -> None:
    """After a stated number of hops."""
    for streamed in (False, True):
        upstream = Recorded(FIRST)
        continuing = ContinuingUpstream(upstream)
        with pytest.raises(GatewayError) as caught:
            await (read(continuing) if streamed else continuing.complete(REQUEST, CALL))
        assert caught.value.code == "provider_error"
        assert MOST_HOPS <= len(upstream.forced) <= MOST_HOPS + 1
