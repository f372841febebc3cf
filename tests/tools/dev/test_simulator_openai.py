"""The simulator's well-behaved answers, as the official OpenAI SDK reads them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from dev.simulator import Simulator
from dev.simulator.openai.others import vector_of
from dev.simulator.replies import SENTENCE

USER: list[Any] = [{"role": "user", "content": "How are you?"}]


def tool(name: str, **properties: object) -> dict[str, Any]:
    """A function tool."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool("get_weather", city={"type": "string"}, days={"type": "integer", "minimum": 3})
TIME = tool("get_time", zone={"enum": ["UTC", "CET"]})


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator of its own for each test."""
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official SDK, without its retries."""
    async with openai.AsyncOpenAI(api_key="sk-sim", base_url=sim.base_url, max_retries=0) as sdk:
        yield sdk


async def collect(stream: Any) -> list[ChatCompletionChunk]:
    """All chunks."""
    return [chunk async for chunk in stream]


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    """The text of one choice."""
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


async def test_a_document_says_the_fixed_sentence(client: openai.AsyncOpenAI) -> None:
    """`sim` answers the same nine tokens each time."""
    answer = await client.chat.completions.create(model="sim", messages=USER)
    assert answer.choices[0].message.content == SENTENCE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 9)
    assert await client.chat.completions.create(model="sim", messages=USER) == answer


async def test_a_stream_keeps_the_order_of_chunks(client: openai.AsyncOpenAI) -> None:
    """Role with empty content, text, empty delta with the finish, and no usage unless asked for."""
    chunks = await collect(await client.chat.completions.create(model="sim", messages=USER, stream=True))
    assert chunks[0].choices[0].delta.model_dump(exclude_unset=True) == {"role": "assistant", "content": ""}
    assert text_of(chunks) == SENTENCE
    assert chunks[-1].choices[0].delta.model_dump(exclude_unset=True) == {}
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 10 + ["stop"]
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


@pytest.mark.parametrize("model", ["sim", "sim:tokens=200", "sim-echo", "sim-json", "fault:reasoning"])
@pytest.mark.parametrize("choices", [1, 3])
async def test_usage_is_the_same_in_both_forms(client: openai.AsyncOpenAI, model: str, choices: int) -> None:
    """With include_usage, a chunk of its own with no choices says what the document says."""
    document = await client.chat.completions.create(model=model, messages=USER, n=choices)
    stream = await client.chat.completions.create(
        model=model, messages=USER, n=choices, stream=True, stream_options={"include_usage": True}
    )
    chunks = await collect(stream)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == document.usage
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks[:-1])
    for index in range(choices):
        assert text_of(chunks, index) == document.choices[index].message.content


async def test_tokens_are_as_many_as_asked_for(client: openai.AsyncOpenAI) -> None:
    """tokens=200 gives 200 tokens and 202 chunks; a cap of the request cuts it."""
    model = "sim:tokens=200"
    chunks = await collect(await client.chat.completions.create(model=model, messages=USER, stream=True))
    assert len(chunks) == 202
    capped = await client.chat.completions.create(model=model, messages=USER, max_completion_tokens=7)
    assert capped.choices[0].finish_reason == "length"
    assert capped.usage is not None
    assert capped.usage.completion_tokens == 7
    assert len((capped.choices[0].message.content or "").split()) == 7


async def test_echo_repeats_the_last_user_message(client: openai.AsyncOpenAI) -> None:
    """Parts of text are joined, spaces are kept."""
    parts = [{"type": "text", "text": "  Grüße,\n"}, {"type": "text", "text": "Welt!  "}]
    messages: list[Any] = [*USER, {"role": "assistant", "content": "x"}, {"role": "user", "content": parts}]
    answer = await client.chat.completions.create(model="sim-echo", messages=messages)
    assert answer.choices[0].message.content == "  Grüße,\nWelt!  "


async def test_a_tool_is_called_with_arguments_that_fit(client: openai.AsyncOpenAI) -> None:
    """One call in the document, then words once the result is there."""
    tools: list[Any] = [WEATHER, TIME]
    answer = await client.chat.completions.create(model="sim-tools", messages=USER, tools=tools)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "get_weather",
        {"city": "example", "days": 3},
    )
    history: list[Any] = [
        *USER,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    after = await client.chat.completions.create(model="sim-tools", messages=history, tools=tools)
    assert after.choices[0].message.content == SENTENCE


async def test_streamed_calls_name_themselves_once(client: openai.AsyncOpenAI) -> None:
    """The SDK's own helper puts parallel calls together; later deltas carry the index and pieces only."""
    tools: list[Any] = [WEATHER, TIME]
    raw = await collect(
        await client.chat.completions.create(model="sim-tools-parallel", messages=USER, tools=tools, stream=True)
    )
    deltas = [delta for chunk in raw for delta in chunk.choices[0].delta.tool_calls or ()]
    later = [delta.model_dump(exclude_unset=True) for delta in deltas if delta.id is None]
    assert len(later) > 3
    assert all(delta.keys() == {"index", "function"} for delta in later)
    assert all(delta["function"].keys() == {"arguments"} for delta in later)
    async with client.chat.completions.stream(model="sim-tools-parallel", messages=USER, tools=tools) as stream:
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name) for call in calls] == [
        ("call_sim_0", "get_weather"),
        ("call_sim_1", "get_time"),
    ]
    assert json.loads(calls[1].function.arguments) == {"zone": "UTC"}
    document = await client.chat.completions.create(model="sim-tools-parallel", messages=USER, tools=tools)
    assert [call.model_dump() for call in document.choices[0].message.tool_calls or []] == [
        call.model_dump(exclude={"function": {"parsed_arguments"}, "index": True}) for call in calls
    ]


