"""Every fault of the simulator's Messages dialect through the codec: an answer, or an error that names the provider."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from dev.simulator import anthropic
from dev.simulator.answer import Answer
from dev.simulator.faults import FAULTS
from dev.simulator.replies import REASONING, SENTENCE
from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.anthropic import AnthropicCodec

CODEC = AnthropicCodec()
REQUEST = pb.CompletionRequest(
    model="m",
    max_output_tokens=100,
    messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.Text(text="How are you?"))])],
    tools=[pb.Tool(kind=pb.TOOL_KIND_FUNCTION, name=name) for name in ("get_weather", "get_time")],
)
JSON_FAULTS = sorted(name for name, fault in FAULTS.items() if fault.script is None)


def asked(model: str, *, stream: bool) -> Answer:
    """What the simulator says to what the codec writes."""
    body = CODEC.encode_completion(REQUEST, model, stream=stream).body
    answer = anthropic.answer("POST", "/v1/messages", body)
    assert answer is not None
    assert answer.status == 200, answer.body
    return answer


def streamed(model: str) -> list[pb.CompletionEvent]:
    """The events of a stream that arrives event by event."""
    decoder = CODEC.stream_decoder(REQUEST)
    events = [event for packet in asked(model, stream=True).events for event in decoder.feed(packet)]
    return [*events, *decoder.close()]


def kinds(events: list[pb.CompletionEvent]) -> list[str | None]:
    """What the events are, repeated ones once."""
    found: list[str | None] = []
    for event in events:
        if not found or found[-1] != event.WhichOneof("event"):
            found.append(event.WhichOneof("event"))
    return found


def test_a_stream_in_order() -> None:
    """The prompt's tokens at the beginning, the rest at the end."""
    events = streamed("sim")
    assert kinds(events) == ["started", "item_started", "text", "item_finished", "choice_finished", "finished"]
    assert "".join(event.text.text for event in events) == SENTENCE
    assert events[0].started.usage.input_tokens == 3
    assert events[-1].finished.usage.output_tokens == 9
    assert events[-1].finished.usage.source == pb.USAGE_SOURCE_PROVIDER


def test_an_answer_and_a_stream_say_the_same() -> None:
    """Thinking, its signature, sealed thinking, and two calls at once."""
    model = "fault:reasoning:field=both:base=sim-tools-parallel"
    whole = CODEC.decode_completion(asked(model, stream=False).body, REQUEST).choices[0]
    events = streamed(model)
    thinking, sealed, *calls = list(whole.message.parts)
    assert thinking.reasoning.text == REASONING
    assert "".join(event.reasoning.text for event in events) == REASONING
    assert "".join(event.reasoning.signature for event in events) == thinking.reasoning.signature
    assert [event.reasoning.encrypted_content for event in events if event.reasoning.redacted] == [
        sealed.reasoning.encrypted_content
    ]
    for number, part in enumerate(calls):
        deltas = [e.tool_call for e in events if e.WhichOneof("event") == "tool_call" and e.tool_call.index == number]
        assert (deltas[0].id, deltas[0].name) == (part.tool_call.id, part.tool_call.name)
        assert orjson.loads("".join(delta.arguments for delta in deltas)) == orjson.loads(part.tool_call.arguments_json)
    assert whole.finish_reason == pb.FINISH_REASON_TOOL_CALLS
    assert len(calls) == 2


@pytest.mark.parametrize("name", JSON_FAULTS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_fault_ends_in_an_answer_or_an_error_of_the_provider(name: str, stream: bool) -> None:
    """Never in anything else; what can be understood is an answer."""
    options = [word.partition("=")[::2] for word in FAULTS[name].options.split()]
    for option, values in options or [("", "")]:
        for value in values.split("|"):
            model = f"fault:{name}:{option}={value}" if option else f"fault:{name}"
            outcome: Any
            try:
                if stream:
                    outcome = streamed(model)[-1].finished.usage
                else:
                    outcome = CODEC.decode_completion(asked(model, stream=False).body, REQUEST).usage
            except GatewayError as error:
                outcome = error
            if isinstance(outcome, GatewayError):
                assert name in ("error-event", "tool-quirks")
                assert outcome.origin == "provider"
                assert "canary" not in f"{outcome} {outcome.metadata}"
            else:
                assert name != "error-event"
                assert outcome.output_tokens > 0


def test_an_overloaded_upstream_can_be_asked_again() -> None:
    """As a status and as an event, the error says so."""
    with pytest.raises(GatewayError) as told:
        streamed("fault:error-event:reason=overloaded_error")
    assert (told.value.code, told.value.retryable) == ("provider_unavailable", True)
    error = CODEC.decode_error(529, {"retry-after": "7"}, b'{"type":"error","error":{"type":"overloaded_error"}}')
    assert (error.code, error.retry_after_s) == ("provider_unavailable", 7)


def test_a_cut_stream_is_an_error_wherever_it_is_cut() -> None:
    """Before the upstream has said why it ended, the answer is incomplete."""
    packets = asked("sim", stream=True).events
    for count in range(len(packets) - 2):
        decoder = CODEC.stream_decoder(REQUEST)
        for packet in packets[:count]:
            decoder.feed(packet)
        with pytest.raises(GatewayError) as cut:
            decoder.close()
        assert cut.value.code == ("stream_interrupted" if count else "provider_error")
