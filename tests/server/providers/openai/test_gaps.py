"""What a request cannot say in this dialect: refused where the answer would differ, named where it would not."""

import json
from collections.abc import Iterable

import pytest
from google.protobuf import text_format

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai.gaps import STEERING_FIELDS, find_gaps

ASK = 'messages { role: ROLE_USER parts { text { text: "Hi" } } }'


def request(text: str) -> pb.CompletionRequest:
    """A request that asks something, and more as the text form says."""
    return text_format.Parse(f"{ASK} {text}", pb.CompletionRequest())


def gaps(text: str, *capabilities: str) -> list[str]:
    """The fields that are left out."""
    return [gap.field for gap in find_gaps(request(text), frozenset(capabilities))]


def refusal(text: str, capabilities: Iterable[str] = ()) -> GatewayError:
    """The error that a request meets."""
    with pytest.raises(GatewayError) as caught:
        find_gaps(request(text), frozenset(capabilities))
    assert caught.value.origin == "caller"
    assert caught.value.metadata == {"param": caught.value.param}
    return caught.value


LEFT_OUT = {
    "": [],
    'reasoning { effort: "high" }': [],
    'reasoning { max_tokens: 5 summary: "auto" include_encrypted: true }': [
        "reasoning.max_tokens",
        "reasoning.summary",
        "reasoning.include_encrypted",
    ],
    'tools { kind: TOOL_KIND_HOSTED name: "s" native_json: "{}" }': ["tools[0]"],
    'dialect: DIALECT_OPENAI_CHAT tools { kind: TOOL_KIND_HOSTED name: "s" native_json: "{}" }': [],
    'tools { name: "t" cache_breakpoint {} }': ["tools[0].cache_breakpoint"],
    'messages { role: ROLE_ASSISTANT parts { reasoning { text: "a" } } parts { reasoning { text: "b" } } }': [
        "messages"
    ],
    'messages { role: ROLE_TOOL parts { tool_result { call_id: "c" is_error: true } } }': ["messages[1]"],
    'messages { role: ROLE_USER parts { text { text: "a" } cache_breakpoint {} } }': [
        "messages[1].parts[0].cache_breakpoint"
    ],
    'dialect: DIALECT_OPENAI_CHAT messages { role: ROLE_USER parts { text { text: "a" } cache_breakpoint {} } }': [],
    'dialect: DIALECT_ANTHROPIC_MESSAGES extra_json: "{\\"top_a\\":1,\\"stream_options\\":{}}"': ["top_a"],
    'dialect: DIALECT_OPENAI_CHAT extra_json: "{\\"top_a\\":1}"': [],
    'dialect: DIALECT_ANTHROPIC_MESSAGES messages { role: ROLE_USER extra_json: "{\\"x\\":1}" '
    'parts { text { text: "a" } extra_json: "{\\"y\\":1}" } }': ["messages[1].x", "messages[1].content[0].y"],
    'dialect: DIALECT_ANTHROPIC_MESSAGES tools { name: "t" extra_json: "{\\"x\\":1}" }': ["tools[0].x"],
}


@pytest.mark.parametrize("text", LEFT_OUT)
def test_what_is_left_out_is_named(text: str) -> None:
    """Each field once, in the order of the request."""
    assert gaps(text) == LEFT_OUT[text]


