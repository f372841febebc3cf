"""Vectors, lists of models, credentials and signatures."""

import array
import json

import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.domain.egress import check_path
from tokendance_server.providers.gemini import GeminiCodec
from tokendance_server.providers.gemini.signatures import marked, read_signature, signature_of_reasoning

CODEC = GeminiCodec()


def test_texts_become_vectors_in_their_order() -> None:
    """With their length, where one is asked for."""
    request = pb.EmbeddingsRequest(inputs=["a", "b"], dimensions=2, user="u")
    asked = CODEC.encode_embeddings(request, "embed-1")
    assert asked.path == "/models/embed-1:batchEmbedContents"
    assert json.loads(asked.body)["requests"][1] == {
        "model": "models/embed-1", "content": {"parts": [{"text": "b"}]}, "outputDimensionality": 2,
    }  # fmt: skip
    answer = CODEC.decode_embeddings(b'{"embeddings":[{"values":[1,2]},{"values":[0.5,-1]}]}', request)
    assert [list(array.array("f", one.float32_le)) for one in answer.embeddings] == [[1, 2], [0.5, -1]]
    assert answer.usage.source == pb.USAGE_SOURCE_ESTIMATED
    assert [warning.field for warning in answer.warnings] == ["user"]


@pytest.mark.parametrize(
    "body", [b"{}", b'{"embeddings":[]}', b'{"embeddings":[{"values":["x"]}]}', b'{"embeddings":[1]}']
)
def test_vectors_that_are_none_are_a_failure(body: bytes) -> None:
    """Missing, empty, or of something else."""
    with pytest.raises(GatewayError) as caught:
        CODEC.decode_embeddings(body, pb.EmbeddingsRequest(inputs=["a"]))
    assert caught.value.reason == errors_pb2.ERROR_REASON_PROVIDER_ERROR


def test_what_cannot_be_embedded_is_refused() -> None:
    """Token ids of another vocabulary, and more than a call takes."""
    for request in (
        pb.EmbeddingsRequest(token_inputs=[pb.TokenIds(ids=[1])]),
        pb.EmbeddingsRequest(inputs=["a"] * 101),
    ):
        with pytest.raises(GatewayError) as caught:
            CODEC.encode_embeddings(request, "m")
        assert (caught.value.reason, caught.value.param) == (errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, "input")


def test_models_are_listed_by_the_names_that_routes_use() -> None:
    """Each once, sorted."""
    body = b'{"models":[{"name":"models/b"},{"name":"tunedModels/c"},{"name":"models/a"},{"name":"models/a"},1,{}]}'
    assert CODEC.decode_models(body) == ["a", "b", "tunedModels/c"]
    check_path(CODEC.models_path)
    with pytest.raises(GatewayError):
        CODEC.decode_models(b"[]")


def test_the_credential_has_its_own_header() -> None:
    """Or is a bearer token, or is not sent at all."""
    assert CODEC.credential_headers("k") == (("x-goog-api-key", "k"),)
    assert GeminiCodec({"bearer"}).credential_headers("t") == (("authorization", "Bearer t"),)
    assert CODEC.credential_headers("") == ()


def test_a_signature_comes_back_as_it_was() -> None:
    """In either alphabet of base64; what cannot be read, or is another family's, counts as none."""
    assert read_signature("-_8") == read_signature("+/8=") == b"\xfb\xff"
    assert read_signature("!") == read_signature(None) == read_signature("A") == b""
    assert signature_of_reasoning(pb.ReasoningContent(signature=marked(b"\xfb\xff"))) == b"\xfb\xff"
    assert signature_of_reasoning(pb.ReasoningContent(encrypted_content=marked(b"s"))) == b"s"
    assert signature_of_reasoning(pb.ReasoningContent(signature="c2ln")) == b""
