"""The official OpenAI SDK for Python as a stranger's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel
from tests.e2e.fault_table import SENTENCE
from tests.e2e.nodes import BODY_LIMIT_BYTES, PROVIDER_KEY, Node
from tests.e2e.operator_cli import create_key
from tests.e2e.upstream import Upstream, until

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: list[ChatCompletionToolParam] = [
    {"type": "function", "function": {"name": name, "parameters": PARAMETERS, "strict": True}}
    for name in ("get_weather", "get_forecast")
]


class Recipe(BaseModel):
    """What is asked for as structured output."""

    title: str
    minutes: int
    steps: list[str]


@pytest.fixture
def client(node: Node) -> Iterator[OpenAI]:
    """The SDK as the README sets it up, but without retries."""
    with OpenAI(api_key=node.api_key, base_url=node.base_url, max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="session")
def narrow_key(node: Node) -> str:
    """A key that may call one model only."""
    return create_key(node.data_dir, "One model", "--allow-model", "sim")[1]


def test_chat(client: OpenAI) -> None:
    """An answer in one message, with the id that support asks for."""
    answer = client.chat.completions.create(model="sim", messages=HELLO)
    assert answer.choices[0].message.content == SENTENCE
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "sim"
    assert answer.object == "chat.completion"
    assert not answer.id.endswith("-sim")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 9, 11)
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


def test_several_choices(client: OpenAI) -> None:
    """Independent answers come with their indices."""
    answer = client.chat.completions.create(model="sim", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {SENTENCE}


def test_cap_on_tokens(client: OpenAI) -> None:
    """Both fields that cap the answer do."""
    for cap in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = client.chat.completions.create(model="sim", messages=HELLO, extra_body=cap)
        assert answer.choices[0].finish_reason == "length"
        assert answer.choices[0].message.content == "The quick brown"


@pytest.mark.parametrize("model", ["sim", "demo-echo"])
def test_stream(client: OpenAI, model: str) -> None:
    """Without include_usage there is no usage; the role comes first and the finish once, last."""
    chunks = list(client.chat.completions.create(model=model, messages=HELLO, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", model)}
    assert all(chunk.usage is None and len(chunk.choices) == 1 for chunk in chunks)
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    whole = client.chat.completions.create(model=model, messages=HELLO)
    assert text == whole.choices[0].message.content


def test_stream_with_usage(client: OpenAI) -> None:
    """With include_usage the last chunk has no choices and the usage, and the others have none."""
    *chunks, last = client.chat.completions.create(
        model="sim", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert all("usage" in chunk.model_fields_set for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (2, 9, 11)


def test_what_reaches_the_upstream(client: OpenAI, node: Node, upstream: Upstream) -> None:
    """The provider's own key goes upstream and nothing of the caller's; usage is asked for in every stream."""
    upstream.forget()
    fields = {"temperature": 0.5, "user": "somebody", "top_k": 7}
    list(client.chat.completions.create(model="acme/sim", messages=HELLO, stream=True, extra_body=fields))
    (record,) = upstream.log("sim")
    assert record["path"] == "/v1/chat/completions"
    assert record["headers"]["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert not [name for name in record["headers"] if name.startswith(("x-", "cookie"))]
    assert "openai" not in record["headers"]["user-agent"].lower()
    assert node.api_key not in json.dumps(record)
    body = json.loads(record["body"])
    assert body["messages"] == HELLO
    assert body["model"] == "sim"
    assert {name: body[name] for name in fields} == fields
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def calls_of(message: Any) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of a message's tool calls."""
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "model", ["sim-tools", "sim-tools-parallel", "fault:tool-quirks:base=sim-tools-parallel:form=repeat"]
)
def test_tools(client: OpenAI, model: str, stream: bool) -> None:
    """Tool calls come out the same in one message and assembled by the SDK's own stream helper."""
    if stream:
        with client.chat.completions.stream(model=model, messages=HELLO, tools=TOOLS) as events:
            kinds = [event.type for event in events]
            choice: Any = events.get_final_completion().choices[0]
        assert kinds.count("tool_calls.function.arguments.done") == len(choice.message.tool_calls)
        assert "tool_calls.function.arguments.delta" in kinds
    else:
        choice = client.chat.completions.create(model=model, messages=HELLO, tools=TOOLS).choices[0]
    names = ["get_weather"] if model == "sim-tools" else ["get_weather", "get_forecast"]
    assert choice.finish_reason == "tool_calls"
    assert calls_of(choice.message) == [(name, {"city": "example", "days": 1}) for name in names]
    assert len({call.id for call in choice.message.tool_calls}) == len(names)


