"""Embeddings: every form of input, both forms of output."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import orjson
import pytest

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.embeddings import EmbeddingsCall, decode, encode


def read(**fields: Any) -> EmbeddingsCall:
    """Decode a request."""
    return decode(orjson.dumps({"model": "m", "input": "a", **fields}))


def test_inputs() -> None:
    """A string, strings, one input of token ids, several of them."""
    assert list(read().embeddings.inputs) == ["a"]
    assert list(read(input=["a", "b"]).embeddings.inputs) == ["a", "b"]
    assert [list(one.ids) for one in read(input=[1, 2]).embeddings.token_inputs] == [[1, 2]]
    assert [list(one.ids) for one in read(input=[[1], [2, 3]]).embeddings.token_inputs] == [[1], [2, 3]]


def test_other_fields() -> None:
    """Unknown ones are carried along."""
    call = read(encoding_format="base64", dimensions=8, user="u", input_type="query", truncate=None)
    assert call.base64
    assert (call.embeddings.dimensions, call.embeddings.user) == (8, "u")
    assert call.embeddings.extra_json == '{"input_type":"query","truncate":null}'
    assert not read(encoding_format=None).base64


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, "a"]}, "input[1]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": [[1], []]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"user": 1}, "user"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str) -> None:
    """Each names its field."""
    with pytest.raises(GatewayError) as caught:
        read(**fields)
    assert (caught.value.code, caught.value.param) == ("invalid_request", param)


def test_vectors() -> None:
    """Base64 is of little-endian 32-bit floats; numbers are the same values."""
    answer = pb.Embeddings(model="m")
    answer.embeddings.add(index=1, float32_le=struct.pack("<2f", 0.5, -2))
    answer.usage.input_tokens = 3
    coded = json.loads(encode(answer, base64=True))
    assert struct.unpack("<2f", base64.b64decode(coded["data"][0]["embedding"])) == (0.5, -2)
    plain = json.loads(encode(answer, base64=False))
    assert plain["data"] == [{"object": "embedding", "index": 1, "embedding": [0.5, -2.0]}]
    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_unknown_fields_have_a_bound() -> None:
    """The first one too many is named, or the largest."""
    assert read(**{f"x{number}": 1 for number in range(256)}).embeddings.extra_json
    for fields, param in (({f"x{number}": 1 for number in range(257)}, "x256"), ({"a": 1, "b": "x" * 1048576}, "b")):
        with pytest.raises(GatewayError) as caught:
            read(**fields)
        assert (caught.value.code, caught.value.param) == ("invalid_request", param)
