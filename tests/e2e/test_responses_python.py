"""The Responses API by the official OpenAI SDK for Python, and what an upstream of the same dialect gets of it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import Node
from tests.e2e.upstream import Upstream, until

TOOL: Any = {
    "type": "function",
    "name": "look",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"at": {"type": "string"}},
        "required": ["at"],
        "additionalProperties": False,
    },
}
PROVIDERS = ("", "responses/", "claude/")


class Recipe(BaseModel):
    """What is asked for as structured output."""

    title: str
    minutes: int


@pytest.fixture
def client(node: Node) -> Iterator[OpenAI]:
    """The SDK as our pages set it up, but without retries."""
    with OpenAI(api_key=node.api_key, base_url=node.base_url, max_retries=0) as sdk:
        yield sdk


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_adds_up_to_its_answer(client: OpenAI, provider: str) -> None:
    """By the SDK's own helper, which takes no event that it does not expect."""
    whole = client.responses.create(model=f"{provider}sim", input="Hello")
    assert (whole.output_text, whole.status, whole.model) == (SENTENCE, "completed", f"{provider}sim")
    assert whole.id.startswith("resp_")
    with client.responses.stream(model=f"{provider}sim", input="Hello") as stream:
        final = stream.get_final_response()
    assert (final.output_text, final.usage) == (SENTENCE, whole.usage)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_loop_of_tools(client: OpenAI, provider: str) -> None:
    """Each answer is sent back as it came, and the next call follows from its result."""
    said: list[Any] = [{"role": "user", "content": 'CALL look {"at":"a"}'}]
    text = ""
    for _ in range(2):
        with client.responses.stream(model=f"{provider}sim-agent", input=said, tools=[TOOL]) as stream:
            answer = stream.get_final_response()
        text = answer.output_text
        said += [item.to_dict() for item in answer.output]
        calls = [item for item in answer.output if item.type == "function_call"]
        for call in calls:
            assert json.loads(call.arguments) == {"at": "a"}
            said.append({"type": "function_call_output", "call_id": call.call_id, "output": "A house."})
    assert text == "done"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_two_tools_at_once(client: OpenAI, provider: str) -> None:
    """Streamed, each call whole and in its place."""
    tools: Any = [TOOL, {**TOOL, "name": "listen"}]
    with client.responses.stream(model=f"{provider}sim-tools-parallel", input="Hi", tools=tools) as stream:
        answer = stream.get_final_response()
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("look", {"at": "example"}),
        ("listen", {"at": "example"}),
    ]
    assert len({call.call_id for call in calls}) == 2


@pytest.mark.parametrize("provider", ["responses/", "claude/"])
def test_thoughts_go_back_to_the_model_that_had_them(client: OpenAI, upstream: Upstream, provider: str) -> None:
    """Sealed or signed, as their provider gave them, through a client that knows nothing of it."""
    model = "fault:reasoning:base=sim-tools"
    said: list[Any] = [{"role": "user", "content": "Look around"}]
    with client.responses.stream(model=f"{provider}{model}", input=said, tools=[TOOL]) as stream:
        answer = stream.get_final_response()
    assert [item.type for item in answer.output] == ["reasoning", "function_call"]
    said += [item.to_dict() for item in answer.output]
    said.append({"type": "function_call_output", "call_id": said[-1]["call_id"], "output": "A house."})
    upstream.forget()
    client.responses.create(model=f"{provider}{model}", input=said, tools=[TOOL])
    body = json.loads(upstream.log(model)[0]["body"])
    if provider == "claude/":
        thought = body["messages"][1]["content"][0]
        assert (thought["type"], thought["thinking"]) == ("thinking", "Let me think about that for a moment.")
        assert thought["signature"]
    else:
        assert body["input"][1]["encrypted_content"] == "sealed-by-the-simulator"


@pytest.mark.parametrize("provider", ["", "responses/"])
def test_structured_output(client: OpenAI, provider: str) -> None:
    """The SDK's parser gets what it asked for."""
    answer = client.responses.parse(model=f"{provider}sim-json", input="A recipe", text_format=Recipe)
    assert isinstance(answer.output_parsed, Recipe)


