"""The demo model: it says that it is one, and can be asked for everything that a client wants to try."""

import json
import struct
from typing import Any

import orjson
import pytest
from google.protobuf import text_format

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.domain.upstream import UpstreamCall
from tokendance_server.providers.demo import DemoUpstream

CALL = UpstreamCall(model="demo-echo", deadline=0, request_id="req_1")
DEMO = DemoUpstream()
ECHO = "This is the demo model of TokenDance Gateway; it repeats what you say: "
WEATHER = (
    'tools { kind: TOOL_KIND_FUNCTION name: "get_weather" parameters_json: '
    '"{\\"properties\\":{\\"city\\":{\\"type\\":\\"string\\"}},\\"required\\":[\\"city\\"]}" }'
)


def asked(text: str, more: str = "") -> pb.CompletionRequest:
    """A question, and what else the request holds in text form."""
    request = pb.CompletionRequest()
    request.messages.add(role=pb.ROLE_USER).parts.add().text.text = text
    return text_format.Merge(more, request)


async def answered(request: pb.CompletionRequest) -> pb.Completion:
    """The answer, which is the same as a stream."""
    completion = await DEMO.complete(request, CALL)
    assert await gathered(request) == completion
    return completion


async def gathered(request: pb.CompletionRequest) -> pb.Completion:
    """The stream of an answer put together."""
    events = [event async for batch in DEMO.stream(request, CALL) for event in batch]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert kinds.index("finished") == len(kinds) - 1
    completion = pb.Completion(id=events[0].started.id, model=events[0].started.model)
    for event in events:
        if event.HasField("text"):
            part = _part(completion, event.text.choice)
            part.text.text += event.text.text
        elif event.HasField("tool_call"):
            delta = event.tool_call
            call = _part(completion, delta.choice).tool_call
            call.MergeFrom(pb.ToolCall(id=delta.id, name=delta.name, kind=delta.kind))
            if call.kind == pb.TOOL_KIND_CUSTOM:
                call.input += delta.arguments
            else:
                call.arguments_json += delta.arguments
        elif event.HasField("choice_finished"):
            end = event.choice_finished
            choice = completion.choices[end.choice]
            choice.finish_reason = end.finish_reason
            choice.native_finish_reason = end.native_finish_reason
            choice.stop_sequence = end.stop_sequence
    completion.usage.CopyFrom(events[-1].finished.usage)
    return completion


def _part(completion: pb.Completion, index: int) -> pb.Part:
    """The only part of a choice, made when first needed."""
    while len(completion.choices) <= index:
        choice = completion.choices.add(index=len(completion.choices))
        choice.message.role = pb.ROLE_ASSISTANT
        choice.message.parts.add()
    return completion.choices[index].message.parts[0]


def text_of(completion: pb.Completion, index: int = 0) -> str:
    """The text of a choice."""
    return completion.choices[index].message.parts[0].text.text


def call_of(completion: pb.Completion) -> pb.ToolCall:
    """The call of the first choice."""
    return completion.choices[0].message.parts[0].tool_call


async def test_it_repeats_and_says_what_it_is() -> None:
    """The last thing the user said, counted by its written rule."""
    completion = await answered(asked("Grüße, 世界!"))
    assert text_of(completion) == f"{ECHO}Grüße, 世界!"
    assert completion.choices[0].finish_reason == pb.FINISH_REASON_STOP
    assert completion.usage == pb.Usage(input_tokens=4, output_tokens=22, source=pb.USAGE_SOURCE_PROVIDER)


async def test_it_is_deterministic_and_streams_words() -> None:
    """Each word is a batch of its own."""
    request = asked("one two three")
    assert await DEMO.complete(request, CALL) == await DEMO.complete(request, CALL)
    words = [batch[0].text.text async for batch in DEMO.stream(request, CALL) if batch[0].HasField("text")]
    assert words[-3:] == ["one ", "two ", "three"]


async def test_it_keeps_to_the_cap() -> None:
    """And says that it was cut; characters stay whole."""
    completion = await answered(asked("x", "max_output_tokens: 3"))
    assert text_of(completion) == ECHO[:12]
    assert completion.choices[0].finish_reason == pb.FINISH_REASON_LENGTH
    assert completion.usage.output_tokens == 3
    assert text_of(await answered(asked("世界", "max_output_tokens: 19"))) == f"{ECHO}世"


