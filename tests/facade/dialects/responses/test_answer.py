"""A whole canonical answer as a `response` object."""

from __future__ import annotations

import json
from typing import Any

from tests.open_responses import check_response

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.responses.answer import encode
from tokendance_facade.dialects.responses.request import decode

SETTINGS = decode(b'{"model": "m", "input": "Hi"}').settings


def shown(completion: pb.Completion) -> dict[str, Any]:
    """What an answer is written as, checked against the specification."""
    document: dict[str, Any] = json.loads(encode(completion, SETTINGS, now=1_700_000_009))
    check_response(document)
    return document


def answer(*parts: pb.Part, reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP) -> pb.Completion:
    """An answer of an upstream of another dialect."""
    completion = pb.Completion(id="cmpl_1", model="m", created=1_700_000_000, dialect=pb.DIALECT_OPENAI_CHAT)
    completion.choices.add(finish_reason=reason).message.parts.extend(parts)
    completion.usage.input_tokens = 3
    return completion


def text(said: str) -> pb.Part:
    """A part of text."""
    return pb.Part(text=pb.Text(text=said))


def test_parts_become_items() -> None:
    """Content that stands together is one message; calls and thoughts are items of their own."""
    call = pb.Part(tool_call=pb.ToolCall(id="a", name="f", kind=pb.TOOL_KIND_FUNCTION, arguments_json="{}"))
    custom = pb.Part(tool_call=pb.ToolCall(id="b", name="g", kind=pb.TOOL_KIND_CUSTOM, input="x", namespace="n"))
    thought = pb.Part(reasoning=pb.ReasoningContent(text="Hm."))
    refusal = pb.Part(refusal=pb.Refusal(text="No."))
    document = shown(answer(thought, text("One."), refusal, call, custom, text("Two.")))
    kinds = [item["type"] for item in document["output"]]
    assert kinds == ["reasoning", "message", "function_call", "custom_tool_call", "message"]
    assert [part["type"] for part in document["output"][1]["content"]] == ["output_text", "refusal"]
    assert (document["output"][3]["input"], document["output"][3]["namespace"]) == ("x", "n")
    assert len({item["id"] for item in document["output"]}) == 5
    assert (document["id"], document["completed_at"]) == ("resp_1", 1_700_000_009)


def test_a_cut_answer_says_so_in_its_last_item() -> None:
    """And is not completed at any time."""
    document = shown(answer(text("One"), reason=pb.FINISH_REASON_LENGTH))
    assert (document["status"], document["output"][0]["status"]) == ("incomplete", "incomplete")
    assert document["completed_at"] is None


def test_log_probabilities_go_to_the_text_that_they_are_of() -> None:
    """Though the canonical form has them in one list."""
    completion = answer(text("Hello."), pb.Part(refusal=pb.Refusal(text="No.")), text("Yes."))
    completion.choices[0].logprobs.extend(pb.TokenLogprob(token=token) for token in ("Hel", "lo.", "Yes."))
    first, _, second = shown(completion)["output"][0]["content"]
    assert [one["token"] for one in first["logprobs"]] == ["Hel", "lo."]
    assert [one["token"] for one in second["logprobs"]] == ["Yes."]


def test_sound_is_shown_by_its_words_and_a_picture_as_an_item() -> None:
    """The one has no place in this dialect, the other has."""
    sound = pb.Part(audio=pb.Audio(data=b"s", transcript="Said."))
    picture = pb.Part(image=pb.Image(data=b"w", media_type="image/webp"))
    message, image = shown(answer(sound, picture))["output"]
    assert message["content"][0]["text"] == "Said."
    assert (image["type"], image["result"]) == ("image_generation_call", "dw==")


def test_what_another_dialect_knows_alone_is_not_shown() -> None:
    """Neither its items nor its fields."""
    native = pb.Part(native=pb.NativePart(dialect=pb.DIALECT_ANTHROPIC_MESSAGES, type="x", json='{"type": "x"}'))
    completion = answer(native, text("Hi."))
    completion.extra_json = '{"mine": 1}'
    document = shown(completion)
    assert [item["type"] for item in document["output"]] == ["message"]
    assert "mine" not in document


def test_an_answer_costs_what_it_says() -> None:
    """Beside the counts."""
    completion = answer(text("Hi."))
    completion.account.cost_micros = 17
    assert shown(completion)["usage"]["cost_micros"] == 17
