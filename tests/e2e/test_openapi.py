"""The OpenAPI document of the public listener, held against a running node by schemathesis."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.e2e.nodes import ROOT, Node, running
from tests.e2e.upstream import Upstream

CHECKS = [
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
EXAMPLES = 10

DOCUMENT = json.loads((ROOT / "facade" / "tokendance_facade" / "pages" / "data" / "openapi.json").read_bytes())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
_HELLO = [{"role": "user", "content": "Hello"}]
SMALLEST: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "sim", "messages": _HELLO},
    "/v1/completions": {"model": "sim", "prompt": "Hello"},
    "/v1/responses": {"model": "sim", "input": "Hello"},
    "/v1/messages": {"model": "sim", "max_tokens": 50, "messages": _HELLO},
}
OPERATIONS = [f"{verb} {path}" for path, verbs in DOCUMENT["paths"].items() for verb in verbs]


@pytest.fixture(scope="module")
def node(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node in one process."""
    with running("one", tmp_path_factory.mktemp("openapi"), upstream.base_url, ["sim", "sim-embed"]) as started:
        yield started


def test_the_node_serves_the_document_of_the_repository(node: Node) -> None:
    """What is tested here is what callers read."""
    with urllib.request.urlopen(f"{node.origin}/openapi.json", timeout=10) as answer:
        assert json.load(answer) == DOCUMENT


@pytest.mark.parametrize("operation", OPERATIONS)
def test_answers_are_as_the_document_says(node: Node, operation: str) -> None:
    """Whatever is sent: the status, the type, the headers and the form of the answer are those of the document."""
    verb, path = operation.split(" ")
    answered: set[int] = set()

    @given(case=SCHEMA[path][verb].as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def hold(case: Any) -> None:
        if isinstance(case.body, dict) and "model" in case.body and len(str(case.body["model"])) % 4:
            case.body["model"] = "sim-embed" if path.endswith("embeddings") else "sim"
        case.headers["Authorization"] = f"Bearer {node.api_key}"
        response = case.call(base_url=node.origin, timeout=20)
        answered.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    hold()
    assert answered


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", list(SMALLEST))
def test_the_smallest_request_is_answered_in_the_form_of_the_document(node: Node, path: str, stream: bool) -> None:
    """Every way to call a model, in one message and as a stream."""
    body = {**SMALLEST[path], **({"stream": True} if stream else {})}
    case = SCHEMA[path]["post"].Case(body=body, media_type="application/json", headers={})
    case.headers["Authorization"] = f"Bearer {node.api_key}"
    response = case.call(base_url=node.origin, timeout=20)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"][0].startswith("text/event-stream" if stream else "application/json")
    case.validate_response(response, checks=CHECKS)


def test_every_path_of_the_api_is_in_the_document_and_every_path_of_the_document_is_served(node: Node) -> None:
    """Paths of the API that only say what is not served are no part of it."""
    for path, verbs in DOCUMENT["paths"].items():
        request = urllib.request.Request(node.origin + re.sub(r"\{\w+\}", "x", path), method="OPTIONS")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert {verb.upper() for verb in verbs} <= set(answer.headers["allow"].split(", ")), path
