"""Chat Completions requests: what each field becomes, and what is refused with which `param`."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from google.protobuf import text_format

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.chat.request import ChatCall, decode

HI = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CUSTOM = {"type": "custom", "custom": {"name": "c", "format": {"type": "text"}}}


def read(**fields: Any) -> ChatCall:
    """Decode a request with a model and a message, unless told otherwise."""
    return decode(orjson.dumps({"model": "m", "messages": HI, **fields}))


def refused(**fields: Any) -> GatewayError:
    """Return the error of a request."""
    with pytest.raises(GatewayError) as caught:
        read(**fields)
    return caught.value


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0}, "sampling { temperature: 0 }"),
    ({"top_p": 1}, "sampling { top_p: 1 }"),
    ({"frequency_penalty": -2, "presence_penalty": 2}, "sampling { frequency_penalty: -2 presence_penalty: 2 }"),
    ({"seed": -(2**63)}, f"sampling {{ seed: {-(2**63)} }}"),
    ({"stop": "a"}, 'sampling { stop: "a" }'),
    ({"stop": ["a", "b"]}, 'sampling { stop: "a" stop: "b" }'),
    ({"logit_bias": {"50256": -100}}, 'sampling { logit_bias { key: "50256" value: -100 } }'),
    ({"n": 128}, "choice_count: 128"),
    ({"max_tokens": 5}, "max_output_tokens: 5"),
    ({"max_tokens": 5, "max_completion_tokens": 7.0}, "max_output_tokens: 7"),
    ({"logprobs": True, "top_logprobs": 20}, "logprobs { enabled: true top: 20 }"),
    ({"logprobs": False, "top_logprobs": 0}, ""),
    (
        {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k"},
        'user: "u" safety_identifier: "s" prompt_cache_key: "k"',
    ),
    ({"service_tier": "flex"}, 'service_tier: "flex"'),
    ({"verbosity": "low"}, "verbosity: VERBOSITY_LOW"),
    ({"reasoning_effort": "xhigh"}, 'reasoning { effort: "xhigh" }'),
    ({"metadata": {"a": "b"}}, 'metadata { key: "a" value: "b" }'),
    (
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        'modalities: MODALITY_TEXT modalities: MODALITY_AUDIO audio { voice_json: "alloy" format: "wav" }',
    ),
    ({"audio": {"voice": {"id": "v1"}, "format": "mp3"}}, 'audio { voice_json: "{\\"id\\":\\"v1\\"}" format: "mp3" }'),
    ({"response_format": {"type": "text"}}, "response_format { kind: RESPONSE_FORMAT_KIND_TEXT }"),
    ({"response_format": {"type": "json_object"}}, "response_format { kind: RESPONSE_FORMAT_KIND_JSON_OBJECT }"),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"b": 1, "a": 2}, "strict": True, "description": "d"},
            }
        },
        (
            'response_format { kind: RESPONSE_FORMAT_KIND_JSON_SCHEMA name: "n" description: "d" '
            'schema_json: "{\\"b\\":1,\\"a\\":2}" strict: true }'
        ),
    ),
    (
        {"tools": [TOOL], "parallel_tool_calls": False},
        (
            'tools { kind: TOOL_KIND_FUNCTION name: "f" parameters_json: "{\\"type\\":\\"object\\"}" } '
            "parallel_tool_calls: false"
        ),
    ),
    ({"tools": [CUSTOM]}, 'tools { kind: TOOL_KIND_CUSTOM name: "c" format_json: "{\\"type\\":\\"text\\"}" }'),
    (
        {"tools": [{**TOOL, "x": 1, "function": {"name": "f", "y": 2}}]},
        'tools { kind: TOOL_KIND_FUNCTION name: "f" extra_json: "{\\"x\\":1,\\"function\\":{\\"y\\":2}}" }',
    ),
    (
        {"tools": [{"type": "web_search"}]},
        'tools { kind: TOOL_KIND_HOSTED name: "web_search" native_json: "{\\"type\\":\\"web_search\\"}" }',
    ),
    ({"tool_choice": "auto", "parallel_tool_calls": True}, ""),
    ({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}, "include_usage: true"),
    ({"stream": True, "stream_options": {"x": 1}}, 'extra_json: "{\\"stream_options\\":{\\"x\\":1}}"'),
    ({"store": True, "top_k": 3, "nothing": None}, 'extra_json: "{\\"store\\":true,\\"top_k\\":3,\\"nothing\\":null}"'),
    (
        {"prediction": {"type": "content", "content": "x"}},
        'extra_json: "{\\"prediction\\":{\\"type\\":\\"content\\",\\"content\\":\\"x\\"}}"',
    ),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_fields_have_their_places(fields: dict[str, Any], expected: str) -> None:
    """The canonical form of each field, and nothing else."""
    wanted = text_format.Parse(expected, pb.CompletionRequest(model="m", dialect=pb.DIALECT_OPENAI_CHAT))
    wanted.messages.add(role=pb.ROLE_USER).parts.add().text.text = "Hi"
    assert read(**fields).completion == wanted


def test_null_is_absent() -> None:
    """For every field that has a place of its own."""
    names = {name for fields, _ in FIELDS for name in fields} - {"nothing", "top_k"}
    assert read(**dict.fromkeys(names)).completion == read().completion


CHOICES: list[tuple[Any, str]] = [
    ("none", "mode: TOOL_CHOICE_MODE_NONE"),
    ("required", "mode: TOOL_CHOICE_MODE_REQUIRED"),
    ({"type": "function", "function": {"name": "f"}}, 'mode: TOOL_CHOICE_MODE_TOOL name: "f" kind: TOOL_KIND_FUNCTION'),
    ({"type": "custom", "custom": {"name": "c"}}, 'mode: TOOL_CHOICE_MODE_TOOL name: "c" kind: TOOL_KIND_CUSTOM'),
    (
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
        },
        'mode: TOOL_CHOICE_MODE_REQUIRED allowed_names: "f"',
    ),
]


@pytest.mark.parametrize(("choice", "expected"), CHOICES)
def test_tool_choice(choice: Any, expected: str) -> None:
    """Each form of it."""
    call = read(tools=[TOOL, CUSTOM], tool_choice=choice)
    assert call.completion.tool_choice == text_format.Parse(expected, pb.ToolChoice())


def test_the_deprecated_functions_are_tools() -> None:
    """With their choice and their turns; the answer is to have the same form."""
    call = read(
        functions=[{"name": "f"}],
        function_call={"name": "f"},
        messages=[
            *HI,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "42"},
        ],
    )
    assert call.function_call
    assert call.completion.tools[0].name == "f"
    assert call.completion.tool_choice.name == "f"
    asked = call.completion.messages[1].parts[0].tool_call
    answered = call.completion.messages[2].parts[0].tool_result
    assert asked.id == answered.call_id != ""
    assert answered.parts[0].text.text == "42"


def test_repeated_calls_in_the_deprecated_form_have_ids_of_their_own() -> None:
    """A result belongs to the last call of its name before it."""
    asked = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    answered = {"role": "function", "name": "f", "content": "42"}
    messages = read(functions=[{"name": "f"}], messages=[*HI, *[asked, answered] * 3]).completion.messages
    ids = [message.parts[0].tool_call.id for message in messages[1::2]]
    assert len(set(ids)) == 3
    assert [message.parts[0].tool_result.call_id for message in messages[2::2]] == ids


def test_a_turn_of_calls_may_leave_content_out() -> None:
    """The SDKs do, where a turn is sent back without its empty fields."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    (_, turn) = read(messages=[*HI, {"role": "assistant", "tool_calls": [call]}]).completion.messages
    assert [part.tool_call.name for part in turn.parts] == ["f"]


