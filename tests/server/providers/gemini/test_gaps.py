"""What a request cannot say in this dialect: refused where the answer would differ, named where it would not."""

from collections.abc import Iterable

import pytest
from google.protobuf import text_format

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers.gemini import GeminiCodec

ASK = 'messages { role: ROLE_USER parts { text { text: "Hi" } } }'


def request(text: str) -> pb.CompletionRequest:
    """A request that asks something, and more as the text form says."""
    return text_format.Parse(f"{ASK} {text}", pb.CompletionRequest())


def gaps(text: str, capabilities: Iterable[str] = ()) -> list[str]:
    """The fields that are left out."""
    return [gap.field for gap in GeminiCodec(frozenset(capabilities)).warnings(request(text))]


def part(content: str, role: str = "ROLE_USER") -> str:
    """A message of one part."""
    return f"messages {{ role: {role} parts {{ {content} }} }}"


LEFT_OUT = {
    "": [],
    'user: "u" service_tier: "flex" prompt_cache_key: "k" safety_identifier: "s" verbosity: VERBOSITY_LOW': [
        "user", "service_tier", "prompt_cache_key", "safety_identifier", "verbosity",
    ],
    'dialect: DIALECT_OPENAI_CHAT extra_json: "{\\"top_a\\":1,\\"stream_options\\":{}}"': ["top_a"],
    'sampling { seed: 4294967296 logit_bias { key: "5" value: 1 } }': ["logit_bias", "seed"],
    'reasoning { effort: "high" }': [],
    'reasoning { effort: "ultra" }': ["reasoning.effort"],
    'tools { kind: TOOL_KIND_HOSTED name: "s" native_json: "{}" }': ["tools[0]"],
    'tools { name: "t" strict: true cache_breakpoint {} extra_json: "{\\"x\\":1}" } parallel_tool_calls: false': [
        "tools[0].strict", "tools[0].cache_breakpoint", "tools[0].x", "parallel_tool_calls",
    ],
    'tools { name: "t" parameters_json: "{\\"properties\\":{\\"a\\":{\\"not\\":{},\\"default\\":1}}}" }': [
        "tools[0].function.parameters.properties.a.not"
    ],
    'response_format { kind: RESPONSE_FORMAT_KIND_JSON_SCHEMA schema_json: "{\\"items\\":{\\"pattern\\":\\"a\\"}}" }': [
        "response_format.json_schema.schema.items.pattern"
    ],
    part('reasoning { text: "a" signature: "another family" }', "ROLE_ASSISTANT"): ["messages"],
    part('reasoning { text: "a" signature: "g1.c2ln" }', "ROLE_ASSISTANT"): [],
    part('text { text: "a" } cache_breakpoint {} extra_json: "{\\"y\\":1}"'): [
        "messages[1].parts[0].y", "messages[1].parts[0].cache_breakpoint",
    ],
    part('text { text: "Late." }', "ROLE_SYSTEM"): ["messages[1]"],
    part('image { data: "x" detail: "low" }'): ["messages[1].parts[0].detail"],
    'messages { role: ROLE_USER name: "n" extra_json: "{\\"x\\":1}" parts { text { text: "a" } } }': [
        "messages[1].name", "messages[1].x",
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", LEFT_OUT)
def test_what_is_only_a_preference_is_named(text: str) -> None:
    """By its path in the caller's own request."""
    assert gaps(text) == LEFT_OUT[text]


@pytest.mark.parametrize(
    ("text", "capabilities", "fields"),
    [
        ('reasoning { effort: "low" }', {"no_thinking"}, ["reasoning"]),
        ('reasoning { effort: "none" }', {"no_thinking"}, []),
        (
            'reasoning { effort: "none" max_tokens: 9 }',
            {"thinking_levels"},
            ["reasoning.effort", "reasoning.max_tokens"],
        ),
        (part('image { url: "https://example.com/a" }'), {"url_media"}, []),
    ],
)
def test_models_differ_by_their_capabilities(text: str, capabilities: set[str], fields: list[str]) -> None:
    """What one of them cannot do is named for that one only."""
    assert gaps(text, capabilities) == fields


REFUSED = {
    'sampling { stop: "a" stop: "b" stop: "c" stop: "d" stop: "e" stop: "f" }': "stop",
    "modalities: MODALITY_AUDIO": "modalities",
    'tools { kind: TOOL_KIND_CUSTOM name: "t" }': "tools[0]",
    'tools { name: "t" namespace: "n" }': "tools[0].namespace",
    'tools { name: "1st" }': "tools[0].function.name",
    'tools { kind: TOOL_KIND_HOSTED name: "s" } tool_choice { mode: TOOL_CHOICE_MODE_REQUIRED }': "tool_choice",
    'tools { name: "t" } tool_choice { mode: TOOL_CHOICE_MODE_TOOL name: "u" }': "tool_choice",
    part('image { url: "https://example.com/a" }'): "messages[1].parts[0]",
    part('image { file_id: "f" }'): "messages[1].parts[0]",
    part('file { file_id: "f" }'): "messages[1].parts[0]",
    part('audio { id: "a" }', "ROLE_ASSISTANT"): "messages[1].parts[0]",
    part('native { dialect: DIALECT_OPENAI_CHAT type: "t" json: "{}" }'): "messages[1].parts[0]",
    part('image { data: "x" }', "ROLE_SYSTEM"): "messages[1].parts[0]",
    part('tool_call { id: "c" name: "f" namespace: "n" }', "ROLE_ASSISTANT"): "messages[1].parts[0]",
    part('tool_result { call_id: "c" parts { file { file_id: "f" } } }', "ROLE_TOOL"): "messages[1].parts[0]",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_would_change_the_answer_is_refused(text: str) -> None:
    """Naming the field, as the caller's own mistake and not the provider's."""
    with pytest.raises(GatewayError) as caught:
        gaps(text)
    assert caught.value.reason == errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER
    assert caught.value.param == REFUSED[text]
    assert caught.value.metadata == {"param": REFUSED[text]}
    assert caught.value.origin == "caller"


@pytest.mark.parametrize("text", [part("", "ROLE_USER"), part("image {}"), part('text { text: "a" }', "ROLE_TOOL")])
def test_what_says_nothing_is_no_request(text: str) -> None:
    """A part without content, a picture without a source, a tool without a result."""
    with pytest.raises(GatewayError) as caught:
        gaps(text)
    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
