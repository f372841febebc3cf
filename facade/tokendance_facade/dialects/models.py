"""OpenAI Models: the public view of the catalogue, with our own fields beside OpenAI's."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from tokendance.gateway.v1 import completion_pb2, models_service_pb2
from tokendance_facade.dialects.documents import Document

_CAPABILITIES = {
    value.number: value.name.removeprefix("MODEL_CAPABILITY_").lower()
    for value in models_service_pb2.ModelCapability.DESCRIPTOR.values
}
_MODALITIES = {
    value.number: value.name.removeprefix("MODALITY_").lower() for value in completion_pb2.Modality.DESCRIPTOR.values
}


def encode_list(models: Iterable[models_service_pb2.Model]) -> bytes:
    """Return the body of `GET /v1/models`: everything at once, as OpenAI does."""
    return orjson.dumps({"object": "list", "data": [_model(model) for model in models], "has_more": False})


def encode_one(model: models_service_pb2.Model) -> bytes:
    """Return the body of `GET /v1/models/{id}`."""
    return orjson.dumps(_model(model))


def _model(model: models_service_pb2.Model) -> Document:
    document: Document = {
        "id": model.id,
        "object": "model",
        "created": model.create_time.seconds,
        "owned_by": model.owned_by,
        "aliases": list(model.aliases),
        "capabilities": [_CAPABILITIES.get(number, "other") for number in model.capabilities],
        "input_modalities": [_MODALITIES.get(number, "other") for number in model.input_modalities],
        "output_modalities": [_MODALITIES.get(number, "other") for number in model.output_modalities],
    }
    for name in ("display_name", "description", "availability_note", "successor"):
        if getattr(model, name):
            document[name] = getattr(model, name)
    for name in ("context_window", "max_output_tokens"):
        if model.HasField(name):  # type: ignore[arg-type]  # the stub lists the names one by one
            document[name] = getattr(model, name)
    if model.supported_parameters:
        document["supported_parameters"] = list(model.supported_parameters)
    if model.HasField("deprecate_time"):
        document["shutdown_date"] = model.deprecate_time.ToDatetime().date().isoformat()
    if model.prices:
        document["prices"] = [_price(price) for price in model.prices]
    return document


def _price(price: models_service_pb2.ModelPrice) -> Document:
    document: Document = {"class": getattr(price, "class"), "usd_per_million": price.micros_per_million / 1_000_000}
    document["unit"] = price.unit or "token"
    if price.from_prompt_tokens:
        document["from_prompt_tokens"] = price.from_prompt_tokens
    if price.service_tier:
        document["service_tier"] = price.service_tier
    return document
