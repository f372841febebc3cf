"""LangChain and the Vercel AI SDK, one loop of tools each, over Responses and over Chat Completions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.e2e.nodes import Node


@tool
def look(at: str) -> str:
    """Look at something."""
    return f"A house at {at}."


@pytest.mark.parametrize("responses", [True, False])
@pytest.mark.parametrize("provider", ["", "responses/", "claude/"])
def test_langchain(node: Node, provider: str, responses: bool) -> None:
    """The call of a tool, and an answer that follows from its result, streamed."""
    model = ChatOpenAI(
        model=f"{provider}sim-agent",
        base_url=node.base_url,
        api_key=SecretStr(node.api_key),
        use_responses_api=responses,
        max_retries=0,
        streaming=True,
    ).bind_tools([look])
    said: list[Any] = [HumanMessage('CALL look {"at":"a"}')]
    first = model.invoke(said)
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == ("look", {"at": "a"})
    result = look.invoke(call)
    assert isinstance(result, ToolMessage)
    assert model.invoke([*said, first, result]).text == "done"


def test_the_ai_sdk(run_node_script: Callable[..., Any]) -> None:
    """Whole and streamed, behind each kind of provider."""
    told = run_node_script("ai_sdk.mjs")
    for seen in told["seen"].values():
        assert seen == {"whole": "done", "streamed": "done", "chat": "done"}
    assert told["looks"] == ["a"] * 9
