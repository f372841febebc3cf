"""The simulator's Responses API, read by the official SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from dev.simulator import Simulator

TOOL: dict[str, Any] = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}
NAMESPACE: dict[str, Any] = {
    "type": "namespace",
    "name": "house",
    "description": "d",
    "tools": [TOOL, {"type": "custom", "name": "write"}],
}


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    """A client of a simulator."""
    async with Simulator() as simulator, openai.AsyncOpenAI(base_url=simulator.base_url, api_key="k") as opened:
        yield opened


async def test_a_stream_adds_up_to_the_answer_in_one_message(client: openai.AsyncOpenAI) -> None:
    """Text, reasoning, items and usage are the same either way."""
    asked: Any = {"model": "fault:reasoning", "input": "Hi there"}
    whole = await client.responses.create(**asked)
    async with client.responses.stream(**asked) as stream:
        streamed = await stream.get_final_response()
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert streamed.output_text == whole.output_text == "The quick brown fox jumps over the lazy dog."
    assert streamed.usage == whole.usage
    assert streamed.status == "completed"


async def test_calls_are_of_the_kind_of_their_tool(client: openai.AsyncOpenAI) -> None:
    """A function's arguments are JSON, a custom tool's input is text, and a namespace comes along."""
    asked: Any = {"model": "sim-tools-parallel", "input": "Hi", "tools": [NAMESPACE]}
    function, custom = (await client.responses.create(**asked)).output
    assert (function.type, function.name, function.namespace) == ("function_call", "look", "house")
    assert (custom.type, custom.name, custom.namespace) == ("custom_tool_call", "write", "house")
    async with client.responses.stream(**asked) as stream:
        streamed = await stream.get_final_response()
    assert [item.type for item in streamed.output] == ["function_call", "custom_tool_call"]
    assert streamed.output[0].arguments == '{"at":"example"}'  # type: ignore[union-attr]


async def test_the_agent_makes_one_call_after_the_other(client: openai.AsyncOpenAI) -> None:
    """Each result leads to the next call of the prompt, and the last one to its end."""
    said: list[Any] = [{"role": "user", "content": 'CALL look {"at":"a"}\nCALL write {"input":"b"}'}]
    seen = []
    for _ in range(3):
        answer = await client.responses.create(model="sim-agent", input=said, tools=[NAMESPACE])  # type: ignore[list-item]
        item = answer.output[0]
        seen.append(item.type)
        if item.type == "message":
            assert answer.output_text == "done"
            break
        said += [item.to_dict(), {"type": f"{item.type}_output", "call_id": item.call_id, "output": "ok"}]  # type: ignore[union-attr]
    assert seen == ["function_call", "custom_tool_call", "message"]


async def test_a_cap_makes_the_answer_incomplete(client: openai.AsyncOpenAI) -> None:
    """It says so, and why."""
    answer = await client.responses.create(model="sim", input="Hi", max_output_tokens=3)
    assert (answer.status, answer.output_text) == ("incomplete", "The quick brown")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("form", ["openai", "flat", "done"])
async def test_failures_come_as_events(client: openai.AsyncOpenAI, form: str) -> None:
    """In one of the forms in which servers of the dialect tell them."""
    kinds: list[str] = []
    try:
        stream = await client.responses.create(model=f"fault:error-event:form={form}", input="Hi", stream=True)
        kinds += [event.type async for event in stream]
    except openai.APIError:
        kinds.append("raised")
    assert kinds[-1:] == [{"openai": "raised", "flat": "error", "done": "response.failed"}[form]]
    assert "response.completed" not in kinds