REFUSED = {
    'tools { name: "t" namespace: "n" }': ("unsupported_parameter", "tools[0].namespace"),
    'tools { name: "s" kind: TOOL_KIND_HOSTED } tool_choice { mode: TOOL_CHOICE_MODE_TOOL kind: TOOL_KIND_HOSTED }': (
        "unsupported_parameter",
        "tool_choice",
    ),
    'messages { role: ROLE_USER parts { image { file_id: "f" } } }': ("unsupported_parameter", "messages[1].parts[0]"),
    "messages { role: ROLE_USER parts { image { } } }": ("invalid_request", "messages[1].parts[0]"),
    "messages { role: ROLE_USER parts { audio { } } }": ("invalid_request", "messages[1].parts[0]"),
    "messages { role: ROLE_USER parts { file { } } }": ("invalid_request", "messages[1].parts[0]"),
    "messages { role: ROLE_USER parts { } }": ("invalid_request", "messages[1].parts[0]"),
    'messages { role: ROLE_TOOL parts { text { text: "a" } } }': ("invalid_request", "messages[1]"),
    'messages { role: ROLE_USER parts { file { url: "https://example.com" } } }': (
        "unsupported_parameter",
        "messages[1].parts[0]",
    ),
    'dialect: DIALECT_OPENAI_CHAT messages { role: ROLE_USER parts { reasoning { text: "a" } } '
    'parts { text { text: "a" } } parts { file { url: "https://example.com" } } }': (
        "unsupported_parameter",
        "messages[1].content[1]",
    ),
    'messages { role: ROLE_USER parts { native { dialect: DIALECT_GEMINI type: "video" json: "{}" } } }': (
        "unsupported_parameter",
        "messages[1].parts[0]",
    ),
    'messages { role: ROLE_ASSISTANT parts { tool_call { name: "a" namespace: "n" } } }': (
        "unsupported_parameter",
        "messages[1].parts[0]",
    ),
    'messages { role: ROLE_TOOL parts { tool_result { parts { audio { data: "a" } } } } }': (
        "unsupported_parameter",
        "messages[1]",
    ),
    'extra_json: "[]"': ("invalid_request", "extra_json"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_would_change_the_answer_is_refused(text: str) -> None:
    """With the code and the field at fault."""
    error = refusal(text)
    assert (error.code, error.param) == REFUSED[text]


@pytest.mark.parametrize("name", sorted(STEERING_FIELDS))
def test_no_field_may_steer_the_call(name: str) -> None:
    """Addresses, credentials and other models never go upstream, whatever the dialect."""
    error = refusal(f'dialect: DIALECT_OPENAI_CHAT extra_json: "{{\\"{name}\\":\\"x\\"}}"')
    assert (error.code, error.param) == ("unsupported_parameter", name)


def test_a_server_without_several_answers_refuses_them() -> None:
    """One is what it gives anyway."""
    assert refusal("choice_count: 2", ["no_n"]).param == "n"
    assert gaps("choice_count: 1", "no_n") == []


def test_a_server_without_log_probabilities_refuses_them() -> None:
    """Unless they were not asked for."""
    assert refusal("logprobs { enabled: true }", ["no_logprobs"]).param == "logprobs"
    assert gaps("logprobs { }", "no_logprobs") == []


@pytest.mark.parametrize("mode", ["REQUIRED", "TOOL"])
def test_a_server_that_cannot_be_made_to_call_refuses_to(mode: str) -> None:
    """A choice of the model's own is no promise, so it is served."""
    choice = f'tools {{ name: "t" }} tool_choice {{ mode: TOOL_CHOICE_MODE_{mode} name: "t" }}'
    assert refusal(choice, ["no_required"]).param == "tool_choice"
    assert gaps('tools { name: "t" } tool_choice { mode: TOOL_CHOICE_MODE_AUTO }', "no_required") == []


def test_a_strict_server_is_spared_what_it_does_not_know() -> None:
    """And the caller is told; labels stay with the gateway in any case."""
    text = 'user: "u" service_tier: "flex" verbosity: VERBOSITY_LOW metadata { key: "a" value: "b" }'
    assert gaps(text, "core_fields") == ["user", "service_tier", "verbosity"]
    assert gaps('tools { name: "t" strict: true }', "no_strict") == ["tools[0].strict"]


def test_reasoning_goes_back_where_the_server_wants_it() -> None:
    """Then nothing is left out."""
    text = 'messages { role: ROLE_ASSISTANT parts { reasoning { text: "a" } } }'
    assert gaps(text, "reasoning_content") == []
    assert gaps(text, "reasoning") == []


def _many(count: int) -> str:
    """Unknown fields as JSON."""
    return json.dumps({f"x{number}": number for number in range(count)})


@pytest.mark.parametrize("dialect", [pb.DIALECT_OPENAI_CHAT, pb.DIALECT_ANTHROPIC_MESSAGES])
def test_unknown_fields_of_each_object_have_a_bound(dialect: pb.Dialect.ValueType) -> None:
    """Whether they would go upstream or be left out."""
    text = pb.Part(text=pb.Text(text="a"), extra_json=_many(257))
    part = "messages[0].content[0]"
    for asked, param in (
        (pb.CompletionRequest(extra_json=_many(257)), "extra_json"),
        (pb.CompletionRequest(tools=[pb.Tool(extra_json=_many(257))]), "tools[0].extra_json"),
        (pb.CompletionRequest(messages=[pb.Message(extra_json=_many(257))]), "messages[0].extra_json"),
        (pb.CompletionRequest(messages=[pb.Message(parts=[text])]), f"{part}.extra_json"),
    ):
        asked.dialect = dialect
        with pytest.raises(GatewayError) as caught:
            find_gaps(asked, frozenset())
        assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_warnings_have_a_bound() -> None:
    """The last says how many more there were; a long name is cut."""
    asked = pb.CompletionRequest(extra_json=_many(256), messages=[pb.Message(extra_json=_many(256))])
    told = find_gaps(asked, frozenset())
    assert len(told) == 64
    assert told[62].field == "x62"
    assert told[63].why == "449 more fields were left out or changed."
    assert len(find_gaps(pb.CompletionRequest(extra_json=_many(64)), frozenset())) == 64
    long = pb.CompletionRequest(extra_json=json.dumps({"n" * 1000: 1}))
    assert [gap.field for gap in find_gaps(long, frozenset())] == ["n" * 256]


def test_what_only_messages_say_is_named_by_its_place_there() -> None:
    """Instructions stand in `system`; headers, the failure of a tool and sources of earlier answers have no place."""
    text = """dialect: DIALECT_ANTHROPIC_MESSAGES
        dialect_headers { name: "anthropic-beta" value: "a-1" }
        messages { role: ROLE_SYSTEM parts { text { text: "a" } cache_breakpoint {} } }
        messages { role: ROLE_USER parts { tool_result { call_id: "c" is_error: true } } }
        messages { role: ROLE_ASSISTANT parts { text { text: "a" citations { url: "https://example.com" } } } }"""
    asked = text_format.Parse(text, pb.CompletionRequest())
    assert [warning.field for warning in find_gaps(asked, frozenset())] == [
        "anthropic-beta",
        "system[0].cache_breakpoint",
        "messages[0].content[0]",
        "messages[1].content[0].citations",
    ]


def test_the_effort_is_left_out_where_the_model_refuses_it() -> None:
    """Agents ask every model for one."""
    assert gaps('reasoning { effort: "high" }', "no_effort") == ["reasoning_effort"]
