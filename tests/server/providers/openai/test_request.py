"""The request as a server wants it: what its capabilities change. The whole of it is recorded in tests/wire."""

from typing import Any

import pytest
from google.protobuf import text_format

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai.request import write_request

ASK = 'messages { role: ROLE_USER parts { text { text: "Hi" } } }'


def body(text: str, *capabilities: str, stream: bool = False) -> dict[str, Any]:
    """The body for a request in text form."""
    request = text_format.Parse(text, pb.CompletionRequest())
    return write_request(request, "upstream", stream=stream, capabilities=frozenset(capabilities))


def test_a_plain_question_is_written_plainly() -> None:
    """Nothing goes upstream that was not asked for."""
    assert body(ASK) == {"model": "upstream", "messages": [{"role": "user", "content": "Hi"}]}


def test_usage_is_asked_for_in_every_stream() -> None:
    """Whether the caller wants it or not; other options of the caller's stay."""
    assert body(ASK, stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body(ASK, "no_stream_options", stream=True)
    assert "stream_options" not in body(ASK)


def test_the_cap_has_two_names() -> None:
    """Never both."""
    text = f"{ASK} max_output_tokens: 7"
    assert body(text)["max_tokens"] == 7
    renamed = body(text, "max_completion_tokens")
    assert renamed["max_completion_tokens"] == 7
    assert "max_tokens" not in renamed


def test_developers_are_system_where_they_are_unknown() -> None:
    """The role is kept only where the server has it."""
    text = 'messages { role: ROLE_DEVELOPER parts { text { text: "Rule." } } }'
    assert body(text)["messages"][0] == {"role": "system", "content": "Rule."}
    assert body(text, "developer_role")["messages"][0]["role"] == "developer"


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_goes_back_under_the_servers_name(field: str) -> None:
    """And not at all without the capability."""
    text = 'messages { role: ROLE_ASSISTANT parts { reasoning { text: "Hm" } } parts { text { text: "Yes" } } }'
    assert body(text, field)["messages"] == [{"role": "assistant", field: "Hm", "content": "Yes"}]
    assert body(text)["messages"] == [{"role": "assistant", "content": "Yes"}]


TOOLS = 'tools { name: "a" } tools { name: "b" kind: TOOL_KIND_CUSTOM } tools { name: "c" } '


def test_allowed_tools_are_filtered_or_sent() -> None:
    """A server that does not know the choice gets only the tools that are allowed."""
    text = f'{ASK} {TOOLS} tool_choice {{ mode: TOOL_CHOICE_MODE_REQUIRED allowed_names: "b" allowed_names: "c" }}'
    plain = body(text)
    assert [tool[tool["type"]]["name"] for tool in plain["tools"]] == ["b", "c"]
    assert plain["tool_choice"] == "required"
    knowing = body(text, "allowed_tools")
    assert len(knowing["tools"]) == 3
    assert knowing["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "custom", "custom": {"name": "b"}}, {"type": "function", "function": {"name": "c"}}],
        },
    }


def test_required_has_another_word_somewhere() -> None:
    """Only where the capability says so."""
    text = f"{ASK} {TOOLS} tool_choice {{ mode: TOOL_CHOICE_MODE_REQUIRED }}"
    assert body(text)["tool_choice"] == "required"
    assert body(text, "required_is_any")["tool_choice"] == "any"


@pytest.mark.parametrize(("mode", "word"), [("AUTO", "auto"), ("NONE", "none")])
def test_a_choice_without_force_is_a_word(mode: str, word: str) -> None:
    """And without tools it is not sent, since servers refuse it then."""
    choice = f"tool_choice {{ mode: TOOL_CHOICE_MODE_{mode} }}"
    assert body(f"{ASK} {TOOLS} {choice}")["tool_choice"] == word
    assert "tool_choice" not in body(f"{ASK} {choice}")


def test_strict_servers_get_no_preferences() -> None:
    """Nor labels, even where the answer is stored."""
    text = f'{ASK} user: "u" service_tier: "x" verbosity: VERBOSITY_HIGH metadata {{ key: "k" value: "v" }}'
    assert body(text, "core_fields") == body(ASK)


