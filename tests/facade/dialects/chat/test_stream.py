"""Streams in the Chat Completions form, event by event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import text_format

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.chat.stream import ChatStreamEncoder

STARTED = 'events { started { id: "c" model: "m" created: 7 dialect: DIALECT_OPENAI_CHAT } }'


def batch(text: str) -> list[pb.CompletionEvent]:
    """Return the events of a text with one `events { … }` a line."""
    return [
        text_format.Parse(line.strip().removeprefix("events {").removesuffix("}"), pb.CompletionEvent())
        for line in text.split("\n")
    ]


def play(*lines: str, **options: bool) -> list[Any]:
    """Return the payloads of a stream of events after its start; `[DONE]` stays a string."""
    encoder = ChatStreamEncoder(include_usage=options.pop("include_usage", False), **options)
    data = encoder.feed(batch(STARTED))
    assert data == b""
    for line in lines:
        data += encoder.feed(batch(line))
    text = data.decode()
    assert not text or text.endswith("\n\n")
    payloads = [event.removeprefix("data: ") for event in text.split("\n\n")[:-1]]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def deltas(*lines: str, **options: bool) -> list[dict[str, Any]]:
    """Return the deltas of all chunks."""
    return [chunk["choices"][0]["delta"] for chunk in play(*lines, **options)]


ROLE = {"role": "assistant", "content": "", "refusal": None}


def test_the_role_waits_for_something_to_say() -> None:
    """Nothing is sent for the start alone, so that failover stays possible."""
    assert play() == []
    assert deltas('events { text { text: "a" } }') == [ROLE, {"content": "a"}]


def test_text_is_escaped_as_json() -> None:
    """Whatever the characters."""
    text = '"\\\n\r\t\x00\u2028😀</script>\n\ndata: x'
    encoder = ChatStreamEncoder(include_usage=False)
    encoder.feed(batch(STARTED))
    data = encoder.feed([pb.CompletionEvent(text=pb.TextDelta(text=text))])
    assert data.count(b"\n\n") == 2
    last = json.loads(data.split(b"\n\n")[1].removeprefix(b"data: "))
    assert last["choices"][0]["delta"]["content"] == text
    assert last == {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}],
    }


def test_choices_interleave() -> None:
    """Each has its own role chunk and its own end."""
    chunks = play(
        'events { text { choice: 1 text: "b" } }\nevents { text { text: "a" } }',
        "events { choice_finished { choice: 1 finish_reason: FINISH_REASON_LENGTH } }",
    )
    seen = [(chunk["choices"][0]["index"], chunk["choices"][0]["delta"].get("content")) for chunk in chunks]
    assert seen == [(1, ""), (1, "b"), (0, ""), (0, "a"), (1, None)]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_a_call_brings_what_must_come_back_with_it() -> None:
    """In its first delta, in the form that whole answers have."""
    first, more = deltas(
        'events { tool_call { id: "a" name: "f" arguments: "{" signature: "sig" } }',
        'events { tool_call { arguments: "}" } }',
    )[1:]
    assert first["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert "extra_content" not in more["tool_calls"][0]


def test_tool_calls_name_themselves_once() -> None:
    """Id, type and name in the first delta of an index only, and content null where a turn starts with a call."""
    line = 'events { tool_call { index: %d id: "%s" name: "f" arguments: "%s" } }'
    assert deltas(line % (0, "a", "x"), line % (0, "a", "y"), line % (1, "b", "")) == [
        {"role": "assistant", "content": None, "refusal": None},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "x"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "y"}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    ]


def test_custom_tools_have_their_own_form() -> None:
    """Free text, in the later deltas too, which do not name their kind."""
    assert deltas(
        'events { tool_call { id: "a" name: "c" kind: TOOL_KIND_CUSTOM arguments: "x" } }',
        'events { tool_call { arguments: "y" } }',
    )[1:] == [
        {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "c", "input": "x"}}]},
        {"tool_calls": [{"index": 0, "custom": {"input": "y"}}]},
    ]


def test_the_deprecated_form_of_a_call() -> None:
    """For a request that used `functions`: one call, and its own finish reason."""
    chunks = play(
        'events { tool_call { id: "a" name: "f" arguments: "x" } }',
        'events { tool_call { arguments: "y" } }',
        'events { tool_call { index: 1 id: "b" name: "g" } }',
        "events { choice_finished { finish_reason: FINISH_REASON_TOOL_CALLS } }",
        function_call=True,
    )
    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:]] == [
        {"function_call": {"name": "f", "arguments": "x"}},
        {"function_call": {"arguments": "y"}},
        {},
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == "function_call"


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ('events { reasoning { text: "hm" } }', {"reasoning_content": "hm"}),
    ('events { reasoning { summary: "in short" } }', {"reasoning_content": "in short"}),
    ('events { refusal { text: "no" } }', {"refusal": "no"}),
    ('events { audio { id: "au" data: "abc" } }', {"audio": {"id": "au", "data": "YWJj"}}),
    ("events { audio { expires_at: 9 } }", {"audio": {"expires_at": 9}}),
    (
        'events { citation { citation { url: "u" title: "t" } } }',
        {"annotations": [{"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}]},
    ),
]


@pytest.mark.parametrize(("line", "expected"), OTHERS)
def test_other_deltas(line: str, expected: dict[str, Any]) -> None:
    """Each follows the role of its choice."""
    assert deltas(line) == [ROLE, expected]


@pytest.mark.parametrize(
    "line",
    [
        'events { reasoning { signature: "s" } }',
        'events { item_started { id: "i" } }',
        "events { item_finished {} }",
        "events { }",
        'events { native { dialect: DIALECT_GEMINI json: "{\\"a\\":1}" } }',
        'events { native { dialect: DIALECT_OPENAI_CHAT json: "{\\"error\\":1}" } }',
        "events { image { partial: true } }",
    ],
)
def test_what_the_dialect_cannot_show_is_left_out(line: str) -> None:
    """No empty chunk stands in for it."""
    assert play(line) == []


def test_a_native_chunk_goes_under_our_own_names() -> None:
    """The upstream's id and model name never show."""
    line = (
        'events { native { dialect: DIALECT_OPENAI_CHAT json: "{\\"id\\":\\"up\\",\\"model\\":\\"up\\",\\"x\\":1}" } }'
    )
    chunk = play(line)[0]
    assert (chunk["id"], chunk["model"], chunk["x"], chunk["choices"]) == ("c", "m", 1, [])


def test_logprobs_go_with_their_text() -> None:
    """In the same chunk."""
    chunk = play('events { text { text: "a" logprobs { token: "a" logprob: -1 } } }')[1]
    assert chunk["choices"][0]["delta"] == {"content": "a"}
    assert chunk["choices"][0]["logprobs"]["content"][0]["logprob"] == -1


def test_the_end() -> None:
    """An answer without a word still has its role; usage comes if asked for; `[DONE]` is last and ends it."""
    stop = "events { choice_finished { finish_reason: FINISH_REASON_STOP } }"
    finished = f"{stop}\nevents {{ finished {{ usage {{ input_tokens: 3 }} }} }}"
    chunks = play(finished)
    assert [chunk if chunk == "[DONE]" else chunk["choices"][0]["delta"] for chunk in chunks] == [ROLE, {}, "[DONE]"]
    *_, usage, done = play(finished, include_usage=True)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] == 3
