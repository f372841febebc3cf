"""What the package shows, and how little it loads."""

import subprocess
import sys

import pytest

import tokendance
from tokendance import text_message
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.requests import completion_request, embeddings_request, text_of


def test_public_names_are_these() -> None:
    """A name added here is a promise; each can be imported."""
    assert tokendance.__all__ == [
        "AsyncClient",
        "AsyncCompletionStream",
        "Client",
        "CompletionStream",
        "GatewayError",
        "last_request_id",
        "text_message",
        "text_of",
        "vector_of",
    ]
    assert all(getattr(tokendance, name) is not None for name in tokendance.__all__)
    assert set(tokendance.__all__) <= set(dir(tokendance))
    with pytest.raises(AttributeError, match="nothing"):
        _ = tokendance.nothing


def test_errors_load_no_grpc() -> None:
    """Who needs only the error table does not pay for gRPC."""
    code = "import sys, tokendance.errors; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_whole_request_passes_through() -> None:
    """A CompletionRequest says everything itself, and nothing else may come with it."""
    request = pb.CompletionRequest(model="m")
    assert completion_request(request) is request
    with pytest.raises(ValueError, match="no further arguments"):
        completion_request(request, "Hello")
    embeddings = pb.EmbeddingsRequest(model="m")
    assert embeddings_request(embeddings) is embeddings
    with pytest.raises(ValueError, match="no further arguments"):
        embeddings_request(embeddings, ["text"])


def test_absent_settings_stay_absent() -> None:
    """What the caller does not say is left to the model's defaults."""
    request = completion_request("m", [text_message("developer", "d"), text_message("user", "u")])
    assert not request.HasField("sampling")
    assert not request.HasField("max_output_tokens")
    assert [message.role for message in request.messages] == [pb.ROLE_DEVELOPER, pb.ROLE_USER]


def test_text_of_reads_one_choice() -> None:
    """Text parts are joined; other parts and other choices are not text."""
    parts = [*text_message("assistant", "a").parts, pb.Part(refusal=pb.Refusal(text="no"))]
    parts += text_message("assistant", "b").parts
    choice = pb.Choice(index=1, message=pb.Message(parts=parts))
    assert text_of(pb.Completion(choices=[choice]), choice=1) == "ab"
    assert text_of(pb.Completion(choices=[choice])) == ""