def test_an_upstream_of_the_same_dialect_gets_every_field(client: OpenAI, node: Node, upstream: Upstream) -> None:
    """Unknown ones included; and its own account headers stay with the gateway."""
    upstream.forget()
    answer = client.responses.with_raw_response.create(
        model="responses/sim",
        input="Hello",
        store=True,
        metadata={"a": "b"},
        truncation="auto",
        extra_body={"a_new_field": {"deep": [1]}, "reasoning": {"effort": "low", "mode": "pro"}},
    )
    (record,) = upstream.log("sim")
    body = json.loads(record["body"])
    assert record["path"] == "/v1/responses"
    assert body["a_new_field"] == {"deep": [1]}
    assert body["reasoning"] == {"effort": "low", "mode": "pro"}
    assert (body["metadata"], body["truncation"], body["store"]) == ({"a": "b"}, "auto", False)
    shown = json.loads(answer.content)
    assert (shown["a_new_field"], shown["store"], shown["truncation"]) == ({"deep": [1]}, False, "auto")
    assert "canary" not in answer.content.decode() + str(dict(answer.headers))
    assert answer.headers["x-tokendance-warnings"].startswith("store:")
    assert answer.headers["x-request-id"].startswith("req_")


def test_what_another_dialect_has_not_is_told(client: OpenAI) -> None:
    """Hosted tools and preferences in the warnings; what changes the answer is refused by its own name."""
    items: Any = [{"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"role": "user", "content": "Hi"}]
    tools: Any = [{"type": "web_search"}, TOOL]
    answer = client.responses.with_raw_response.create(model="sim", input=items, tools=tools, truncation="auto")
    warnings = answer.headers["x-tokendance-warnings"]
    for field in ("tools[0]", "truncation", "input[0]"):
        assert f"{field}: " in warnings
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="sim", input=[{"type": "compaction", "encrypted_content": "e"}])
    assert refused.value.param == "input[0]"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_that_breaks_fails(client: OpenAI, provider: str) -> None:
    """The SDK raises, and does not take the beginning for the whole."""
    with pytest.raises(openai.APIError) as broken:
        list(client.responses.create(model=f"{provider}fault:cut", input="Hello", stream=True))
    assert broken.value.code == "stream_interrupted"


def test_errors_have_their_classes(client: OpenAI, node: Node) -> None:
    """Those of the SDK, by status."""
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="none", input="Hello")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as stored:
        client.responses.create(model="sim", input="Hello", previous_response_id="resp_1")
    assert stored.value.param == "previous_response_id"
    with pytest.raises(openai.APIStatusError) as fetched:
        client.responses.retrieve("resp_1")
    assert (fetched.value.status_code, fetched.value.code) == (501, "unimplemented")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="tdk_x").responses.create(model="sim", input="Hello")


def test_a_repeated_call_gets_its_first_answer(client: OpenAI, upstream: Upstream) -> None:
    """Under one idempotency key, and in the form of the call that repeats it."""
    upstream.forget()
    asked: Any = {"model": "sim-echo", "input": "Once", "extra_headers": {"Idempotency-Key": f"r-{time.time_ns()}"}}
    first = client.responses.with_raw_response.create(**asked)
    again = client.responses.with_raw_response.create(**asked)
    assert "x-tokendance-replay-of" in again.headers
    assert again.parse().output_text == first.parse().output_text == "Once"
    assert len(upstream.log("sim-echo")) == 1


def test_a_caller_that_leaves_cancels_its_call(client: OpenAI, upstream: Upstream) -> None:
    """Down to the upstream's socket."""
    upstream.forget()
    model = "sim:tokens=400:rate=20"
    stream = client.responses.create(model=model, input="Hello", stream=True)
    for event in stream:
        if event.type == "response.output_text.delta":
            break
    stream.close()
    until(lambda: any(record["peer_left"] for record in upstream.log(model)))


def test_pieces_come_as_they_are_made(client: OpenAI) -> None:
    """Nothing on the way gathers them: of three words in a second and a half none comes with the next one."""
    times = [
        time.monotonic()
        for event in client.responses.create(model="sim:tokens=3:rate=2", input="Hello", stream=True)
        if event.type == "response.output_text.delta"
    ]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 2
    assert all(gap > 0.2 for gap in gaps), gaps
