"""What depends on capabilities, and what must not depend on names. The rest is recorded under tests/wire."""

import json
from typing import Any

import pytest
from google.protobuf import text_format

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.egress import check_path
from tokendance_server.providers.gemini import GeminiCodec

ASK = 'messages { role: ROLE_USER parts { text { text: "Hi" } } }'
CALL = 'messages { role: ROLE_ASSISTANT parts { tool_call { id: "c" name: "f" } } }'
RESULT = 'messages { role: ROLE_TOOL parts { tool_result { call_id: "c" parts { text { text: "1" } } } } }'


def body(text: str, *capabilities: str) -> dict[str, Any]:
    """The body of a request in its text form."""
    request = text_format.Parse(f"{ASK} {text}", pb.CompletionRequest())
    written: dict[str, Any] = json.loads(GeminiCodec(capabilities).encode_completion(request, "m", stream=False).body)
    return written


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("models/gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("tunedModels/mine", "/tunedModels/mine:generateContent"),
        ("a/b?c#d e:f%", "/models/a%2Fb%3Fc%23d%20e%3Af%25:generateContent"),
    ],
)
def test_a_model_is_one_segment_of_the_path(model: str, path: str) -> None:
    """Whatever its name holds, it leads to no other method and no other place."""
    asked = GeminiCodec().encode_completion(pb.CompletionRequest(), model, stream=False)
    assert asked.path == path
    check_path(asked.path)
    assert GeminiCodec().encode_completion(pb.CompletionRequest(), "m", stream=True).path.endswith("?alt=sse")


@pytest.mark.parametrize(
    ("reasoning", "capabilities", "thinking"),
    [
        ('effort: "none"', (), {"thinkingBudget": 0}),
        ('effort: "high"', (), {"thinkingBudget": 16384, "includeThoughts": True}),
        ('effort: "high" max_tokens: 77', (), {"thinkingBudget": 77, "includeThoughts": True}),
        ("adaptive: true", (), {"thinkingBudget": -1, "includeThoughts": True}),
        ('summary: "auto"', (), {"includeThoughts": True}),
        ('effort: "none"', ("thinking_levels",), {"thinkingLevel": "MINIMAL"}),
        (
            'effort: "minimal"',
            ("thinking_levels", "no_minimal_level"),
            {"thinkingLevel": "LOW", "includeThoughts": True},
        ),
        ('effort: "max"', ("thinking_levels",), {"thinkingLevel": "HIGH", "includeThoughts": True}),
        ('effort: "max"', ("thinking_levels", "xhigh_level"), {"thinkingLevel": "XHIGH", "includeThoughts": True}),
        ('effort: "high"', ("no_thinking",), None),
    ],
)
def test_an_effort_is_a_budget_or_a_level(
    reasoning: str, capabilities: tuple[str, ...], thinking: dict[str, Any] | None
) -> None:
    """As the model takes it."""
    config = body(f"reasoning {{ {reasoning} }}", *capabilities).get("generationConfig", {})
    assert config.get("thinkingConfig") == thinking


def test_a_lost_signature_is_replaced_only_where_it_is_missed() -> None:
    """By the mark that skips its check, on the first call of the turn."""
    assert "thoughtSignature" not in body(CALL)["contents"][1]["parts"][0]
    signed = body(CALL, "call_signatures")["contents"][1]["parts"][0]
    assert signed["thoughtSignature"] == "skip_thought_signature_validator"


def test_calls_and_results_go_without_ids_where_these_have_no_place() -> None:
    """Their order matches them."""
    contents = body(CALL + RESULT, "no_call_ids")["contents"]
    assert contents[1]["parts"][0]["functionCall"] == {"name": "f", "args": {}}
    assert contents[2]["parts"][0]["functionResponse"] == {"name": "f", "response": {"output": "1"}}


def test_the_result_of_a_call_that_nobody_made_is_refused() -> None:
    """This dialect wants the name of its tool, which only the call tells."""
    with pytest.raises(GatewayError) as caught:
        body(RESULT)
    assert (caught.value.reason, caught.value.param) == (errors_pb2.ERROR_REASON_INVALID_REQUEST, "messages[1]")


def test_arguments_that_are_no_object_are_refused_here() -> None:
    """They would be refused upstream, in words that nobody may be shown."""
    bad = 'messages { role: ROLE_ASSISTANT parts { tool_call { id: "c" name: "f" arguments_json: "{bad" } } }'
    with pytest.raises(GatewayError) as caught:
        body(bad)
    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST


def test_addresses_are_sent_where_the_server_fetches_them() -> None:
    """With a media type, which this dialect wants."""
    asked = (
        'messages { role: ROLE_USER parts { image { url: "https://example.com/a.png?x=1" } } '
        'parts { file { url: "https://example.com/b" } } }'
    )
    assert body(asked, "url_media")["contents"][0]["parts"][1:] == [
        {"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a.png?x=1"}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://example.com/b"}},
    ]


def test_a_choice_among_some_tools_sends_only_these() -> None:
    """The mode stays as it is."""
    some = 'tools { name: "a" } tools { name: "b" } tool_choice { mode: TOOL_CHOICE_MODE_REQUIRED allowed_names: "b" }'
    written = body(some)
    assert written["tools"] == [{"functionDeclarations": [{"name": "b"}]}]
    assert written["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
