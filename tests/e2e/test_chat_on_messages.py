"""Callers of Chat Completions on a model whose provider speaks Messages: they need not know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import Node
from tests.e2e.upstream import Upstream

HELLO: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"properties": {"city": {"type": "string"}}}}}
    for name in ("get_weather", "get_forecast")
]


@pytest.fixture
def client(node: Node) -> Iterator[OpenAI]:
    """The SDK without retries."""
    with OpenAI(api_key=node.api_key, base_url=node.base_url, max_retries=0) as sdk:
        yield sdk


def test_an_answer_without_a_cap(client: OpenAI, upstream: Upstream) -> None:
    """The gateway names one, for the provider must be told; the caller hears of it."""
    upstream.forget()
    raw = client.chat.completions.with_raw_response.create(model="claude/sim", messages=HELLO, seed=7)
    answer = raw.parse()
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (SENTENCE, "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 9
    assert raw.headers["x-tokendance-warnings"].startswith("max_tokens: ")
    assert "seed: " in raw.headers["x-tokendance-warnings"]
    (record,) = upstream.log("sim")
    body = json.loads(record["body"])
    assert (record["path"], body["max_tokens"], body["system"]) == ("/v1/messages", 4096, "Be kind.")
    assert record["headers"]["anthropic-version"] == "2023-06-01"


def test_a_tool_loop_with_streamed_parallel_calls(client: OpenAI) -> None:
    """Assembled by the helper of the SDK; results of several messages go upstream in one turn."""
    turns = list(HELLO)

    def ask() -> Any:
        with client.chat.completions.stream(model="claude/sim-tools-parallel", messages=turns, tools=TOOLS) as events:
            return events.get_final_completion().choices[0]

    first = ask()
    calls = first.message.tool_calls
    assert first.finish_reason == "tool_calls"
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "example"}),
        ("get_forecast", {"city": "example"}),
    ]
    turns.append(first.message)
    turns += [{"role": "tool", "tool_call_id": call.id, "content": "22 degrees"} for call in calls]
    assert ask().finish_reason == "stop"


def test_reasoning_and_structured_output(client: OpenAI) -> None:
    """In the forms that chat has for them."""
    thought: Any = client.chat.completions.create(
        model="claude/fault:reasoning", messages=HELLO, reasoning_effort="high", max_tokens=5000
    )
    assert thought.choices[0].message.reasoning_content.startswith("Let me think")
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    create: Any = client.chat.completions.create
    shaped = create(
        model="claude/sim-json",
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
    )
    assert json.loads(shaped.choices[0].message.content) == {"title": "example"}


@pytest.mark.parametrize(
    ("fields", "param"), [({"n": 2}, "n"), ({"logprobs": True}, "logprobs"), ({"modalities": ["audio"]}, "modalities")]
)
def test_what_the_provider_cannot_do_is_refused_by_name(client: OpenAI, fields: dict[str, Any], param: str) -> None:
    """Before anything is sent."""
    create: Any = client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as refused:
        create(model="claude/sim", messages=HELLO, **fields)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)
