"""What the Messages API cannot express: refused by name, or named in a warning, and never silent."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from google.protobuf import text_format

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.anthropic import AnthropicCodec

HELLO = 'messages { role: ROLE_USER parts { text { text: "Hi" } } } max_output_tokens: 5000 '


def request(text: str, *, hello: bool = True) -> pb.CompletionRequest:
    """A canonical request, after one message of the user."""
    return text_format.Parse((HELLO if hello else "") + text, pb.CompletionRequest())


def warned(text: str, capabilities: Iterable[str] = (), *, hello: bool = True) -> list[str]:
    """The fields that are named."""
    return [warning.field for warning in AnthropicCodec(set(capabilities)).warnings(request(text, hello=hello))]


def body(text: str, capabilities: Iterable[str] = ()) -> dict[str, object]:
    """What is written, once it has been looked at."""
    codec = AnthropicCodec(set(capabilities))
    asked = request(text)
    codec.warnings(asked)
    written: dict[str, object] = msgspec.json.decode(codec.encode_completion(asked, "m", stream=False).body)
    return written


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("choice_count: 2", "n"),
        ("logprobs { enabled: true }", "logprobs"),
        ("modalities: MODALITY_AUDIO", "modalities"),
        ('tools { name: "a" namespace: "b" }', "tools[0].namespace"),
        ("tool_choice { mode: TOOL_CHOICE_MODE_REQUIRED }", "tool_choice"),
        ('tools { name: "a" } tool_choice { mode: TOOL_CHOICE_MODE_TOOL kind: TOOL_KIND_HOSTED }', "tool_choice"),
        ('messages { role: ROLE_USER parts { audio { data: "a" } } }', "messages[1].parts[0]"),
        ('messages { role: ROLE_USER parts { image { file_id: "a" } } }', "messages[1].parts[0]"),
        (
            'messages { role: ROLE_USER parts { image { data: "a" media_type: "image/tiff" } } }',
            "messages[1].parts[0]",
        ),
        ('messages { role: ROLE_USER parts { file { file_id: "a" } } }', "messages[1].parts[0]"),
        (
            'messages { role: ROLE_USER parts { file { data: "a" media_type: "audio/wav" } } }',
            "messages[1].parts[0]",
        ),
        (
            'dialect: DIALECT_OPENAI_CHAT messages { role: ROLE_USER parts { native { type: "video" } } }',
            "messages[1].content[0]",
        ),
        ('extra_json: "{\\"api_base\\":\\"http://a\\"}"', "api_base"),
    ],
)
def test_what_would_change_the_answer_is_refused(text: str, field: str) -> None:
    """By the name of the field, as unsupported."""
    with pytest.raises(GatewayError) as refused:
        warned(text)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", field)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('messages { role: ROLE_USER parts { image { media_type: "image/png" } } }', "messages[1].parts[0]"),
        ("messages { role: ROLE_TOOL }", "messages[1]"),
        ("messages { role: ROLE_USER parts { } }", "messages[1].parts[0]"),
        (
            'messages { role: ROLE_ASSISTANT parts { tool_call { id: "a" name: "b" arguments_json: "{" } } }',
            "messages[1].parts[0]",
        ),
        ('tools { name: "a" parameters_json: "[]" }', "tools[0]"),
    ],
)
def test_what_cannot_be_read_is_invalid(text: str, field: str) -> None:
    """By the name of the field; arguments that are no JSON object too, because they go upstream as one."""
    with pytest.raises(GatewayError) as refused:
        warned(text)
    assert (refused.value.code, refused.value.param) == ("invalid_request", field)


def test_instructions_alone_are_no_conversation() -> None:
    """The API needs a turn of the user."""
    with pytest.raises(GatewayError) as refused:
        warned('messages { role: ROLE_SYSTEM parts { text { text: "a" } } }', hello=False)
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("sampling { seed: 1 }", "seed"),
        ("sampling { frequency_penalty: 1 }", "frequency_penalty"),
        ('sampling { logit_bias { key: "1" value: 1 } }', "logit_bias"),
        ("sampling { temperature: 1.5 }", "temperature"),
        ("sampling { temperature: 0.5 top_p: 0.5 }", "top_p"),
        ("verbosity: VERBOSITY_LOW", "verbosity"),
        ('prompt_cache_key: "a"', "prompt_cache_key"),
        ('service_tier: "flex"', "service_tier"),
        ("response_format { kind: RESPONSE_FORMAT_KIND_JSON_OBJECT }", "response_format"),
        ('extra_json: "{\\"prediction\\":1}"', "prediction"),
        ('tools { kind: TOOL_KIND_HOSTED name: "web_search" }', "tools[0]"),
        ('tools { kind: TOOL_KIND_CUSTOM name: "a" format_json: "{}" }', "tools[0].format"),
        ('tools { name: "a" extra_json: "{\\"b\\":1}" }', "tools[0].b"),
        ('messages { role: ROLE_USER name: "x" parts { text { text: "a" } } }', "messages[1].name"),
        ('messages { role: ROLE_SYSTEM parts { text { text: "a" } } }', "messages"),
        ('messages { role: ROLE_ASSISTANT parts { reasoning { text: "a" } } }', "messages"),
        ('dialect: DIALECT_GEMINI dialect_headers { name: "x-beta" value: "1" }', "x-beta"),
        ('reasoning { effort: "minimal" }', "reasoning_effort"),
        ("reasoning { max_tokens: 2000 }", "reasoning.max_tokens"),
    ],
)
def test_what_is_left_out_is_named(text: str, field: str) -> None:
    """A preference, or what the upstream would not run."""
    assert warned(text) == [field]


def test_a_missing_cap_is_named_and_set() -> None:
    """The model's own, or else one of the format's choosing; the caller's request is left alone."""
    asked = request('messages { role: ROLE_USER parts { text { text: "Hi" } } }', hello=False)
    codec = AnthropicCodec()
    assert [warning.field for warning in codec.warnings(asked)] == ["max_tokens"]
    assert codec.capped(asked, 8000).max_output_tokens == 8000
    assert codec.capped(asked, None).max_output_tokens == 4096
    assert not asked.HasField("max_output_tokens")
    assert codec.capped(request(""), 9).max_output_tokens == 5000


