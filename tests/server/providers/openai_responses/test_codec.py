"""Which of its two wire formats a server is spoken to in, and what the Responses one refuses and leaves out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.wire_formats import WIRE_FORMATS

BOTH = WIRE_FORMATS["openai"](["responses"])
ONLY = WIRE_FORMATS["openai"](["responses_only"])


def request(dialect: pb.Dialect.ValueType = pb.DIALECT_OPENAI_CHAT, **fields: Any) -> pb.CompletionRequest:
    """A small request."""
    asked = pb.CompletionRequest(model="m", dialect=dialect, **fields)
    asked.messages.add(role=pb.ROLE_USER).parts.add().text.text = "Hi"
    return asked


def body(asked: pb.CompletionRequest) -> dict[str, Any]:
    """What goes to a server that speaks nothing else."""
    ONLY.warnings(asked)
    document: dict[str, Any] = json.loads(ONLY.encode_completion(asked, "u", stream=False).body)
    return document


@pytest.mark.parametrize(
    ("capabilities", "dialect", "path"),
    [
        ([], pb.DIALECT_OPENAI_RESPONSES, "/chat/completions"),
        (["responses"], pb.DIALECT_OPENAI_RESPONSES, "/responses"),
        (["responses"], pb.DIALECT_OPENAI_CHAT, "/chat/completions"),
        (["responses"], pb.DIALECT_ANTHROPIC_MESSAGES, "/chat/completions"),
        (["responses"], pb.DIALECT_UNSPECIFIED, "/chat/completions"),
        (["responses_only"], pb.DIALECT_OPENAI_CHAT, "/responses"),
        (["responses_only"], pb.DIALECT_OPENAI_RESPONSES, "/responses"),
    ],
)
def test_each_dialect_has_its_path(capabilities: list[str], dialect: pb.Dialect.ValueType, path: str) -> None:
    """Its own where the server has it."""
    for kind in ("openai", "azure-openai"):
        codec = WIRE_FORMATS[kind](capabilities)
        assert codec.encode_completion(request(dialect), "u", stream=True).path == path


def test_a_dated_address_has_its_version_behind_this_path_too() -> None:
    """The name of the deployment is in the body here, and not in the path."""
    codec = WIRE_FORMATS["azure-openai"](["api_version:2025-04-01-preview", "responses"])
    asked = codec.encode_completion(request(pb.DIALECT_OPENAI_RESPONSES), "mine", stream=False)
    assert asked.path == "/responses?api-version=2025-04-01-preview"
    assert json.loads(asked.body)["model"] == "mine"


def test_vectors_and_models_are_asked_for_as_ever() -> None:
    """The rest of the server is the same."""
    assert BOTH.models_path == "/models"
    assert BOTH.encode_embeddings(pb.EmbeddingsRequest(inputs=["a"]), "u").path == "/embeddings"
    assert BOTH.credential_headers("k") == (("authorization", "Bearer k"),)
    assert BOTH.decode_models(b'{"data": [{"id": "a"}]}') == ["a"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"choice_count": 2}, "n"),
        ({"sampling": pb.Sampling(stop=["x"])}, "stop"),
        ({"sampling": pb.Sampling(logit_bias={"1": 1})}, "logit_bias"),
        ({"modalities": [pb.MODALITY_AUDIO]}, "modalities"),
        ({"extra_json": '{"base_url": "https://example.com"}'}, "base_url"),
    ],
)
def test_what_changes_the_answer_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    """The field is the caller's."""
    with pytest.raises(GatewayError) as refused:
        ONLY.warnings(request(**fields))
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)


def test_preferences_are_left_out_and_told() -> None:
    """Each by its name."""
    asked = request(sampling=pb.Sampling(seed=1, top_k=2), extra_json='{"prediction": 1}')
    asked.tools.add(kind=pb.TOOL_KIND_HOSTED, name="web_search", native_json='{"type": "web_search"}')
    asked.messages[0].name = "someone"
    assert [warning.field for warning in ONLY.warnings(asked)] == [
        "prediction",
        "seed",
        "top_k",
        "tools[0]",
        "messages[0].name",
    ]
    assert body(asked).keys() == {"model", "input", "store"}


def test_strictness_is_said_where_the_defaults_differ() -> None:
    """A function is strict by default here, and not in chat."""
    asked = request()
    asked.tools.add(kind=pb.TOOL_KIND_FUNCTION, name="f")
    assert body(asked)["tools"][0]["strict"] is False
    asked.dialect = pb.DIALECT_OPENAI_RESPONSES
    assert "strict" not in body(asked)["tools"][0]


def test_reasoning_goes_back_only_to_where_it_was_made() -> None:
    """Signed thoughts, and thoughts under ids of the gateway, are not of this dialect's upstream."""
    asked = request(pb.DIALECT_OPENAI_RESPONSES)
    thoughts = (
        pb.ReasoningContent(item_id="rs_1", encrypted_content="sealed"),
        pb.ReasoningContent(text="Hm.", signature="sig"),
        pb.ReasoningContent(text="Hm.", item_id=f"rs_{'0' * 26}_0"),
    )
    asked.messages.add(role=pb.ROLE_ASSISTANT).parts.extend(pb.Part(reasoning=one) for one in thoughts)
    assert [warning.field for warning in ONLY.warnings(asked)] == ["input"]
    assert [item.get("encrypted_content") for item in body(asked)["input"][1:]] == ["sealed"]


def read_whole(wire: bytes) -> list[pb.CompletionEvent]:
    """The events of a stream."""
    decoder = ONLY.stream_decoder(request())
    return [*decoder.feed(wire), *decoder.close()]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b'data: {"type":"error","error":{"code":"rate_limit_exceeded","message":"x"}}\n\n', "provider_rate_limited"),
        (b'event: error\ndata: {"type":"error","code":"server_error","message":"x"}\n\n', "provider_error"),
        (b'data: {"type":"response.failed","response":{"error":{"code":"invalid_prompt"}}}\n\n', "provider_rejected"),
        (
            b'data: {"type":"response.failed","response":{"error":{"code":"context_length_exceeded"}}}\n\n',
            "context_length_exceeded",
        ),
        (b'data: {"type":"response.failed","response":{"error":null}}\n\n', "stream_interrupted"),
        (b'data: {"type":"response.created","response":{}}\n\n', "stream_interrupted"),
        (b'data: {"type":"response.created","response":{}}\n\ndata: [DONE]\n\n', "stream_interrupted"),
        (b"data: no json\n\n", "provider_error"),
        (b"", "provider_error"),
    ],
)
def test_a_stream_that_fails_says_why(wire: bytes, code: str) -> None:
    """In the gateway's words, and what had come is told before."""
    with pytest.raises(GatewayError) as failed:
        read_whole(wire)
    assert (failed.value.code, failed.value.origin) == (code, "provider")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "x"}}, "provider_error"),
        ({"status": "cancelled", "output": []}, "stream_interrupted"),
        ({"error": {"message": "x", "type": "invalid_request_error"}}, "provider_rejected"),
        ({"output": "none"}, "provider_error"),
        ({"output": [{"type": "function_call", "arguments": "{}"}]}, "provider_error"),
        ([], "provider_error"),
    ],
)
def test_an_answer_that_is_none_says_why(document: Any, code: str) -> None:
    """The same in one message."""
    with pytest.raises(GatewayError) as failed:
        ONLY.decode_completion(json.dumps(document).encode(), request())
    assert failed.value.code == code