async def test_it_never_repeats_without_end() -> None:
    """Without a cap there is one of its own."""
    completion = await answered(asked("word " * 10_000))
    assert completion.usage.output_tokens == 4096
    assert completion.choices[0].finish_reason == pb.FINISH_REASON_LENGTH


async def test_it_stops_where_it_is_told_to() -> None:
    """At the first of the stop texts, which is named and left out."""
    completion = await answered(asked("a END b STOP", 'sampling { stop: "STOP" stop: "END" }'))
    assert text_of(completion) == f"{ECHO}a "
    assert completion.choices[0].stop_sequence == "END"
    assert completion.choices[0].finish_reason == pb.FINISH_REASON_STOP


async def test_it_gives_as_many_answers_as_asked_for() -> None:
    """And counts each."""
    one, two = await answered(asked("x")), await answered(asked("x", "choice_count: 2"))
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.usage.output_tokens == 2 * one.usage.output_tokens


@pytest.mark.parametrize(
    ("text", "more", "called"),
    [
        ("What does get_weather say?", "", True),
        ("How are you?", "", False),
        ("How are you?", "tool_choice { mode: TOOL_CHOICE_MODE_REQUIRED }", True),
        ("How are you?", 'tool_choice { mode: TOOL_CHOICE_MODE_TOOL name: "get_weather" }', True),
        ("get_weather", "tool_choice { mode: TOOL_CHOICE_MODE_NONE }", False),
        ("get_weather", 'tool_choice { mode: TOOL_CHOICE_MODE_AUTO allowed_names: "other" }', False),
    ],
)
async def test_it_calls_a_tool_when_made_to_or_told_its_name(text: str, more: str, called: bool) -> None:
    """With arguments that satisfy the tool's schema."""
    completion = await answered(asked(text, f"{WEATHER} {more}"))
    assert (completion.choices[0].finish_reason == pb.FINISH_REASON_TOOL_CALLS) is called
    if called:
        call = call_of(completion)
        assert (call.name, call.kind) == ("get_weather", pb.TOOL_KIND_FUNCTION)
        assert orjson.loads(call.arguments_json) == {"city": "demo"}
        assert call.id


async def test_it_calls_custom_tools_and_tools_without_parameters() -> None:
    """With free text, and with an empty object."""
    custom = call_of(await answered(asked("shell", 'tools { kind: TOOL_KIND_CUSTOM name: "shell" }')))
    assert (custom.kind, custom.input, custom.arguments_json) == (pb.TOOL_KIND_CUSTOM, "demo", "")
    assert call_of(await answered(asked("now", 'tools { name: "now" }'))).arguments_json == "{}"


async def test_it_answers_a_tools_result_in_words() -> None:
    """Even where a tool must be called, so that every agent comes to an end."""
    more = (
        WEATHER + " tool_choice { mode: TOOL_CHOICE_MODE_REQUIRED } messages { role: ROLE_TOOL "
        'parts { tool_result { call_id: "c" parts { text { text: "12 degrees" } } } } }'
    )
    completion = await answered(asked("get_weather", more))
    assert text_of(completion) == 'This is the demo model of TokenDance Gateway; the tool answered: "12 degrees"'
    assert completion.choices[0].finish_reason == pb.FINISH_REASON_STOP


async def test_it_writes_json() -> None:
    """Any object, or one that satisfies the schema."""
    free = await answered(asked("x", "response_format { kind: RESPONSE_FORMAT_KIND_JSON_OBJECT }"))
    assert orjson.loads(text_of(free)) == {"demo": True, "said": "x"}
    schema = orjson.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}).decode()
    request = asked("x", "response_format { kind: RESPONSE_FORMAT_KIND_JSON_SCHEMA }")
    request.response_format.schema_json = schema
    assert orjson.loads(text_of(await answered(request))) == {"n": 0}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ("tool_choice { mode: TOOL_CHOICE_MODE_REQUIRED }", "tool_choice"),
        (f'{WEATHER} tool_choice {{ mode: TOOL_CHOICE_MODE_TOOL name: "other" }}', "tool_choice"),
        (
            'response_format { kind: RESPONSE_FORMAT_KIND_JSON_SCHEMA schema_json: "[" }',
            "response_format.json_schema.schema",
        ),
    ],
)
async def test_what_cannot_be_followed_is_refused(more: str, param: str) -> None:
    """Naming the field."""
    with pytest.raises(GatewayError) as caught:
        await DEMO.complete(asked("x", more), CALL)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