PNG = base64.b64encode(b"\x89PNG").decode()


def test_parts_of_every_kind() -> None:
    """Bytes come out of data URLs, marks and unknown fields are kept."""
    content = [
        {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}, "x": 1},
        {"type": "image_url", "image_url": {"url": "https://e.x/a.png", "detail": "low", "y": 2}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg/%3E"}},
        {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PNG}", "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": PNG}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "video_url", "video_url": {"url": "https://e.x/a.mp4"}},
    ]
    parts = read(messages=[{"role": "user", "content": content}]).completion.messages[0].parts
    assert (parts[0].text.text, parts[0].cache_breakpoint.ttl, parts[0].extra_json) == ("a", "30m", '{"x":1}')
    assert (parts[1].image.url, parts[1].image.detail) == ("https://e.x/a.png", "low")
    assert parts[1].extra_json == '{"image_url":{"y":2}}'
    assert (parts[2].image.data, parts[2].image.media_type) == (b"\x89PNG", "image/png")
    assert (parts[3].image.data, parts[3].image.media_type) == (b"<svg/>", "image/svg+xml")
    assert (parts[4].audio.data, parts[4].audio.format) == (b"\x89PNG", "wav")
    assert (parts[5].file.data, parts[5].file.media_type) == (b"\x89PNG", "application/pdf")
    assert parts[5].file.filename == "a.pdf"
    assert (parts[6].file.data, parts[6].file.media_type) == (b"\x89PNG", "")
    assert parts[7].file.file_id == "file-1"
    assert (parts[8].native.type, parts[8].native.dialect) == ("video_url", pb.DIALECT_OPENAI_CHAT)


