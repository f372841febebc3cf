"""The list of models that an OpenAI-compatible server gives."""

import json
from typing import Any

import pytest

from tokendance.errors import GatewayError
from tokendance_server.providers.openai import OpenAICodec


@pytest.mark.parametrize(
    ("document", "ids"),
    [
        ({"object": "list", "data": [{"id": "b"}, {"id": "a", "object": "model"}, {"id": "b"}]}, ["a", "b"]),
        ([{"id": "a"}], ["a"]),
        ({"data": [{"name": "x"}, {"id": None}, {"id": ""}, 3]}, []),
    ],
)
def test_the_ids_are_read(document: Any, ids: list[str]) -> None:
    """Sorted, each once, from either form that servers give; what has no id is passed over."""
    assert OpenAICodec().decode_models(json.dumps(document).encode()) == ids


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data": {}}', b'"x"'])
def test_what_is_no_list_is_an_error_of_the_provider(body: bytes) -> None:
    """Without a word of it."""
    with pytest.raises(GatewayError) as caught:
        OpenAICodec().decode_models(body)
    assert caught.value.code == "provider_error"
