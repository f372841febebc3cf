"""Azure OpenAI: the OpenAI wire format at other paths and under another header."""

import json

import pytest

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.azure import azure_codec

TEXT = pb.Part(text=pb.Text(text="Hi"))
REQUEST = pb.CompletionRequest(
    messages=[pb.Message(role=pb.ROLE_DEVELOPER, parts=[TEXT]), pb.Message(role=pb.ROLE_USER, parts=[TEXT])],
    max_output_tokens=9,
)


def test_today_the_deployment_is_the_model_of_the_body() -> None:
    """The path is that of OpenAI, below an address that ends in /openai/v1."""
    codec = azure_codec()
    asked = codec.encode_completion(REQUEST, "my deployment", stream=False)
    assert asked.path == "/chat/completions"
    assert json.loads(asked.body)["model"] == "my deployment"
    assert codec.models_path == "/models"
    assert codec.encode_embeddings(pb.EmbeddingsRequest(inputs=["a"]), "vectors").path == "/embeddings"


def test_dated_the_deployment_is_in_the_path_whatever_it_is_called() -> None:
    """Percent-encoded, as one segment."""
    codec = azure_codec({"api_version:2024-10-21"})
    asked = codec.encode_completion(REQUEST, "a/b c?", stream=True)
    assert asked.path == "/deployments/a%2Fb%20c%3F/chat/completions?api-version=2024-10-21"
    assert codec.models_path == "/models?api-version=2024-10-21"
    vectors = codec.encode_embeddings(pb.EmbeddingsRequest(inputs=["a"]), "v")
    assert vectors.path == "/deployments/v/embeddings?api-version=2024-10-21"


def test_caps_and_developers_are_written_as_azure_knows_them() -> None:
    """Without anybody having to name these capabilities."""
    body = json.loads(azure_codec().encode_completion(REQUEST, "m", stream=False).body)
    assert body["max_completion_tokens"] == 9
    assert body["messages"][0]["role"] == "developer"


def test_the_credential_is_a_key_or_a_token() -> None:
    """A key in its own header; a token of Entra ID as bearer; nothing where there is none."""
    assert azure_codec().credential_headers("k") == (("api-key", "k"),)
    assert azure_codec({"bearer"}).credential_headers("t") == (("authorization", "Bearer t"),)
    assert azure_codec().credential_headers("") == ()


def test_a_capability_that_is_none_is_refused() -> None:
    """A version without a date, two versions, and other words."""
    for wrong in ({"api_version:latest"}, {"api_version:2024-10-21", "api_version:2025-01-01-preview"}, {"max"}):
        with pytest.raises(ValueError, match=r"unknown capabilities|one api_version"):
            azure_codec(wrong)
    assert azure_codec({"api_version:2025-01-01-preview", "no_strict"}).models_path.endswith("2025-01-01-preview")
