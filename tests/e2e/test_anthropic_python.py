"""The official Anthropic SDK for Python as a stranger's client, against models of both kinds of upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import PROVIDER_KEY, Node
from tests.e2e.upstream import Upstream

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TOOLS: list[Any] = [
    {"name": name, "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("get_weather", "get_forecast")
]
BOTH = pytest.mark.parametrize("prefix", ["claude/", ""])


@pytest.fixture
def client(node: Node) -> Iterator[Anthropic]:
    """The SDK with the key where it puts it by itself, and without retries."""
    with Anthropic(api_key=node.api_key, base_url=node.origin, max_retries=0) as sdk:
        yield sdk


@BOTH
def test_an_answer_in_one_message(client: Anthropic, prefix: str) -> None:
    """With the public model's name, the gateway's own id, and the id that support asks for."""
    answer = client.messages.create(model=f"{prefix}sim", max_tokens=100, messages=HELLO)
    assert [(block.type, getattr(block, "text", "")) for block in answer.content] == [("text", SENTENCE)]
    assert (answer.stop_reason, answer.model, answer.role) == ("end_turn", f"{prefix}sim", "assistant")
    assert answer.id.startswith("msg_")
    assert answer.id != "msg_sim"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 9)
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


@BOTH
def test_the_cap_ends_an_answer(client: Anthropic, prefix: str) -> None:
    """With the reason that says so."""
    answer = client.messages.create(model=f"{prefix}sim", max_tokens=3, messages=HELLO)
    assert getattr(answer.content[0], "text", "") == "The quick brown"
    assert answer.stop_reason == "max_tokens"


@BOTH
def test_a_stream(client: Anthropic, prefix: str) -> None:
    """The helper of the SDK builds the same message from it; the prompt's tokens come early where they are known."""
    with client.messages.stream(model=f"{prefix}sim", max_tokens=100, messages=HELLO) as stream:
        events = list(stream)
        whole = stream.get_final_message()
    assert [event.type for event in events if event.type.startswith("message")] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert getattr(whole.content[0], "text", "") == SENTENCE
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (2, 9)
    started: Any = events[0]
    assert started.message.usage.input_tokens == (2 if prefix else 0)


@BOTH
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop_with_parallel_calls(client: Anthropic, prefix: str, streamed: bool) -> None:
    """Both calls, their results in one turn, and the answer in words."""
    turns = list(HELLO)

    def ask() -> Any:
        fields: Any = {"model": f"{prefix}sim-tools-parallel", "max_tokens": 100, "messages": turns, "tools": TOOLS}
        if not streamed:
            return client.messages.create(**fields)
        with client.messages.stream(**fields) as stream:
            return stream.get_final_message()

    first = ask()
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [
        ("get_weather", {"city": "example"}),
        ("get_forecast", {"city": "example"}),
    ]
    turns.append({"role": "assistant", "content": first.content})
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "22 degrees"} for call in calls]
    turns.append({"role": "user", "content": results})
    second = ask()
    assert second.stop_reason == "end_turn"


def test_thinking_comes_back_with_its_signature(client: Anthropic, upstream: Upstream) -> None:
    """Unchanged in the next turn, which the upstream checks; a request with it is otherwise refused there."""
    model: dict[str, Any] = {"model": "claude/fault:reasoning:base=sim-tools", "max_tokens": 4000, "tools": TOOLS}
    model["thinking"] = {"type": "enabled", "budget_tokens": 2000}
    with client.messages.stream(messages=HELLO, **model) as stream:
        first = stream.get_final_message()
    thinking, call = first.content
    assert thinking.type == "thinking"
    assert thinking.signature.startswith("sig_")
    assert call.type == "tool_use"
    turns: list[Any] = [*HELLO, {"role": "assistant", "content": first.content}]
    turns.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "22"}]})
    upstream.forget()
    second: Any = client.messages.create(messages=turns, **model)
    assert second.stop_reason == "end_turn"
    (record,) = upstream.log("fault:reasoning:base=sim-tools")
    sent = json.loads(record["body"])
    assert sent["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": thinking.thinking,
        "signature": thinking.signature,
    }


