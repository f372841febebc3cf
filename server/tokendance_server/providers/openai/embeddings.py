"""POST /embeddings: texts to vectors, asked for in base64 and read in either form. Pure."""

from __future__ import annotations

import array
import base64
import binascii
import sys
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of, tokens_of
from tokendance_server.providers.openai import capabilities as can
from tokendance_server.providers.openai.answer import int_of, read_document, text_of, unreadable
from tokendance_server.providers.openai.gaps import STEERING_FIELDS
from tokendance_server.providers.openai.usage import MOST_TOKENS
from tokendance_server.providers.warnings import Warnings

Json = dict[str, Any]

_TYPED = frozenset({"dimensions", "encoding_format", "input", "model", "user"})


def write_embeddings(request: pb.EmbeddingsRequest, model: str, capabilities: frozenset[str]) -> Json:
    """Return the body for the upstream's `model`. Raises unsupported_parameter for a field that steers the call."""
    body: Json = {
        "model": model,
        "input": [list(tokens.ids) for tokens in request.token_inputs] or list(request.inputs),
        "encoding_format": "float" if can.FLOAT_EMBEDDINGS in capabilities else "base64",
    }
    if request.HasField("dimensions"):
        body["dimensions"] = request.dimensions
    if request.user and can.CORE_FIELDS not in capabilities:
        body["user"] = request.user
    # Read whatever the dialect: what cannot be read is refused before the upstream is asked.
    extra = json_text.caller_extra(request.extra_json, "extra_json") if request.extra_json else {}
    if request.dialect == pb.DIALECT_OPENAI_EMBEDDINGS:
        for name, value in extra.items():
            if name in STEERING_FIELDS:
                raise GatewayError(
                    errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
                    f"The field {name} is not served: models and addresses are the gateway's to choose.",
                    param=name,
                    metadata={"param": name},
                    origin="caller",
                )
            if name not in _TYPED:
                body[name] = value
    return body


def read_embeddings(body: bytes, request: pb.EmbeddingsRequest, capabilities: frozenset[str]) -> pb.Embeddings:
    """Return one vector for each input, in their order. Raises provider_error where any is missing or unreadable."""
    document = read_document(body)
    data = document.get("data")
    wanted = len(request.token_inputs) or len(request.inputs)
    if not isinstance(data, list) or len(data) != wanted:
        raise unreadable()
    vectors: dict[int, bytes] = {}
    for position, entry in enumerate(data):
        if not isinstance(entry, dict):
            raise unreadable()
        vectors[int_of(entry.get("index"), position)] = _vector(entry.get("embedding"))
    if vectors.keys() != set(range(wanted)):
        raise unreadable()
    embeddings = pb.Embeddings(
        model=text_of(document.get("model")),
        embeddings=[pb.Embedding(index=index, float32_le=vectors[index]) for index in range(wanted)],
        usage=_usage(document.get("usage"), request),
    )
    left_out = Warnings()
    if request.user and can.CORE_FIELDS in capabilities:
        left_out.add("user", "This model's provider takes no such field.")
    if request.extra_json and request.dialect != pb.DIALECT_OPENAI_EMBEDDINGS:
        extra = json_text.caller_extra(request.extra_json, "extra_json")
        left_out.add_all(extra, "This model has no place for the field.")
    embeddings.warnings.extend(left_out.told())
    return embeddings


def _vector(value: Any) -> bytes:
    """A vector as little-endian 32-bit floats, from base64 of just that or from a list of numbers."""
    try:
        if isinstance(value, str):
            data = base64.b64decode(value, validate=True)
            if data and len(data) % 4 == 0:
                return data
        elif isinstance(value, list) and value:
            floats = array.array("f", value)
            if sys.byteorder == "big":
                floats.byteswap()
            return floats.tobytes()
    except (binascii.Error, ValueError, TypeError, OverflowError):
        raise unreadable() from None
    raise unreadable()


def _usage(counts: Any, request: pb.EmbeddingsRequest) -> pb.Usage:
    told = counts.get("prompt_tokens", counts.get("total_tokens")) if isinstance(counts, dict) else None
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= MOST_TOKENS:
        return pb.Usage(input_tokens=told, source=pb.USAGE_SOURCE_PROVIDER)
    estimate = sum(len(tokens.ids) for tokens in request.token_inputs)
    estimate += tokens_of(sum(size_of(text) for text in request.inputs))
    return pb.Usage(input_tokens=estimate, source=pb.USAGE_SOURCE_ESTIMATED)