def test_reasoning_takes_the_form_that_the_model_has() -> None:
    """Adaptive with an effort, or a budget below the cap, or none."""
    assert body('reasoning { effort: "minimal" }')["thinking"] == {"type": "adaptive"}
    assert body('reasoning { effort: "minimal" }')["output_config"] == {"effort": "low"}
    budget = {"type": "enabled", "budget_tokens": 4999}
    assert body('reasoning { effort: "high" }', ["thinking_budget"])["thinking"] == budget
    assert body('reasoning { effort: "none" }')["thinking"] == {"type": "disabled"}
    assert "thinking" not in body('reasoning { effort: "high" }', ["no_thinking"])
    assert warned('reasoning { effort: "high" }', ["no_thinking"]) == ["reasoning_effort"]


def test_reasoning_is_left_out_where_the_api_would_refuse_it() -> None:
    """Beside a forced tool; and, with a budget, where earlier reasoning of this turn is not there."""
    forced = 'reasoning { effort: "high" } tools { name: "a" } tool_choice { mode: TOOL_CHOICE_MODE_REQUIRED }'
    assert warned(forced) == ["reasoning_effort"]
    assert "thinking" not in body(forced)
    unsigned = """reasoning { effort: "high" }
        messages { role: ROLE_ASSISTANT parts { tool_call { id: "a" name: "b" } } }
        messages { role: ROLE_TOOL parts { tool_result { call_id: "a" } } }"""
    assert warned(unsigned) == []
    assert warned(unsigned, ["thinking_budget"]) == ["reasoning_effort"]
    assert "thinking" not in body(unsigned, ["thinking_budget"])


def test_sampling_goes_where_it_may() -> None:
    """Not beside reasoning, not to a model that refuses it, and never above 1."""
    assert body("sampling { temperature: 1.5 }")["temperature"] == 1
    assert "temperature" not in body('sampling { temperature: 0.5 } reasoning { effort: "low" }')
    assert warned("sampling { temperature: 0.5 top_k: 3 }", ["no_sampling"]) == ["temperature", "top_k"]


def test_structured_output_is_refused_where_the_model_has_none() -> None:
    """The shape of the answer is more than a preference."""
    wanted = 'response_format { kind: RESPONSE_FORMAT_KIND_JSON_SCHEMA name: "a" schema_json: "{}" }'
    assert body(wanted)["output_config"] == {"format": {"type": "json_schema", "schema": {}}}
    with pytest.raises(GatewayError):
        warned(wanted, ["no_output_format"])


def test_json_of_any_shape_is_asked_for_in_words() -> None:
    """As an instruction behind the caller's own."""
    wanted = "response_format { kind: RESPONSE_FORMAT_KIND_JSON_OBJECT }"
    text = HELLO + wanted + ' messages { role: ROLE_USER parts { text { text: "Hi" } } }'
    asked = text_format.Parse(
        'messages { role: ROLE_SYSTEM parts { text { text: "Be kind." } } }' + text, pb.CompletionRequest()
    )
    written = msgspec.json.decode(AnthropicCodec().encode_completion(asked, "m", stream=False).body)
    assert next(block["text"] for block in written["system"]) == "Be kind."
    assert "JSON" in written["system"][1]["text"]


def test_instructions_amid_the_conversation_stay_where_the_model_knows_them() -> None:
    """As turns of the system; elsewhere they join the next turn of the user."""
    later = """messages { role: ROLE_ASSISTANT parts { text { text: "Yes?" } } }
        messages { role: ROLE_SYSTEM parts { text { text: "In French." } } }
        messages { role: ROLE_USER parts { text { text: "Go" } } }"""
    assert warned(later, ["system_turns"]) == []
    kept = body(later, ["system_turns"])["messages"]
    assert [turn["role"] for turn in kept] == ["user", "assistant", "system", "user"]  # type: ignore[attr-defined]
    moved = body(later)["messages"]
    assert [turn["role"] for turn in moved] == ["user", "assistant", "user"]  # type: ignore[attr-defined]


