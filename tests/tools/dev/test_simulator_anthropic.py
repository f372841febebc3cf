"""The simulator's Messages dialect, as the official Anthropic SDK reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from dev.simulator import Simulator
from dev.simulator.replies import REASONING, SENTENCE

USER: list[Any] = [{"role": "user", "content": "How are you?"}]
TOOL: dict[str, Any] = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
async def client() -> AsyncIterator[anthropic.AsyncAnthropic]:
    """The official SDK, without its retries, over a simulator of its own."""
    async with (
        Simulator() as sim,
        anthropic.AsyncAnthropic(api_key="sk-sim", base_url=sim.origin, max_retries=0) as sdk,
    ):
        yield sdk


async def test_a_document_says_the_fixed_sentence(client: anthropic.AsyncAnthropic) -> None:
    """The same nine tokens each time."""
    answer = await client.messages.create(model="sim", max_tokens=100, messages=USER)
    assert [(block.type, getattr(block, "text", "")) for block in answer.content] == [("text", SENTENCE)]
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 9)


async def test_a_stream_is_read_by_the_helper(client: anthropic.AsyncAnthropic) -> None:
    """Thinking with its signature, then the text, then why it ended."""
    async with client.messages.stream(model="fault:reasoning", max_tokens=100, messages=USER) as stream:
        whole = await stream.get_final_message()
    thinking, text = whole.content
    assert thinking.type == "thinking"
    assert thinking.thinking == REASONING
    assert thinking.signature.startswith("sig_")
    assert text.type == "text"
    assert text.text == SENTENCE
    assert whole.stop_reason == "end_turn"


async def test_a_tool_loop_takes_back_what_it_has_said(client: anthropic.AsyncAnthropic) -> None:
    """The call and its thinking come back as they went out, and the answer is in words."""
    model: Any = {"model": "fault:reasoning:base=sim-tools", "max_tokens": 100, "tools": [TOOL]}
    first = await client.messages.create(messages=USER, **model)
    assert first.stop_reason == "tool_use"
    call = first.content[-1]
    assert call.type == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "22 degrees"}
    turns: list[Any] = [*USER, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = await client.messages.create(messages=turns, **model)
    assert second.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "non-empty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "budget"),
        ({"tools": [{"name": "x"}]}, "input_schema"),
        ({"messages": [*USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "a"}]}]}, "signature"),
    ],
)
async def test_what_the_real_api_refuses_is_refused(
    client: anthropic.AsyncAnthropic, fields: dict[str, Any], said: str
) -> None:
    """A gateway that sends it is wrong, whatever the simulator could make of it."""
    with pytest.raises(anthropic.BadRequestError) as refused:
        await client.messages.create(**{"model": "sim", "max_tokens": 1000, "messages": USER, **fields})
    assert said in str(refused.value)


async def test_a_call_must_be_answered(client: anthropic.AsyncAnthropic) -> None:
    """A turn of the user that leaves a call open is refused."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
    turns: list[Any] = [*USER, {"role": "assistant", "content": [call]}, {"role": "user", "content": "and?"}]
    with pytest.raises(anthropic.BadRequestError):
        await client.messages.create(model="sim", max_tokens=9, messages=turns)


async def test_tokens_are_counted(client: anthropic.AsyncAnthropic) -> None:
    """Four characters begun are a token, as in an answer's usage."""
    counted = await client.messages.count_tokens(model="sim", messages=USER, system="Be kind.")
    assert counted.input_tokens == 5


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("fault:status:code=529", "overloaded_error"),
        ("fault:status:code=400:reason=context_length_exceeded", "prompt is too long"),
        ("fault:error-event:reason=overloaded_error", "overloaded_error"),
        ("no-such-model", "not_found_error"),
    ],
)
async def test_errors_have_the_form_of_the_api(client: anthropic.AsyncAnthropic, model: str, error: str) -> None:
    """As a status, or as an event of a stream."""
    with pytest.raises(anthropic.APIStatusError) as refused:
        async with client.messages.stream(model=model, max_tokens=9, messages=USER) as stream:
            await stream.get_final_message()
    assert error in str(refused.value.body)


async def test_the_agent_does_what_it_is_told(client: anthropic.AsyncAnthropic) -> None:
    """The call that the prompt spells out, word for word; without one, `done`."""
    said: list[Any] = [{"role": "user", "content": 'CALL Write {"file_path": "/tmp/a", "content": "hi"}'}]
    answer = await client.messages.create(model="sim-agent", max_tokens=99, messages=said, tools=[TOOL])  # type: ignore[list-item]
    call = answer.content[0]
    assert call.type == "tool_use"
    assert (call.name, call.input) == ("Write", {"file_path": "/tmp/a", "content": "hi"})
    answer = await client.messages.create(model="sim-agent", max_tokens=99, messages=USER)
    assert getattr(answer.content[0], "text", "") == "done"
