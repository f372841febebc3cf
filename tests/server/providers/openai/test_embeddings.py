"""Vectors: asked for in base64, taken in either form, complete or not at all."""

import base64
import struct
from typing import Any

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_server.providers.openai import OpenAICodec

TWO = pb.EmbeddingsRequest(inputs=["Hello", "world!"])
LITTLE = struct.pack("<2f", 0.5, -1.0)


def written(request: pb.EmbeddingsRequest, *capabilities: str) -> dict[str, Any]:
    """The body that goes upstream."""
    asked = OpenAICodec(capabilities).encode_embeddings(request, "upstream")
    assert asked.path == "/embeddings"
    body: dict[str, Any] = orjson.loads(asked.body)
    return body


def read(data: Any, usage: Any = None, request: pb.EmbeddingsRequest = TWO) -> pb.Embeddings:
    """The vectors of an answer."""
    body = orjson.dumps({"object": "list", "model": "m", "data": data, "usage": usage})
    return OpenAICodec().decode_embeddings(body, request)


def test_texts_are_asked_for_in_base64() -> None:
    """It is a quarter of the size, and exact."""
    assert written(TWO) == {"model": "upstream", "input": ["Hello", "world!"], "encoding_format": "base64"}
    assert written(TWO, "float_embeddings")["encoding_format"] == "float"


def test_tokens_dimensions_and_unknown_fields_go_along() -> None:
    """Unknown ones only where they are of the same dialect, and never in place of a typed one."""
    request = pb.EmbeddingsRequest(
        token_inputs=[pb.TokenIds(ids=[1, 2])],
        dimensions=3,
        user="u",
        dialect=pb.DIALECT_OPENAI_EMBEDDINGS,
        extra_json='{"input_type":"query","model":"other","encoding_format":"float"}',
    )
    assert written(request) == {
        "model": "upstream",
        "input": [[1, 2]],
        "encoding_format": "base64",
        "dimensions": 3,
        "user": "u",
        "input_type": "query",
    }
    request.dialect = pb.DIALECT_UNSPECIFIED
    assert "input_type" not in written(request)


def test_no_field_may_steer_the_call() -> None:
    """As with completions."""
    request = pb.EmbeddingsRequest(
        inputs=["a"], dialect=pb.DIALECT_OPENAI_EMBEDDINGS, extra_json='{"api_base":"http://example.com"}'
    )
    with pytest.raises(GatewayError) as caught:
        written(request)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "api_base")


def test_either_form_is_read_in_the_order_of_the_inputs() -> None:
    """Whatever order the server answers in."""
    data = [
        {"index": 1, "embedding": [0.5, -1]},
        {"index": 0, "embedding": base64.b64encode(LITTLE).decode()},
    ]
    embeddings = read(data, {"prompt_tokens": 7, "total_tokens": 7})
    assert [(one.index, one.float32_le) for one in embeddings.embeddings] == [(0, LITTLE), (1, LITTLE)]
    assert embeddings.usage == pb.Usage(input_tokens=7, source=pb.USAGE_SOURCE_PROVIDER)
    assert embeddings.model == "m"


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1}, {"prompt_tokens": "7"}, {"prompt_tokens": 1e30}])
def test_bad_counts_are_estimated(usage: Any) -> None:
    """From the texts; of token inputs the number is known."""
    vectors = [{"embedding": [1]}, {"embedding": [1]}]
    assert read(vectors, usage).usage == pb.Usage(input_tokens=3, source=pb.USAGE_SOURCE_ESTIMATED)
    tokens = pb.EmbeddingsRequest(token_inputs=[pb.TokenIds(ids=[1, 2, 3])])
    assert read(vectors[:1], usage, tokens).usage.input_tokens == 3


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"embedding": [1]}],
        [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}],
        [{"index": 0, "embedding": [1]}, {"index": 2, "embedding": [1]}],
        [{"embedding": [1]}, {"embedding": []}],
        [{"embedding": [1]}, {"embedding": ["x"]}],
        [{"embedding": [1]}, {"embedding": "AAA="}],
        [{"embedding": [1]}, {"embedding": "!!!!"}],
        [{"embedding": [1]}, {"embedding": ""}],
        [{"embedding": [1]}, {}],
        [{"embedding": [1]}, None],
    ],
)
def test_incomplete_vectors_are_an_error(data: Any) -> None:
    """A missing vector must not shift the others."""
    with pytest.raises(GatewayError) as caught:
        read(data)
    assert caught.value.code == "provider_error"


def test_what_is_left_out_is_named() -> None:
    """In the answer itself."""
    request = pb.EmbeddingsRequest(inputs=["a"], user="u", extra_json='{"x":1}')
    body = orjson.dumps({"data": [{"embedding": [1]}]})
    answer = OpenAICodec({"core_fields"}).decode_embeddings(body, request)
    assert [warning.field for warning in answer.warnings] == ["user", "x"]


def test_unknown_fields_and_warnings_have_a_bound() -> None:
    """Too many are refused before the upstream is asked, whatever their dialect; what is left out is told briefly."""
    for dialect in (pb.DIALECT_UNSPECIFIED, pb.DIALECT_OPENAI_EMBEDDINGS):
        many = orjson.dumps({f"x{number}": 1 for number in range(257)}).decode()
        with pytest.raises(GatewayError) as caught:
            written(pb.EmbeddingsRequest(inputs=["a"], dialect=dialect, extra_json=many))
        assert (caught.value.code, caught.value.param) == ("invalid_request", "extra_json")
    some = orjson.dumps({f"x{number}": 1 for number in range(256)}).decode()
    told = read([{"embedding": [0.5]}], request=pb.EmbeddingsRequest(inputs=["a"], extra_json=some)).warnings
    assert len(told) == 64
    assert told[63].why == "193 more fields were left out or changed."