def test_the_own_dialect_loses_only_what_nobody_has_signed() -> None:
    """Reasoning that came from another model would be refused upstream."""
    own = "dialect: DIALECT_ANTHROPIC_MESSAGES sampling { temperature: 0.5 top_p: 0.5 seed: 1 }"
    assert warned(own) == []
    unsigned = own + 'messages { role: ROLE_ASSISTANT parts { reasoning { text: "a" } } }'
    assert warned(unsigned) == ["messages[1].content[0]"]


def test_a_turn_that_another_model_began_goes_on_without_reasoning() -> None:
    """A budget beside calls without their reasoning is refused upstream; so is a turn with nothing in it."""
    began = """dialect: DIALECT_ANTHROPIC_MESSAGES reasoning { max_tokens: 2000 }
        extra_json: "{\\"thinking\\":{\\"display\\":\\"omitted\\"}}"
        messages { role: ROLE_ASSISTANT parts { reasoning { text: "a" } } }
        messages { role: ROLE_ASSISTANT parts { reasoning { text: "a" } } parts { tool_call { id: "a" name: "b" } } }
        messages { role: ROLE_USER parts { tool_result { call_id: "a" } } }"""
    assert warned(began)[0] == "thinking"
    written = body(began)
    assert "thinking" not in written
    assert [turn["role"] for turn in written["messages"]] == ["user", "assistant", "user"]  # type: ignore[attr-defined]
    signed = began.replace('text: "a"', 'text: "a" signature: "EqQB"')
    assert warned(signed) == []
    kept = {"type": "enabled", "budget_tokens": 2000, "display": "omitted"}
    assert body(signed)["thinking"] == kept
    without = "dialect: DIALECT_ANTHROPIC_MESSAGES reasoning { max_tokens: 2000 }"
    assert body(without + ' messages { role: ROLE_ASSISTANT parts { tool_call { id: "a" name: "b" } } }')["thinking"]


def test_the_version_and_betas_of_the_caller_go_along_in_the_own_dialect_only() -> None:
    """A version that nobody knows does not, nor does any other header."""
    headers = """dialect_headers { name: "anthropic-beta" value: "a-1,b-2" }
        dialect_headers { name: "anthropic-version" value: "2026-10-21" }"""
    own = AnthropicCodec().encode_completion(
        request("dialect: DIALECT_ANTHROPIC_MESSAGES " + headers), "m", stream=True
    )
    assert own.headers == (("anthropic-beta", "a-1,b-2"), ("anthropic-version", "2026-10-21"))
    other = AnthropicCodec().encode_completion(request(headers), "m", stream=True)
    assert other.headers == ()
    unknown = """dialect: DIALECT_ANTHROPIC_MESSAGES dialect_headers { name: "anthropic-version" value: "1999-01-01" }
        dialect_headers { name: "x-api-key" value: "sk-other" }"""
    assert AnthropicCodec().encode_completion(request(unknown), "m", stream=True).headers == ()


@pytest.mark.parametrize("header", ['name: "anthropic-beta" value: "a\\r\\nx-api-key: b"', 'name: "x" value: "\\n"'])
def test_a_header_that_cannot_be_sent_is_invalid(header: str) -> None:
    """The schema says so for callers over gRPC; the codec does not rely on it."""
    with pytest.raises(GatewayError) as refused:
        warned(f"dialect: DIALECT_ANTHROPIC_MESSAGES dialect_headers {{ {header} }}")
    assert refused.value.code == "invalid_request"


def test_the_credential_has_its_header() -> None:
    """And the version of the API goes with every request, the one for the list of models too."""
    version = ("anthropic-version", "2023-06-01")
    assert AnthropicCodec().credential_headers("k") == (("x-api-key", "k"), version)
    assert AnthropicCodec({"bearer"}).credential_headers("k") == (("authorization", "Bearer k"), version)
    assert AnthropicCodec().credential_headers("") == (version,)
    with pytest.raises(ValueError, match="unknown capabilities: nothing"):
        AnthropicCodec({"nothing"})


def test_there_are_no_embeddings() -> None:
    """The API has none."""
    with pytest.raises(GatewayError) as refused:
        AnthropicCodec().encode_embeddings(pb.EmbeddingsRequest(), "m")
    assert refused.value.code == "unsupported_parameter"
    with pytest.raises(GatewayError):
        AnthropicCodec().decode_embeddings(b"{}", pb.EmbeddingsRequest())


def test_the_models_are_listed() -> None:
    """By their ids."""
    assert AnthropicCodec().decode_models(b'{"data":[{"id":"b","type":"model"},{"id":"a"}],"has_more":false}') == [
        "a",
        "b",
    ]
