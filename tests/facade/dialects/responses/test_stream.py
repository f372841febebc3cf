"""Canonical events as events of the Responses API, whose form the specification checks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.open_responses import check_events, read_events

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.responses.request import ResponsesCall, decode
from tokendance_facade.dialects.responses.stream import ResponsesStreamEncoder

NOW = 1_700_000_009


def call(**fields: Any) -> ResponsesCall:
    """A decoded request."""
    return decode(json.dumps({"model": "m", "input": "Hi", "stream": True, **fields}).encode())


def encoder(**fields: Any) -> ResponsesStreamEncoder:
    """An encoder of the answer to a request."""
    return ResponsesStreamEncoder(call(**fields), spare_id="resp_spare", now=lambda: NOW)


def event(**fields: Any) -> pb.CompletionEvent:
    """One event."""
    return pb.CompletionEvent(**fields)


def started(dialect: pb.Dialect.ValueType = pb.DIALECT_OPENAI_CHAT, **fields: Any) -> pb.CompletionEvent:
    """The beginning of an answer."""
    return event(started=pb.Started(id="cmpl_1", model="m", created=1_700_000_000, dialect=dialect, **fields))


def ended(reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP, native: str = "") -> list[pb.CompletionEvent]:
    """The end of an answer."""
    finish = pb.ChoiceFinished(finish_reason=reason, native_finish_reason=native)
    usage = pb.Usage(input_tokens=3, output_tokens=2, reasoning_tokens=1, cached_input_tokens=1)
    return [event(choice_finished=finish), event(finished=pb.Finished(usage=usage))]


def told(*events: pb.CompletionEvent) -> list[dict[str, Any]]:
    """What an encoder makes of events that come one by one, checked against the specification."""
    one = encoder()
    found = read_events("".join(one.feed([event]).decode() for event in events))
    assert one.finished
    other = encoder()
    assert read_events(other.feed(events).decode()) == found
    return found


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The types of events, without what they have in common."""
    return [event["type"].removeprefix("response.") for event in events]


def test_text_comes_in_the_order_of_the_specification() -> None:
    """Item, part, pieces, and the ends of each; the last event holds it all."""
    events = told(started(), event(text=pb.TextDelta(text="Hel")), event(text=pb.TextDelta(text="lo.")), *ended())
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    answer = events[-1]["response"]
    assert (answer["id"], answer["status"], answer["completed_at"]) == ("resp_1", "completed", NOW)
    assert answer["output"][0]["content"][0]["text"] == "Hello."
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] == 1
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] == 1
    assert answer["usage"]["total_tokens"] == 5


def test_nothing_is_said_until_there_is_something_to_say() -> None:
    """A failure before the first content can still be an HTTP answer."""
    assert encoder().feed([started()]) == b""


def test_signs_of_life_are_data() -> None:
    """The first is the beginning of the answer, under an id of its own where the upstream gave none yet."""
    one = encoder()
    text = one.keep_alive() + one.keep_alive()
    text += one.feed([started(), event(text=pb.TextDelta(text="Hi")), *ended()])
    events = read_events(text.decode())
    assert kinds(events)[:4] == ["created", "in_progress", "keepalive", "output_item.added"]
    assert {event["response"]["id"] for event in events if "response" in event} == {"resp_spare"}


def test_a_sign_of_life_after_the_start_has_the_ids_of_the_answer() -> None:
    """Once the upstream has begun, its answer is what begins."""
    one = encoder()
    one.feed([started()])
    assert b'"id":"resp_1"' in one.keep_alive()


def test_a_thought_ends_where_the_text_begins() -> None:
    """Of an upstream that numbers items and does not say where they end."""
    events = told(
        started(),
        event(reasoning=pb.ReasoningDelta(item=0, text="Hm. ")),
        event(reasoning=pb.ReasoningDelta(item=0, text="Yes.")),
        event(text=pb.TextDelta(item=1, text="Hi.")),
        *ended(),
    )
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning", "message"]
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm. Yes."}]
    assert kinds(events).index("reasoning_text.done") < kinds(events).index("output_text.delta")