async def test_tool_choice_is_obeyed(client: openai.AsyncOpenAI) -> None:
    """`none` gives words, a named tool is the one that is called."""
    tools: list[Any] = [WEATHER, TIME]
    words = await client.chat.completions.create(model="sim-tools", messages=USER, tools=tools, tool_choice="none")
    assert words.choices[0].message.content == SENTENCE
    named = await client.chat.completions.create(
        model="sim-tools",
        messages=USER,
        tools=tools,
        tool_choice={"type": "function", "function": {"name": "get_time"}},
    )
    (call,) = named.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_time"


async def test_a_custom_tool_takes_free_text(client: openai.AsyncOpenAI) -> None:
    """Custom tools have an input in place of arguments."""
    tools: list[Any] = [{"type": "custom", "custom": {"name": "write"}}]
    answer = await client.chat.completions.create(model="sim-tools", messages=USER, tools=tools)
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "custom"
    assert (call.custom.name, call.custom.input) == ("write", SENTENCE)


async def test_json_satisfies_the_schema(client: openai.AsyncOpenAI) -> None:
    """Nested objects, lists, enums, references, formats and bounds are filled in."""
    schema: dict[str, object] = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 10},
            "kind": {"enum": ["b", "a"]},
            "sizes": {"type": "array", "items": {"type": "integer", "minimum": 4}, "minItems": 2},
            "owner": {"$ref": "#/$defs/owner"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "ratio": {"type": "number"},
            "ok": {"type": ["boolean", "null"]},
        },
        "$defs": {"owner": {"type": "object", "properties": {"since": {"type": "string", "format": "date"}}}},
    }
    answer = await client.chat.completions.create(
        model="sim-json",
        messages=USER,
        response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}},
    )
    assert json.loads(answer.choices[0].message.content or "") == {
        "name": "examplexxx",
        "kind": "b",
        "sizes": [4, 4],
        "owner": {"since": "2026-01-02"},
        "maybe": None,
        "ratio": 1.0,
        "ok": True,
    }
    free = await client.chat.completions.create(
        model="sim-json", messages=USER, response_format={"type": "json_object"}
    )
    assert json.loads(free.choices[0].message.content or "") == {"answer": SENTENCE}


async def test_embeddings_are_equal_in_both_encodings(client: openai.AsyncOpenAI) -> None:
    """Base64 (the SDK's default) and floats hold the same numbers, in the order of the input."""
    packed = await client.embeddings.create(model="sim-embed", input=["a", "bcdef"])
    floats = await client.embeddings.create(model="sim-embed", input=["a", "bcdef"], encoding_format="float")
    assert [item.embedding for item in packed.data] == [item.embedding for item in floats.data]
    assert floats.data[1].embedding == vector_of("bcdef", 8)
    assert floats.data[0].embedding != floats.data[1].embedding
    assert packed.usage.prompt_tokens == 3
    short = await client.embeddings.create(model="sim:dims=16", input=[1, 2, 3], dimensions=4)
    assert (len(short.data), len(short.data[0].embedding), short.usage.total_tokens) == (1, 4, 3)


async def test_completions_number_their_choices_by_prompt(client: openai.AsyncOpenAI) -> None:
    """Choice index is prompt number * n + choice; streamed text adds up to the document's."""
    document = await client.completions.create(model="sim-echo", prompt=["a b", "c"], n=2, echo=True)
    assert [(choice.index, choice.text) for choice in document.choices] == [
        (0, "a ba b"),
        (1, "a ba b"),
        (2, "cc"),
        (3, "cc"),
    ]
    texts = dict.fromkeys(range(4), "")
    stream = await client.completions.create(model="sim-echo", prompt=["a b", "c"], n=2, echo=True, stream=True)
    async for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert list(texts.values()) == [choice.text for choice in document.choices]


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    """The personas are models; faults are not listed."""
    names = [model.id async for model in await client.models.list()]
    assert "sim-tools" in names
    assert not any(name.startswith("fault") for name in names)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_statuses_raise_the_errors_of_the_sdk(
    client: openai.AsyncOpenAI, code: int, error: type[openai.APIStatusError]
) -> None:
    """The SDK reads our error envelope."""
    with pytest.raises(error, match="Bearer sk-sim"):
        await client.chat.completions.create(model=f"fault:status:code={code}", messages=USER)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": "7"},
        {"max_completion_tokens": -1},
        {"n": 129},
        {"n": True},
        {"tools": [{"type": "function"}]},
        {"messages": []},
        {"messages": ["Hello"]},
        {"messages": [{"role": "user", "content": 7}]},
    ],
)
async def test_what_no_upstream_would_accept_is_refused(client: openai.AsyncOpenAI, fields: dict[str, Any]) -> None:
    """A gateway that encodes wrongly is told so with a 400."""
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="sim", messages=USER, extra_body=fields)


async def test_an_error_in_a_stream_reaches_the_sdk(client: openai.AsyncOpenAI) -> None:
    """An error event raises after the tokens before it."""
    stream = await client.chat.completions.create(model="fault:error-event:n=2", messages=USER, stream=True)
    with pytest.raises(openai.APIError, match="upstream-error-canary"):
        await collect(stream)


async def test_the_retry_of_the_sdk_gets_through(sim: Simulator) -> None:
    """Whoever retries once survives fail-first."""
    async with openai.AsyncOpenAI(api_key="sk-sim", base_url=sim.base_url, max_retries=1) as sdk:
        answer = await sdk.chat.completions.create(model="fault:fail-first", messages=USER)
    assert answer.choices[0].message.content == SENTENCE
    assert [record.status for record in sim.log] == [503, 200]
