"""OpenAI Embeddings: the request into the canonical form, and the vectors as floats or as base64."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import orjson

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects import checks
from tokendance_facade.dialects.documents import Document, dump_request_extra, keep_unknown, read_object
from tokendance_facade.dialects.media import encode_base64

MAX_INPUTS = 2048
MAX_TOKENS = 100_000

_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_FORMATS = frozenset({"float", "base64"})


@dataclass(frozen=True, slots=True)
class EmbeddingsCall:
    """A decoded request, and the form of the vectors in the answer."""

    embeddings: pb.EmbeddingsRequest
    base64: bool


def decode(body: bytes) -> EmbeddingsCall:
    """Decode a request body. Raises invalid_json and invalid_request, naming the field."""
    return decode_document(read_object(body))


def decode_document(document: Document) -> EmbeddingsCall:
    """Decode what was read of a body. Raises invalid_request, naming the field."""
    request = pb.EmbeddingsRequest(dialect=pb.DIALECT_OPENAI_EMBEDDINGS)
    request.model = checks.required_text(document, "model", "", high=256)
    _decode_input(document.get("input"), request)
    if document.get("dimensions") is not None:
        request.dimensions = checks.integer(document["dimensions"], "dimensions", 1, (1 << 31) - 1)
    if document.get("user") is not None:
        request.user = checks.text(document["user"], "user", high=512)
    form = document.get("encoding_format")
    if form is not None:
        checks.one_of(form, "encoding_format", _FORMATS)
    if not document.keys() <= _KNOWN:
        extra: Document = {}
        for name, value in document.items():
            if name not in _KNOWN:
                keep_unknown(extra, name, value)
        request.extra_json = dump_request_extra(extra)
    return EmbeddingsCall(request, base64=form == "base64")


def encode(embeddings: pb.Embeddings, *, base64: bool) -> bytes:
    """Return the body: each vector as base64 of little-endian 32-bit floats, or as numbers."""
    encode_vector = encode_base64 if base64 else _floats
    document: Document = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": one.index, "embedding": encode_vector(one.float32_le)}
            for one in embeddings.embeddings
        ],
        "model": embeddings.model,
        "usage": {
            "prompt_tokens": embeddings.usage.input_tokens,
            "total_tokens": embeddings.usage.input_tokens + embeddings.usage.output_tokens,
        },
    }
    return orjson.dumps(document)


def _floats(data: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(data) // 4}f", data)


def _decode_input(value: Any, request: pb.EmbeddingsRequest) -> None:
    """A string, strings, token ids (one input), or lists of token ids."""
    if value is None:
        raise checks.missing("input")
    if type(value) is str:
        request.inputs.append(checks.text(value, "input", low=1))
        return
    items = checks.array(value, "input", low=1)
    if type(items[0]) is int:
        _tokens(items, "input", request)
        return
    checks.array(value, "input", high=MAX_INPUTS)
    if type(items[0]) is list:
        for index, item in enumerate(items):
            _tokens(checks.array(item, f"input[{index}]", low=1), f"input[{index}]", request)
    else:
        for index, item in enumerate(items):
            request.inputs.append(checks.text(item, f"input[{index}]", low=1))


def _tokens(items: list[Any], path: str, request: pb.EmbeddingsRequest) -> None:
    checks.array(items, path, high=MAX_TOKENS)
    request.token_inputs.add().ids.extend(
        checks.integer(token, f"{path}[{index}]", 0, checks.INT64_MAX) for index, token in enumerate(items)
    )