def test_summaries_are_parts_of_their_own() -> None:
    """Each with its beginning and end."""
    events = told(
        started(),
        event(reasoning=pb.ReasoningDelta(summary="One.", summary_index=0)),
        event(reasoning=pb.ReasoningDelta(summary="Two.", summary_index=1)),
        *ended(),
    )
    assert kinds(events)[3:9] == [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
    ]
    assert [part["text"] for part in events[-1]["response"]["output"][0]["summary"]] == ["One.", "Two."]


def test_a_signature_travels_in_the_opaque_text_and_comes_back() -> None:
    """What another provider wants to see again goes through a client that knows nothing of it."""
    events = told(
        started(pb.DIALECT_ANTHROPIC_MESSAGES),
        event(reasoning=pb.ReasoningDelta(text="Hm.")),
        event(reasoning=pb.ReasoningDelta(signature="sig")),
        event(text=pb.TextDelta(item=1, text="Hi.")),
        *ended(),
    )
    items = events[-1]["response"]["output"]
    again = decode(json.dumps({"model": "m", "input": [*items, {"role": "user", "content": "Go on."}]}).encode())
    thought = again.completion.messages[0].parts[0].reasoning
    assert (thought.text, thought.signature, thought.encrypted_content) == ("Hm.", "sig", "")


def test_parallel_calls_keep_their_places() -> None:
    """Deltas may come in turns; each call has its own item."""
    first, second = (
        pb.ToolCallDelta(item=number, index=number, id=f"call_{number}", name="f", kind=pb.TOOL_KIND_FUNCTION)
        for number in (0, 1)
    )
    events = told(
        started(),
        event(tool_call=first),
        event(tool_call=second),
        event(tool_call=pb.ToolCallDelta(item=1, index=1, arguments='{"b":')),
        event(tool_call=pb.ToolCallDelta(item=0, index=0, arguments="{}")),
        event(tool_call=pb.ToolCallDelta(item=1, index=1, arguments="1}")),
        *ended(pb.FINISH_REASON_TOOL_CALLS),
    )
    output = events[-1]["response"]["output"]
    assert [item["arguments"] for item in output] == ["{}", '{"b":1}']
    assert [item["call_id"] for item in output] == ["call_0", "call_1"]
    assert len({item["id"] for item in output}) == 2


def test_a_custom_call_has_input_and_a_namespace_its_name() -> None:
    """A call comes back in the kind that its tool was declared as."""
    first = pb.ToolCallDelta(id="call_1", name="run", kind=pb.TOOL_KIND_CUSTOM, namespace="shell", arguments="ls ")
    events = told(started(), event(tool_call=first), event(tool_call=pb.ToolCallDelta(arguments="-l")), *ended())
    item = events[-1]["response"]["output"][0]
    assert (item["type"], item["input"], item["namespace"]) == ("custom_tool_call", "ls -l", "shell")
    assert "custom_tool_call_input.done" in kinds(events)


def test_text_after_a_call_is_a_new_item() -> None:
    """What has ended does not begin again."""
    events = told(
        started(),
        event(text=pb.TextDelta(item=0, text="First.")),
        event(tool_call=pb.ToolCallDelta(item=1, id="c", name="f", kind=pb.TOOL_KIND_FUNCTION, arguments="{}")),
        event(text=pb.TextDelta(item=0, text="Then.")),
        *ended(),
    )
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message", "function_call", "message"]


def test_refusals_and_citations_are_told() -> None:
    """A refusal is a part beside the text; a citation belongs to the text."""
    events = told(
        started(),
        event(text=pb.TextDelta(text="So.")),
        event(citation=pb.CitationDelta(citation=pb.Citation(url="https://example.com/", title="t"))),
        event(refusal=pb.RefusalDelta(text="No.")),
        *ended(),
    )
    text, refusal = events[-1]["response"]["output"][0]["content"]
    assert text["annotations"][0]["url"] == "https://example.com/"
    assert refusal == {"type": "refusal", "refusal": "No."}


def test_log_probabilities_come_with_their_text() -> None:
    """In the pieces, and whole in the end."""
    token = pb.TokenLogprob(token="Hi", logprob=-0.5, utf8=b"Hi", top=[pb.TokenLogprob(token="Ho", logprob=-1)])
    events = told(started(), event(text=pb.TextDelta(text="Hi", logprobs=[token])), *ended())
    (said,) = events[-1]["response"]["output"][0]["content"][0]["logprobs"]
    assert (said["token"], said["logprob"], said["top_logprobs"][0]["token"]) == ("Hi", -0.5, "Ho")