@pytest.mark.parametrize("model", ["sim-tools", "sim-tools-parallel", "demo-echo"])
@pytest.mark.parametrize("stream", [False, True])
def test_tool_loop(client: OpenAI, model: str, stream: bool) -> None:
    """A whole turn with a tool: the call, its result, the answer in words."""
    messages: list[Any] = [{"role": "user", "content": "Please use get_weather"}]

    def ask() -> Any:
        if not stream:
            return client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices[0]
        with client.chat.completions.stream(model=model, messages=messages, tools=TOOLS) as events:
            return events.get_final_completion().choices[0]

    first = ask()
    assert first.finish_reason == "tool_calls"
    messages.append(first.message)
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": "22 degrees"} for call in first.message.tool_calls
    ]
    second = ask()
    assert second.finish_reason == "stop"
    assert second.message.content
    assert not second.message.tool_calls


def test_tool_choice(client: OpenAI) -> None:
    """A named tool is called, and `none` calls none."""
    named = client.chat.completions.create(
        model="sim-tools",
        messages=HELLO,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "get_forecast"}},
    )
    assert [name for name, _ in calls_of(named.choices[0].message)] == ["get_forecast"]
    none = client.chat.completions.create(model="sim-tools", messages=HELLO, tools=TOOLS, tool_choice="none")
    assert none.choices[0].message.tool_calls is None
    assert none.choices[0].message.content == SENTENCE


@pytest.mark.parametrize("model", ["sim-json", "demo-echo"])
def test_json_schema(client: OpenAI, model: str) -> None:
    """Structured output follows the schema that the SDK makes of a class."""
    answer = client.chat.completions.parse(model=model, messages=HELLO, response_format=Recipe)
    assert isinstance(answer.choices[0].message.parsed, Recipe)
    with client.chat.completions.stream(model=model, messages=HELLO, response_format=Recipe) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.parsed == answer.choices[0].message.parsed