def test_turns_of_every_role() -> None:
    """What an assistant said and what its tools answered, as it comes back from the SDKs."""
    messages = read(
        messages=[
            {"role": "system", "content": "s", "name": "n"},
            {"role": "developer", "content": [{"type": "text", "text": "d"}]},
            {
                "role": "assistant",
                "content": "",
                "refusal": None,
                "annotations": [],
                "audio": None,
                "reasoning_content": "hm",
                "reasoning_details": [{"a": 1}],
                "tool_calls": [
                    {"id": "1", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{bad"}},
                    {"id": "2", "type": "custom", "custom": {"name": "c", "input": "free"}},
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "r"}]},
            {"role": "tool", "tool_call_id": "2", "content": ""},
            {"role": "assistant", "audio": {"id": "au1"}},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        ]
    ).completion.messages
    assert [message.role for message in messages] == [1, 2, 4, 5, 5, 4, 4]
    assert messages[0].name == "n"
    kinds = [part.WhichOneof("content") for part in messages[2].parts]
    assert kinds == ["reasoning", "tool_call", "tool_call"]
    assert messages[2].parts[1].tool_call.arguments_json == "{bad"
    assert messages[2].parts[2].tool_call.input == "free"
    assert messages[2].extra_json == '{"reasoning_details":[{"a":1}]}'
    assert messages[3].parts[0].tool_result.parts[0].text.text == "r"
    assert messages[5].parts[0].audio.id == "au1"
    assert messages[6].parts[0].refusal.text == "no"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 5}, "model"),
    ({"model": "x" * 257}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": [], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": "x", "name": 5}]}, "messages[0].name"),
    ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "tool", "tool_call_id": "1"}]}, "messages[0].content"),
    ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].name"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function"}]}]},
        "messages[0].tool_calls[0].function",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"type": "function", "function": {}}]}]},
        "messages[0].tool_calls[0].id",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///a"}}]}]},
        "messages[0].content[0].image_url.url",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image_url",
                            "image_url": {"url": "data:,"},
                        },
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}},
                    ],
                }
            ]
        },
        "messages[0].content[1].image_url.url",
    ),
    ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"n": 0}, "n"),
    ({"n": 1000}, "n"),
    ({"n": True}, "n"),
    ({"n": 1.5}, "n"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"seed": 2**63}, "seed"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [5]}, "stop[0]"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 1}, "logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ({"metadata": {"k" * 65: ""}}, "metadata"),
    ({"metadata": {"k": 1}}, "metadata.k"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"modalities": ["smell"]}, "modalities[0]"),
    ({"audio": {"voice": "a"}}, "audio.format"),
    ({"audio": {"format": "wav"}}, "audio.voice"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}}, "response_format.json_schema.name"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort"),
    ({"verbosity": "loud"}, "verbosity"),
    ({"safety_identifier": "x" * 129}, "safety_identifier"),
    ({"user": "x" * 513}, "user"),
    ({"store": "yes"}, "store"),
    ({"prediction": {"type": "x"}}, "prediction.type"),
    ({"web_search_options": {"search_context_size": "huge"}}, "web_search_options.search_context_size"),
    ({"moderation": {}}, "moderation.model"),
    ({"prompt_cache_retention": "1h"}, "prompt_cache_retention"),
    ({"prompt_cache_options": {"mode": "x"}}, "prompt_cache_options.mode"),
    ({"tools": {}}, "tools"),
    ({"tools": [{}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tools": [TOOL] * 1025}, "tools"),
    ({"tools": [TOOL], "functions": [{"name": "g"}]}, "functions"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice.function.name"),
    ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call.name"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """400 with the path of the field, said by the caller's own side."""
    error = refused(**fields)
    assert (error.code, error.param, error.origin) == ("invalid_request", param, "caller")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"{",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":Infinity}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":1} x',
        b'{"model":"m","x":' + b"[" * 100_000,
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_bad_json_is_invalid_json(body: bytes) -> None:
    """Never a crash, whatever the bytes or the depth."""
    with pytest.raises(GatewayError) as caught:
        decode(body)
    assert caught.value.code == "invalid_json"


def test_of_repeated_names_the_last_is_both_checked_and_sent() -> None:
    """Escaped spellings of a name are the same name."""
    call = decode(b'{"model":"a","mod\\u0065l":"b","messages":[{"role":"user","content":"x"}],"x":{"y":1,"y":2}}')
    assert call.completion.model == "b"
    assert call.completion.extra_json == '{"x":{"y":2}}'


def test_big_integers_and_key_order_survive() -> None:
    """In documents whose shape is not ours."""
    schema = {"b": 9007199254740993, "a": {"z": 1, "y": 2}}
    call = read(tools=[{"type": "function", "function": {"name": "f", "parameters": schema}}])
    assert call.completion.tools[0].parameters_json == '{"b":9007199254740993,"a":{"z":1,"y":2}}'


def _many(count: int) -> dict[str, int]:
    """Unknown fields."""
    return {f"x{number}": number for number in range(count)}


def _with_unknown(place: str, unknown: dict[str, Any]) -> dict[str, Any]:
    """Fields of a request with unknown ones in one of its objects."""
    url = {"url": "https://example.com/a.png"}
    content: dict[str, Any] = {"type": "text", "text": "a"}
    message: dict[str, Any] = {"role": "user", "content": [content]}
    function: dict[str, Any] = {"name": "f"}
    tool: dict[str, Any] = {"type": "function", "function": function}
    if place == "picture":
        message["content"] = [{"type": "image_url", "image_url": {**url, **unknown}}]
    else:
        {"message": message, "part": content, "tool": tool, "function": function}[place].update(unknown)
    return {"messages": [message], "tools": [tool]}


PLACES = {
    "message": "messages[0]",
    "part": "messages[0].content[0]",
    "picture": "messages[0].content[0].image_url",
    "tool": "tools[0]",
    "function": "tools[0].function",
}


@pytest.mark.parametrize("place", PLACES)
def test_unknown_fields_of_each_object_have_a_bound(place: str) -> None:
    """In their number, and together in their size."""
    assert read(**_with_unknown(place, _many(256))).completion.model == "m"
    error = refused(**_with_unknown(place, _many(257)))
    assert (error.code, error.param) == ("invalid_request", PLACES[place])
    # What is inside an object inside is kept with the part or the tool, which is what the size is of.
    error = refused(**_with_unknown(place, {"x": "x" * 65_536}))
    assert error.code == "invalid_request"
    assert PLACES[place].startswith(str(error.param))
    assert read(**_with_unknown(place, {"x": "x" * 65_000})).completion.model == "m"


def test_unknown_fields_of_the_request_have_a_bound() -> None:
    """In their number, those with a meaning and without a place of their own included, and together in their size."""
    assert read(**_many(255), store=True).completion.model == "m"
    assert refused(**_many(300)).param == "x256"
    assert refused(**_many(256), stream=True, stream_options={"x": 1}).param == "stream_options"
    assert refused(a=1, large="\u4e16" * 349_526).param == "large"
    assert read(large="\u4e16" * 349_000).completion.model == "m"
    assert len(str(refused(**_many(256), **{"n" * 100_000: 1}).param)) == 64