def test_labels_go_upstream_only_with_a_stored_answer() -> None:
    """Elsewhere servers refuse them."""
    text = f'{ASK} dialect: DIALECT_OPENAI_CHAT metadata {{ key: "k" value: "v" }}'
    assert "metadata" not in body(text)
    assert body(text + ' extra_json: "{\\"store\\":true}"')["metadata"] == {"k": "v"}


def test_a_seed_has_another_name_somewhere() -> None:
    """And its 64 bits survive."""
    text = f"{ASK} sampling {{ seed: 9223372036854775807 }}"
    assert body(text)["seed"] == body(text, "random_seed")["random_seed"] == 9223372036854775807


def test_texts_are_joined_for_servers_without_lists() -> None:
    """Media still make a list."""
    parts = 'parts { text { text: "a" } } parts { text { text: "b" } }'
    text = f"messages {{ role: ROLE_USER {parts} }}"
    assert body(text)["messages"][0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert body(text, "text_content")["messages"][0]["content"] == "a\nb"
    mixed = f'messages {{ role: ROLE_USER {parts} parts {{ image {{ url: "https://example.com" }} }} }}'
    assert len(body(mixed, "text_content")["messages"][0]["content"]) == 3


def test_strict_of_tools_can_be_left_out() -> None:
    """Where the server does not know it."""
    text = f'{ASK} tools {{ name: "a" strict: true }}'
    assert body(text)["tools"][0]["function"]["strict"] is True
    assert "strict" not in body(text, "no_strict")["tools"][0]["function"]


def test_several_results_in_one_turn_become_several_messages() -> None:
    """Before what the same turn says besides."""
    text = (
        'messages { role: ROLE_USER parts { tool_result { call_id: "1" parts { text { text: "x" } } } } '
        'parts { text { text: "And?" } } parts { tool_result { call_id: "2" } } }'
    )
    assert body(text)["messages"] == [
        {"role": "tool", "tool_call_id": "1", "content": "x"},
        {"role": "tool", "tool_call_id": "2", "content": ""},
        {"role": "user", "content": "And?"},
    ]


def test_a_turn_of_calls_only_has_no_content() -> None:
    """Null, as the dialect has it; and arguments are never empty text."""
    text = 'messages { role: ROLE_ASSISTANT parts { tool_call { id: "1" name: "f" } } }'
    assert body(text)["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
    ]


def test_fields_of_another_dialect_do_not_go_upstream() -> None:
    """On no level, since their meaning there is another one."""
    text = (
        'dialect: DIALECT_ANTHROPIC_MESSAGES extra_json: "{\\"x\\":1}" '
        'tools { name: "a" extra_json: "{\\"x\\":1}" } tools { kind: TOOL_KIND_HOSTED native_json: "{\\"x\\":1}" } '
        'messages { role: ROLE_USER extra_json: "{\\"x\\":1}" parts { text { text: "Hi" } extra_json: "{\\"x\\":1}" } }'
    )
    written = body(text)
    assert "x" not in written
    assert written["messages"] == [{"role": "user", "content": "Hi"}]
    assert [tool.keys() for tool in written["tools"]] == [{"type", "function"}]


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ('tools { name: "a" parameters_json: "{" }', "tools[0].function.parameters"),
        ('tools { name: "a" kind: TOOL_KIND_CUSTOM format_json: "1" }', "tools[0].custom.format"),
        (
            'response_format { kind: RESPONSE_FORMAT_KIND_JSON_SCHEMA schema_json: "{}, \\"model\\": \\"x\\"" }',
            "response_format.json_schema.schema",
        ),
        ('audio { voice_json: "{" }', "audio.voice"),
    ],
)
def test_documents_of_the_caller_cannot_break_out(text: str, param: str) -> None:
    """They are read and written again, never pasted."""
    with pytest.raises(GatewayError) as caught:
        body(f"{ASK} {text}")
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_a_voice_may_be_an_object() -> None:
    """Or a name."""
    text = f'{ASK} audio {{ voice_json: "{{\\"id\\":\\"v1\\"}}" format: "wav" }}'
    assert body(text)["audio"] == {"voice": {"id": "v1"}, "format": "wav"}
