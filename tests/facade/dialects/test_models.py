"""Models in OpenAI's form."""

from __future__ import annotations

import json

from tokendance.gateway.v1 import completion_pb2, models_service_pb2
from tokendance_facade.dialects.models import encode_list, encode_one


def test_a_model_shows_what_its_callers_need() -> None:
    """OpenAI's four fields, then ours; what is not stated is not there."""
    model = models_service_pb2.Model(name="models/a/b", id="a/b", owned_by="Acme", aliases=["c"], context_window=0)
    model.capabilities.append(models_service_pb2.MODEL_CAPABILITY_EMBEDDINGS)
    model.input_modalities.append(completion_pb2.MODALITY_TEXT)
    model.create_time.FromSeconds(7)
    model.deprecate_time.FromSeconds(86_400)
    model.prices.add(micros_per_million=1_500_000, **{"class": "input"})
    assert json.loads(encode_one(model)) == {
        "id": "a/b",
        "object": "model",
        "created": 7,
        "owned_by": "Acme",
        "aliases": ["c"],
        "capabilities": ["embeddings"],
        "input_modalities": ["text"],
        "output_modalities": [],
        "context_window": 0,
        "shutdown_date": "1970-01-02",
        "prices": [{"class": "input", "usd_per_million": 1.5, "unit": "token"}],
    }


def test_a_list_says_that_it_is_whole() -> None:
    """Without `has_more` one of the SDKs would ask on."""
    assert json.loads(encode_list([])) == {"object": "list", "data": [], "has_more": False}