def test_what_reaches_the_upstream(client: Anthropic, node: Node, upstream: Upstream) -> None:
    """The provider's own key and nothing of the caller's; the caller's betas, and fields that nobody knows."""
    upstream.forget()
    client.messages.create(
        model="claude/sim",
        max_tokens=100,
        messages=HELLO,
        system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        extra_headers={"anthropic-beta": "one-2026-01-01,two-2026-01-01"},
        extra_body={"of_a_later_version": {"a": [1]}, "context_management": {"edits": []}},
    )
    (record,) = upstream.log("sim")
    headers = record["headers"]
    assert record["path"] == "/v1/messages"
    assert headers["x-api-key"] == PROVIDER_KEY
    assert "authorization" not in headers
    assert headers["anthropic-beta"] == "one-2026-01-01,two-2026-01-01"
    assert headers["anthropic-version"] in ("2023-06-01", "2026-10-21")
    assert not [name for name in headers if name.startswith("x-stainless")]
    assert node.api_key not in json.dumps(record)
    body = json.loads(record["body"])
    assert body["of_a_later_version"] == {"a": [1]}
    assert body["context_management"] == {"edits": []}
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_structured_output(client: Anthropic) -> None:
    """Over both kinds of upstream."""
    schema: Any = {"type": "object", "properties": {"title": {"type": "string"}}}
    for prefix in ("claude/", ""):
        answer = client.messages.create(
            model=f"{prefix}sim-json",
            max_tokens=100,
            messages=HELLO,
            output_config={"format": {"type": "json_schema", "schema": schema}},
        )
        assert json.loads(getattr(answer.content[0], "text", "")) == {"title": "example"}


def test_tokens_are_counted(client: Anthropic) -> None:
    """By the gateway's own estimate, which a header says."""
    counted = client.messages.with_raw_response.count_tokens(model="claude/sim", messages=HELLO, tools=TOOLS)
    assert counted.headers["x-tokendance-estimated"] == "true"
    assert counted.parse().input_tokens > 0


def test_the_models_in_pages(client: Anthropic) -> None:
    """In Anthropic's form, because the SDK says which version it speaks."""
    first = client.models.list(limit=3)
    assert len(first.data) == 3
    assert first.has_more
    every = [model.id for model in client.models.list(limit=7)]
    assert {"claude/sim", "sim", "demo-echo"} <= set(every)
    assert len(every) == len(set(every))
    assert client.models.retrieve("claude/sim").type == "model"


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "no-such-model"}, anthropic.NotFoundError, "model_not_found"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request"),
        ({"messages": [{"role": "user", "content": [{"type": "later"}]}]}, anthropic.BadRequestError, None),
    ],
)
def test_errors_have_the_classes_of_the_sdk(
    client: Anthropic, fields: dict[str, Any], error: type[anthropic.APIStatusError], code: str | None
) -> None:
    """With the request id in the envelope, and the gateway's own code."""
    create: Any = client.messages.create
    with pytest.raises(error) as refused:
        create(**{"model": "sim", "max_tokens": 9, "messages": HELLO, **fields})
    body: Any = refused.value.body
    assert body["type"] == "error"
    assert body["request_id"] == refused.value.response.headers["request-id"]
    assert body["error"]["code"] == (code or "unsupported_parameter")
    assert refused.value.response.headers["x-should-retry"] == "false"


def test_a_stream_that_breaks_ends_with_an_error(client: Anthropic) -> None:
    """An event of that name, which the SDK raises."""
    with (
        pytest.raises(anthropic.APIStatusError) as broken,
        client.messages.stream(model="claude/fault:cut", max_tokens=100, messages=HELLO) as stream,
    ):
        stream.get_final_message()
    assert "stream_interrupted" in str(broken.value.body)


def test_one_key_in_both_headers_is_fine_and_two_are_not(client: Anthropic, node: Node) -> None:
    """Agents send the same one twice."""
    both = {"x-api-key": node.api_key, "Authorization": f"Bearer {node.api_key}"}
    client.messages.create(model="sim", max_tokens=9, messages=HELLO, extra_headers=both)
    with pytest.raises(anthropic.AuthenticationError) as refused:
        client.messages.create(model="sim", max_tokens=9, messages=HELLO, extra_headers=both | {"x-api-key": "tdk_2"})
    assert "credentials_conflict" in str(refused.value.body)
