"""The HTTP cases of the Open Responses compliance suite, by their own ids, on models behind each kind of provider.

Not served, because nothing is stored: `previous-response-id`. Not served, because HTTP serves the same: the cases over
a WebSocket (`websocket-response`, `websocket-sequential-responses`, `websocket-continuation`,
`websocket-reconnect-store-false-recovery`, `websocket-previous-response-not-found`,
`websocket-failed-continuation-evicts-cache`, `websocket-compact-new-chain`), whose upgrade is answered 426. Not held
here, because simulated models run no hosted tools: `file-search`, `offline-web-search`.
"""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import Node
from tests.open_responses import check_response, read_events

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
PDF = "data:application/pdf;base64,JVBERi0xLjQKJSVFT0YK"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather of a place.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
PROVIDERS = ("", "responses/", "claude/")
Items = list[dict[str, Any]]


def said(text: Any, role: str = "user") -> dict[str, Any]:
    """A message item."""
    return {"type": "message", "role": role, "content": text}


def parts(*more: dict[str, Any]) -> dict[str, Any]:
    """A message of a text and something beside."""
    return said([{"type": "input_text", "text": "What is this?"}, *more])


async def respond(node: Node, model: str, items: Items, **fields: Any) -> dict[str, Any]:
    """The answer to a request, checked."""
    async with aiohttp.ClientSession() as http, await _post(http, node, model, items, stream=False, **fields) as answer:
        assert answer.content_type == "application/json"
        document: dict[str, Any] = await answer.json()
    check_response(document)
    return document


async def streamed(node: Node, model: str, items: Items, **fields: Any) -> list[dict[str, Any]]:
    """The events of the answer to a request, checked."""
    async with aiohttp.ClientSession() as http, await _post(http, node, model, items, stream=True, **fields) as answer:
        assert answer.content_type == "text/event-stream"
        return read_events(await answer.text())


async def _post(
    http: aiohttp.ClientSession, node: Node, model: str, items: Items, **fields: Any
) -> aiohttp.ClientResponse:
    body = {"model": model, "input": items, **fields}
    answer = await http.post(
        f"{node.base_url}/responses", json=body, headers={"Authorization": f"Bearer {node.api_key}"}
    )
    assert answer.status == 200, await answer.text()
    return answer


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "items",
    [
        pytest.param([said("Say hello in exactly three words.")], id="basic-response"),
        pytest.param([said("Be brief.", "system"), said("Say hello.")], id="system-prompt"),
        pytest.param([parts({"type": "input_image", "image_url": PIXEL})], id="image-input"),
        pytest.param([parts({"type": "input_file", "filename": "a.pdf", "file_data": PDF})], id="file-input"),
        pytest.param([said("I am here."), said("Hello!", "assistant"), said("Who is here?")], id="multi-turn"),
    ],
)
async def test_an_answer_is_complete(node: Node, provider: str, items: Items) -> None:
    """Whole and streamed, with every key that is required, and the same text."""
    answer = await respond(node, f"{provider}sim", items)
    assert (answer["status"], answer["model"]) == ("completed", f"{provider}sim")
    assert answer["output"][-1]["content"][0]["text"] == SENTENCE
    # streaming-response
    events = await streamed(node, f"{provider}sim", items)
    last = events[-1]["response"]
    assert (last["status"], last["usage"]["total_tokens"]) == ("completed", answer["usage"]["total_tokens"])
    assert last["output"][-1]["content"] == answer["output"][-1]["content"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_tool_is_called(node: Node, provider: str) -> None:
    """`tool-calling`, `tool-calling-streaming` and `function-call-roundtrip`, the conversation being sent whole."""
    items: Items = [said("What is the weather in San Francisco?")]
    answer = await respond(node, f"{provider}sim-tools", items, tools=[WEATHER])
    (call,) = [item for item in answer["output"] if item["type"] == "function_call"]
    assert call["name"] == "get_weather"
    events = await streamed(node, f"{provider}sim-tools", items, tools=[WEATHER])
    kinds = [event["type"] for event in events]
    assert "response.function_call_arguments.delta" in kinds
    assert "response.function_call_arguments.done" in kinds
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."}
    done = await respond(node, f"{provider}sim-tools", [*items, *answer["output"], result], tools=[WEATHER])
    assert [item["type"] for item in done["output"]] == ["message"]


async def test_reasoning_is_told(node: Node) -> None:
    """As a summary by an upstream that gives summaries, as text by one that gives text."""
    for provider, kind in (("responses/", "summary"), ("claude/", "content"), ("", "content")):
        events = await streamed(node, f"{provider}fault:reasoning", [said("Hi")])
        thought, message = events[-1]["response"]["output"]
        assert thought[kind][0]["text"] == "Let me think about that for a moment."
        assert message["content"][0]["text"] == SENTENCE


async def test_a_websocket_is_answered_426(node: Node) -> None:
    """So that clients turn to HTTP at once."""
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{node.base_url}/responses", headers={"Authorization": f"Bearer {node.api_key}"})
    assert refused.value.status == 426