@pytest.mark.parametrize(
    ("reason", "word"),
    [(pb.FINISH_REASON_LENGTH, "max_output_tokens"), (pb.FINISH_REASON_CONTENT_FILTER, "content_filter")],
)
def test_a_cut_answer_is_incomplete(reason: pb.FinishReason.ValueType, word: str) -> None:
    """So is its last item, and nothing else."""
    events = told(started(), event(text=pb.TextDelta(text="Hel")), *ended(reason))
    answer = events[-1]["response"]
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": word})
    assert (answer["output"][0]["status"], answer["completed_at"]) == ("incomplete", None)


def test_a_failure_is_an_error_and_a_failed_answer() -> None:
    """Items that had ended are part of it; the wait stands in the message, where clients look for it."""
    one = encoder()
    text = one.feed(
        [started(), event(reasoning=pb.ReasoningDelta(text="Hm.")), event(text=pb.TextDelta(item=1, text="H"))]
    )
    error = {"message": "Too many.", "type": "rate_limit_error", "param": None, "code": "provider_rate_limited"}
    events = read_events((text + one.fail(error, 7)).decode())
    assert kinds(events)[-2:] == ["error", "failed"]
    assert (events[-2]["message"], events[-2]["error"]["message"]) == ("Too many.", "Too many.")
    answer = events[-1]["response"]
    assert answer["error"] == {"code": "rate_limit_exceeded", "message": "Too many. Please try again in 7s."}
    assert [item["type"] for item in answer["output"]] == ["reasoning"]


@pytest.mark.parametrize(
    ("kind", "code", "shown"),
    [
        ("usage_limit_reached", "budget_exceeded", "insufficient_quota"),
        ("invalid_request_error", "invalid_prompt", "invalid_prompt"),
        ("invalid_request_error", "context_length_exceeded", "context_length_exceeded"),
        ("invalid_request_error", "unsupported_parameter", "invalid_prompt"),
        ("server_error", "provider_error", "server_error"),
    ],
)
def test_a_failure_has_a_code_that_clients_decide_by(kind: str, code: str, shown: str) -> None:
    """Final where a repetition would not help."""
    events = read_events(encoder().fail({"message": "x", "type": kind, "param": None, "code": code}, None).decode())
    assert events[-1]["response"]["error"] == {"code": shown, "message": "x"}


def test_an_answer_repeats_its_request() -> None:
    """What was set, as it was set, and the defaults of the rest."""
    one = encoder(temperature=0.2, tools=[{"type": "function", "name": "f"}], metadata={"a": "b"}, store=True)
    events = read_events(one.feed([started(), event(text=pb.TextDelta(text="Hi")), *ended()]).decode())
    for answer in (events[0]["response"], events[-1]["response"]):
        assert (answer["temperature"], answer["top_p"], answer["metadata"]) == (0.2, 1.0, {"a": "b"})
        assert answer["tools"][0]["strict"] is None
        assert answer["store"] is False
    assert [warning.field for warning in one.warnings] == ["store"]


def test_pictures_are_items() -> None:
    """A picture comes whole; those on the way to it are not shown."""
    partial = pb.ImageDelta(item=0, data=b"p", media_type="image/png", partial=True)
    whole = pb.ImageDelta(item=0, data=b"w", media_type="image/png")
    events = told(started(), event(image=partial), event(image=whole), *ended())
    (item,) = events[-1]["response"]["output"]
    assert (item["type"], item["result"], item["output_format"]) == ("image_generation_call", "dw==", "png")


def test_events_of_other_dialects_are_skipped() -> None:
    """They mean nothing here."""
    native = pb.NativeEvent(dialect=pb.DIALECT_ANTHROPIC_MESSAGES, type="content_block_start", json="{}")
    events = told(started(), event(native=native), event(text=pb.TextDelta(text="Hi")), *ended())
    check_events(events)
    assert "content_block_start" not in kinds(events)
