"""batchEmbedContents: texts to vectors. Pure."""

from __future__ import annotations

import array
import sys
from typing import Any

from tokendance.errors import GatewayError
from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance.gateway.v1 import errors_pb2
from tokendance_server.providers import json_text
from tokendance_server.providers.estimates import size_of, tokens_of
from tokendance_server.providers.gemini.answer import read_document, unreadable
from tokendance_server.providers.gemini.usage import MOST_TOKENS
from tokendance_server.providers.warnings import Warnings

Json = dict[str, Any]

MOST_TEXTS = 100
"""What the upstream takes in one call."""


def write_embeddings(request: pb.EmbeddingsRequest, model: str) -> Json:
    """Return the body for the upstream's `model`. Raises unsupported_parameter for token ids and for too many texts."""
    if request.token_inputs:
        raise _unsupported("input", "This model takes texts, not token ids.")
    if len(request.inputs) > MOST_TEXTS:
        raise _unsupported("input", f"This model takes {MOST_TEXTS} texts in one call, at most; send fewer.")
    if request.extra_json:
        # Read here, so that what cannot be read is refused before the upstream is asked.
        json_text.caller_extra(request.extra_json, "extra_json")
    name = model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
    more: Json = {"outputDimensionality": request.dimensions} if request.HasField("dimensions") else {}
    return {"requests": [{"model": name, "content": {"parts": [{"text": text}]}, **more} for text in request.inputs]}


def read_embeddings(body: bytes, request: pb.EmbeddingsRequest) -> pb.Embeddings:
    """Return one vector for each input, in their order. Raises provider_error where any is missing or unreadable."""
    document = read_document(body)
    listed = document.get("embeddings")
    if not isinstance(listed, list) or len(listed) != len(request.inputs):
        raise unreadable()
    embeddings = pb.Embeddings(
        embeddings=[pb.Embedding(index=index, float32_le=_vector(one)) for index, one in enumerate(listed)],
        usage=_usage(document.get("usageMetadata"), request),
    )
    left_out = Warnings()
    if request.user:
        left_out.add("user", "This model's provider takes no such field.")
    if request.extra_json:
        extra = json_text.caller_extra(request.extra_json, "extra_json")
        extra.pop("encoding_format", None)
        left_out.add_all(extra, "This model has no place for the field.")
    embeddings.warnings.extend(left_out.told())
    return embeddings


def _vector(one: Any) -> bytes:
    values = one.get("values") if isinstance(one, dict) else None
    if not isinstance(values, list) or not values:
        raise unreadable()
    try:
        floats = array.array("f", values)
    except (TypeError, OverflowError):
        raise unreadable() from None
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def _usage(counts: Any, request: pb.EmbeddingsRequest) -> pb.Usage:
    told = counts.get("promptTokenCount") if isinstance(counts, dict) else None
    if isinstance(told, int) and not isinstance(told, bool) and 0 <= told <= MOST_TOKENS:
        return pb.Usage(input_tokens=told, source=pb.USAGE_SOURCE_PROVIDER)
    estimate = tokens_of(sum(size_of(text) for text in request.inputs))
    return pb.Usage(input_tokens=estimate, source=pb.USAGE_SOURCE_ESTIMATED)


def _unsupported(param: str, message: str) -> GatewayError:
    return GatewayError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        message,
        param=param,
        metadata={"param": param},
        origin="caller",
    )