@pytest.mark.parametrize("model", ["sim-embed", "demo-echo"])
def test_embeddings(client: OpenAI, model: str) -> None:
    """The SDK asks for base64 by default and decodes it: the same numbers as floats."""
    packed = client.embeddings.create(model=model, input=["one", "two"], dimensions=16)
    plain = client.embeddings.create(model=model, input=["one", "two"], dimensions=16, encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    assert [item.embedding for item in packed.data] == [item.embedding for item in plain.data]
    assert all(len(item.embedding) == 16 for item in packed.data)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.model == model
    assert packed.usage.prompt_tokens == packed.usage.total_tokens == 2


def test_models(client: OpenAI) -> None:
    """Models are listed and found by id, one with a slash among them."""
    listed = {model.id: model for model in client.models.list()}
    assert {"demo-echo", "sim", "acme/sim"} <= set(listed)
    assert listed["acme/sim"].owned_by == "acme"
    found = client.models.retrieve("acme/sim")
    assert (found.id, found.object, found.owned_by) == ("acme/sim", "model", "acme")
    assert found.created > 1_700_000_000
    assert client.models.retrieve("short").id == "acme/sim"


def test_alias(client: OpenAI) -> None:
    """A model is called by its alias, and answers by its name."""
    assert client.chat.completions.create(model="short", messages=HELLO).model == "acme/sim"


def test_models_of_a_narrow_key(node: Node, narrow_key: str) -> None:
    """A key sees only the models that it may call."""
    with OpenAI(api_key=narrow_key, base_url=node.base_url, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["sim"]


@pytest.mark.parametrize("model", ["sim", "demo-echo"])
def test_legacy_completions(client: OpenAI, model: str) -> None:
    """The old endpoint answers one prompt, whole and as a stream."""
    whole = client.completions.create(model=model, prompt="Hello", max_tokens=50)
    assert whole.object == "text_completion"
    assert whole.usage is not None
    assert whole.usage.completion_tokens > 0
    chunks = list(client.completions.create(model=model, prompt="Hello", max_tokens=50, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"


Row = tuple[type[openai.APIStatusError], int, str, dict[str, Any]]
ERRORS: list[Row] = [
    (openai.NotFoundError, 404, "model_not_found", {"model": "no-such-model"}),
    (openai.BadRequestError, 400, "invalid_request", {"messages": []}),
    (openai.BadRequestError, 400, "invalid_request", {"temperature": 3}),
    (openai.BadRequestError, 400, "provider_rejected", {"model": "fault:status:code=400"}),
    (openai.RateLimitError, 429, "provider_rate_limited", {"model": "fault:status:code=429"}),
    (openai.InternalServerError, 502, "provider_error", {"model": "fault:status:code=500"}),
    (openai.InternalServerError, 503, "provider_unavailable", {"model": "refused"}),
    (openai.InternalServerError, 504, "provider_timeout", {"model": "fault:stall"}),
    (openai.APIStatusError, 413, "request_too_large", {"user": "x" * BODY_LIMIT_BYTES}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("row", ERRORS, ids=lambda row: f"{row[1]}-{row[2]}")
def test_errors(client: OpenAI, row: Row, stream: bool) -> None:
    """Each failure is the SDK's own class, with code, type, request id and a sentence."""
    kind, status, code, fields = row
    body: dict[str, Any] = {"model": "sim", "messages": HELLO, "stream": stream} | fields
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**body)
    check_error(caught.value, status, code)


def check_error(error: openai.APIStatusError, status: int, code: str) -> None:
    """What an error says is whole, and the same in head and body."""
    type_ = {429: "rate_limit_error"}.get(status, "server_error" if status >= 500 else "invalid_request_error")
    assert (error.status_code, error.code, error.type) == (status, code, type_)
    assert error.request_id is not None
    assert error.request_id.startswith("req_")
    body: Any = error.body
    assert body["request_id"] == error.request_id
    assert body["origin"] in ("caller", "gateway", "provider")
    assert body["message"].endswith(".")
    headers = error.response.headers
    assert headers["x-tokendance-error-code"] == code
    assert headers["request-id"] == error.request_id
    if status in (429, 503):
        assert 1 <= int(headers["retry-after"]) <= 60
    if status < 429:
        assert headers["x-should-retry"] == "false"


def test_param_names_the_field(client: OpenAI) -> None:
    """A bad request says which field is wrong, deep inside too."""
    messages: list[Any] = [*HELLO, {"role": "user", "content": 7}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="sim", messages=messages)
    assert caught.value.param == "messages[1].content"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="sim", prompt=["one", "two"])
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "prompt")


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("tdk_wrong", "invalid_api_key"),
        ("sk-proj-0123456789abcdefghij0123456789abcdefghij", "provider_key_not_accepted"),
        ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "id_token_not_accepted"),
    ],
)
def test_wrong_credentials(node: Node, key: str, code: str) -> None:
    """A credential of another kind is refused by its kind."""
    with (
        OpenAI(api_key=key, base_url=node.base_url, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(model="sim", messages=HELLO)
    check_error(caught.value, 401, code)
    assert key not in str(caught.value)


def test_mistyped_key(node: Node) -> None:
    """One wrong character is found, in the models list as well, and the key is not repeated."""
    mistyped = node.api_key[:-1] + ("a" if node.api_key[-1] != "a" else "b")
    with (
        OpenAI(api_key=mistyped, base_url=node.base_url, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    check_error(caught.value, 401, "invalid_api_key")
    assert mistyped[:12] not in str(caught.value)


def test_model_not_allowed(node: Node, narrow_key: str) -> None:
    """A key with allowed models is refused any other, and told so."""
    with OpenAI(api_key=narrow_key, base_url=node.base_url, max_retries=0) as client:
        assert client.chat.completions.create(model="sim", messages=HELLO).choices
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.chat.completions.create(model="sim-echo", messages=HELLO)
    check_error(caught.value, 403, "model_not_allowed")


def test_final_errors_are_not_retried(node: Node) -> None:
    """With its own retries on, the SDK sends a call with a bad key once: we say that a retry cannot help."""
    before = refusals(node, "invalid_api_key")
    with (
        OpenAI(api_key="tdk_wrong", base_url=node.base_url, max_retries=5) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.chat.completions.create(model="sim", messages=HELLO)
    until(lambda: refusals(node, "invalid_api_key") > before)
    assert refusals(node, "invalid_api_key") == before + 1


def refusals(node: Node, code: str) -> int:
    """How many calls the node has refused with a code, by its log."""
    return node.text.count(f'"{code}"')


def test_retries_succeed(node: Node, upstream: Upstream) -> None:
    """A failure that a retry can cure is retried by the SDK, after the time that we tell."""
    upstream.forget()
    with (
        OpenAI(api_key=node.api_key, base_url=node.base_url, max_retries=1) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(model="fault:status:code=429", messages=HELLO)
    first, second = upstream.log("fault:status:code=429")
    assert 0.9 < second["time"] - first["time"] < 5


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("fault:cut", "stream_interrupted"),
        ("fault:error-event", "provider_error"),
        ("fault:stall-after", "provider_timeout"),
    ],
)
def test_error_in_the_middle_of_a_stream(client: OpenAI, model: str, code: str) -> None:
    """What came stays; then the SDK raises, with the code and the request id."""
    pieces: list[str] = []
    stream = client.chat.completions.create(model=model, messages=HELLO, stream=True)

    def read() -> None:
        for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - what came before the error counts

    with pytest.raises(openai.APIError) as caught:
        read()
    assert "".join(pieces) == "The quick"
    assert not isinstance(caught.value, openai.APIStatusError)
    assert (caught.value.code, caught.value.type) == (code, "server_error")
    body: Any = caught.value.body
    assert body["request_id"] == stream.response.headers["x-request-id"]
    assert body["message"].endswith(".")
