"""The public OpenAPI document is valid, complete and of one source."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from openapi_spec_validator import validate
from tests.facade.pages.site_rig import open_site

from dev.gen_public_openapi import TARGET, main, render
from tokendance.errors import table
from tokendance.gateway.v1 import errors_pb2

# Paths that only say, in the form of their dialect, what this gateway does not serve.
REFUSING = {
    "/v1/messages/*": {"GET", "POST", "DELETE"},
    "/v1/responses/*": {"GET", "POST", "DELETE"},
    "/v1/responses": {"GET"},
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as it is rendered now."""
    return render()


def test_the_document_of_the_repository_is_up_to_date(document: dict[str, Any]) -> None:
    """It is what its sources make."""
    assert json.loads(TARGET.read_text()) == document
    assert main(["--check"]) == 0


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    """By the specification's own schema."""
    validate(document)


async def test_every_route_of_the_api_is_documented(document: dict[str, Any]) -> None:
    """And nothing else is."""
    documented = {
        (verb.upper(), re.sub(r"\{\w+\}", "*", path)) for path, verbs in document["paths"].items() for verb in verbs
    }
    async with open_site() as site:
        served = {
            (route.method, route.path)
            for route in site.facade.public_routes
            if route.path.startswith("/v1/") and route.method not in REFUSING.get(route.path, ())
        }
    assert served == documented


def test_every_operation_tells_what_it_refuses_as_the_error_table_says(document: dict[str, Any]) -> None:
    """A code that is in the table's families of an operation is under the status of its surface."""
    model_calls = [
        one for verbs in document["paths"].values() for one in verbs.values() if "provider" in one["x-errors"]
    ]
    assert len(model_calls) >= 5
    for operation in model_calls:
        surface = errors_pb2.Surface.Value(f"SURFACE_{operation['x-surface'].upper()}")
        for _, spec in table():
            override = next((one.http_status for one in spec.overrides if one.surface == surface), 0)
            told = operation["responses"][str(override or spec.http_status)]["description"]
            assert f"`{spec.code}`" in told


def test_every_message_says_what_it_is_or_names_its_fields(document: dict[str, Any]) -> None:
    """No reference leads nowhere, and no schema is empty."""
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in schemas
    for name, schema in schemas.items():
        assert schema.keys() & {"properties", "oneOf", "allOf", "type"}, name
        assert f'"#/components/schemas/{name}"' in text, f"{name} is used by nothing"
