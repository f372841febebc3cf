"""Whole answers in the Chat Completions form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import text_format

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.chat.answer import encode

HEAD = 'id: "c" model: "m" created: 7 '


def message(parts: str, **options: bool) -> dict[str, Any]:
    """Return the message that an assistant's parts become."""
    answer = text_format.Parse(f"{HEAD} choices {{ message {{ {parts} }} }}", pb.Completion())
    choice = json.loads(encode(answer, **options))["choices"][0]
    return dict(choice["message"])


PARTS: list[tuple[str, dict[str, Any]]] = [
    ('parts { text { text: "a" } } parts { text { text: "b" } }', {"content": "ab"}),
    ('parts { text { text: "" } }', {"content": ""}),
    ("", {}),
    ('parts { refusal { text: "no" } }', {"refusal": "no"}),
    ('parts { reasoning { text: "hm" } } parts { text { text: "a" } }', {"reasoning_content": "hm", "content": "a"}),
    (
        'parts { tool_call { id: "1" name: "f" arguments_json: "{}" } extra_json: "{\\"x\\":1}" }',
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "x": 1}]},
    ),
    (
        'parts { tool_call { id: "1" name: "f" arguments_json: "{}" signature: "sig" } }',
        {
            "tool_calls": [
                {
                    "id": "1",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                    "extra_content": {"google": {"thought_signature": "c2ln"}},
                }
            ]
        },
    ),
    (
        'parts { tool_call { id: "1" name: "c" kind: TOOL_KIND_CUSTOM input: "free" } }',
        {"tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "c", "input": "free"}}]},
    ),
    (
        'parts { text { text: "a" citations { url: "u" title: "t" start_index: 0 end_index: 1 } } }',
        {
            "content": "a",
            "annotations": [
                {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
            ],
        },
    ),
    (
        'parts { audio { data: "abc" transcript: "t" expires_at: 9 } extra_json: "{\\"id\\":\\"au\\"}" }',
        {"audio": {"id": "au", "data": "YWJj", "expires_at": 9, "transcript": "t"}},
    ),
    (
        'parts { image { data: "abc" media_type: "image/png" } }',
        {"images": [{"type": "image_url", "index": 0, "image_url": {"url": "data:image/png;base64,YWJj"}}]},
    ),
]


@pytest.mark.parametrize(("parts", "expected"), PARTS)
def test_parts_have_their_places(parts: str, expected: dict[str, Any]) -> None:
    """No `tool_calls` where there are none: an empty list confuses clients."""
    assert message(parts) == {"role": "assistant", "content": None, "refusal": None, **expected}


def test_the_deprecated_form_of_a_call() -> None:
    """For a request that used `functions`."""
    answer = text_format.Parse(
        HEAD + "choices { finish_reason: FINISH_REASON_TOOL_CALLS message { parts { "
        'tool_call { id: "1" name: "f" arguments_json: "{}" } } } }',
        pb.Completion(),
    )
    choice = json.loads(encode(answer, function_call=True))["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"


def test_usage_and_extra_fields() -> None:
    """Details are there; fields only this dialect knows are added, never over ours, and only of this dialect."""
    answer = text_format.Parse(
        HEAD + "usage { input_tokens: 10 output_tokens: 5 cached_input_tokens: 4 reasoning_tokens: 2 "
        "cache_write_tokens: 1 "
        'extra_json: "{\\"prompt_tokens\\":99,\\"prompt_tokens_details\\":{\\"text_tokens\\":6}}" } '
        'service_tier: "flex" system_fingerprint: "fp" dialect: DIALECT_OPENAI_CHAT '
        'extra_json: "{\\"moderation\\":{},\\"model\\":\\"upstream\\"}"',
        pb.Completion(),
    )
    body = json.loads(encode(answer))
    assert (body["model"], body["moderation"], body["service_tier"], body["system_fingerprint"]) == (
        "m",
        {},
        "flex",
        "fp",
    )
    assert body["usage"]["prompt_tokens"] == 10
    assert body["usage"]["total_tokens"] == 15
    assert body["usage"]["prompt_tokens_details"] == {
        "cached_tokens": 4,
        "audio_tokens": 0,
        "cache_write_tokens": 1,
        "text_tokens": 6,
    }
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2
    answer.dialect = pb.DIALECT_GEMINI
    assert "moderation" not in json.loads(encode(answer))


def test_logprobs_and_native_finish_reasons() -> None:
    """Tokens with their bytes and alternatives; a word that says too little comes with the upstream's own."""
    answer = text_format.Parse(
        HEAD + 'choices { finish_reason: FINISH_REASON_OTHER native_finish_reason: "odd" message {} '
        'logprobs { token: "a" logprob: -0.5 utf8: "a" top { token: "b" logprob: -2 } } }',
        pb.Completion(),
    )
    choice = json.loads(encode(answer))["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "odd")
    alternative = {"token": "b", "bytes": None, "logprob": -2.0}
    assert choice["logprobs"] == {
        "content": [{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": [alternative]}],
        "refusal": None,
    }