async def test_vectors_have_length_one_and_follow_the_text() -> None:
    """Equal texts have equal vectors, others do not; the length of a vector can be chosen."""
    request = pb.EmbeddingsRequest(inputs=["a", "b", "a"], dimensions=4096)
    answer = await DEMO.embed(request, CALL)
    first, second, third = (struct.unpack("<4096f", one.float32_le) for one in answer.embeddings)
    assert first == third != second
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-4)
    assert answer.usage == pb.Usage(input_tokens=3, source=pb.USAGE_SOURCE_PROVIDER)
    plain = await DEMO.embed(pb.EmbeddingsRequest(token_inputs=[pb.TokenIds(ids=[1, 2])]), CALL)
    assert len(plain.embeddings[0].float32_le) == 8 * 4
    assert plain.usage.input_tokens == 2


@pytest.mark.parametrize(("fields", "param"), [({"dimensions": 4097}, "dimensions"), ({"dimensions": 4096}, "input")])
async def test_vectors_have_bounds(fields: dict[str, Any], param: str) -> None:
    """In their length and in their number together."""
    with pytest.raises(GatewayError) as caught:
        await DEMO.embed(pb.EmbeddingsRequest(inputs=["a"] * 257, **fields), CALL)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_what_it_ignores_is_named() -> None:
    """Field by field, in the caller's words."""
    more = (
        'sampling { temperature: 1 seed: 2 logit_bias { key: "1" value: 1 } } logprobs { enabled: true } '
        'reasoning { effort: "low" } verbosity: VERBOSITY_LOW service_tier: "flex" extra_json: "{\\"x\\":1}" '
        'tools { kind: TOOL_KIND_HOSTED name: "s" } '
        'messages { role: ROLE_USER parts { image { url: "https://example.com" } } }'
    )
    fields = [warning.field for warning in DEMO.warnings(asked("x", more))]
    assert fields == [
        *("temperature", "seed", "logit_bias", "logprobs", "reasoning", "verbosity", "service_tier", "x"),
        *("tools[0]", "messages[1]"),
    ]
    assert DEMO.warnings(asked("x")) == []


def test_other_output_than_text_is_refused() -> None:
    """It would be another answer."""
    assert DEMO.warnings(asked("x", "modalities: MODALITY_TEXT")) == []
    with pytest.raises(GatewayError) as caught:
        DEMO.warnings(asked("x", "modalities: MODALITY_AUDIO"))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "modalities")


def test_what_it_tells_has_a_bound() -> None:
    """The last warning says how many more there were; too many unknown fields are refused."""
    request = asked("x")
    request.extra_json = json.dumps({f"x{number}": 1 for number in range(256)})
    told = DEMO.warnings(request)
    assert len(told) == 64
    assert told[63].why == "193 more fields were left out or changed."
    request.extra_json = json.dumps({f"x{number}": 1 for number in range(257)})
    with pytest.raises(GatewayError) as caught:
        DEMO.warnings(request)
    assert (caught.value.code, caught.value.param) == ("invalid_request", "extra_json")


def test_what_messages_say_is_named_by_its_place_there() -> None:
    """Instructions stand in `system`, so the first turn is the first message; headers have no effect."""
    picture = pb.Part(image=pb.Image(url="https://example.com/a.png"))
    asked = pb.CompletionRequest(
        dialect=pb.DIALECT_ANTHROPIC_MESSAGES,
        dialect_headers=[pb.DialectHeader(name="anthropic-beta", value="a-1")],
        messages=[
            pb.Message(role=pb.ROLE_SYSTEM, parts=[pb.Part(text=pb.Text(text="Be kind."))]),
            pb.Message(role=pb.ROLE_USER, parts=[picture]),
        ],
    )
    assert [warning.field for warning in DemoUpstream().warnings(asked)] == ["anthropic-beta", "messages[0]"]
