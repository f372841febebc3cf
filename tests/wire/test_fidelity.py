"""A request whose dialect is its upstream's own reaches it with every field that it came with, unknown ones included.

For each dialect a request that uses everything it has gets unknown fields at every place where an object stands, goes
through the facade's decoder and the provider's encoder, and must come out as it went in. What the gateway changes by
right is named in the dialect's `Case`, and nothing else may differ.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.wire import fidelity_requests

from tokendance.gateway.v1 import completion_pb2 as pb
from tokendance_facade.dialects.chat import request as chat
from tokendance_facade.dialects.responses import request as responses
from tokendance_server.providers import Codec
from tokendance_server.providers.wire_formats import WIRE_FORMATS

EXAMPLES = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
UPSTREAM_MODEL = "upstream-model"

_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(-1e9, 1e9), st.text(max_size=8))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
# No dialect has a field of such a name.
_NAMES = st.text("abcxyz", min_size=1, max_size=8).map("unknown_".__add__)


@dataclass(frozen=True)
class Case:
    """One dialect: a request that uses everything, how it is read, who writes it, and what is equal in it."""

    document: dict[str, Any]
    decode: Callable[[bytes], pb.CompletionRequest]
    codec: Codec
    normal: Callable[[dict[str, Any]], dict[str, Any]]
    """Returns a request in the one form in which what means the same is the same; changes the copy that it is given."""
    opaque: frozenset[str] = frozenset()
    """The fields whose objects belong to the caller as a whole: they come out as they are, and get no unknown ones."""


CASES = {
    "chat": Case(
        fidelity_requests.CHAT,
        lambda body: chat.decode(body).completion,
        WIRE_FORMATS["openai"](["max_completion_tokens", "developer_role", "allowed_tools", "reasoning_content"]),
        fidelity_requests.normal_chat,
        frozenset({"parameters", "schema", "metadata", "logit_bias", "format", "voice", "prompt_cache_breakpoint"}),
    ),
    "responses": Case(
        fidelity_requests.RESPONSES,
        lambda body: responses.decode(body).completion,
        WIRE_FORMATS["openai"](["responses"]),
        fidelity_requests.normal_responses,
        frozenset({"parameters", "schema", "metadata", "prompt_cache_breakpoint", "grammar"}),
    ),
}


def objects(value: Any, opaque: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Every object of a request that may have unknown fields, outermost first."""
    if isinstance(value, dict):
        yield value
        for name, inner in value.items():
            if name not in opaque:
                yield from objects(inner, opaque)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner, opaque)


def sent_upstream(case: Case, document: dict[str, Any]) -> dict[str, Any]:
    """What an upstream of the dialect gets for a request."""
    completion = case.decode(json.dumps(document).encode())
    assert list(case.codec.warnings(completion)) == []
    asked = case.codec.encode_completion(completion, UPSTREAM_MODEL, stream=bool(document.get("stream")))
    written: dict[str, Any] = json.loads(asked.body)
    assert written.pop("model") == UPSTREAM_MODEL
    return written


@pytest.mark.parametrize("name", CASES)
def test_a_request_reaches_its_own_upstream_as_it_came(name: str) -> None:
    """Without unknown fields, to begin with."""
    case = CASES[name]
    expected = case.normal(copy.deepcopy(case.document))
    expected.pop("model")
    assert case.normal(sent_upstream(case, case.document)) == expected


@pytest.mark.parametrize("name", CASES)
def test_unknown_fields_survive_at_every_level(name: str) -> None:
    """At each object in turn and at several at once, whatever their values are."""
    case = CASES[name]
    places = len(list(objects(case.document, case.opaque)))

    @EXAMPLES
    @given(st.lists(st.tuples(st.integers(0, places - 1), _NAMES, _VALUES), min_size=1, max_size=6))
    def holds(added: list[tuple[int, str, Any]]) -> None:
        document = copy.deepcopy(case.document)
        found = list(objects(document, case.opaque))
        for place, field, value in added:
            found[place][field] = value
        document = json.loads(json.dumps(document))
        expected = case.normal(copy.deepcopy(document))
        expected.pop("model")
        assert case.normal(sent_upstream(case, document)) == expected

    holds()


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_field_survives_in_each_place(name: str) -> None:
    """No kind of object is left out by chance."""
    case = CASES[name]
    for place in range(len(list(objects(case.document, case.opaque)))):
        document = copy.deepcopy(case.document)
        found = list(objects(document, case.opaque))[place]
        found["unknown_field"] = {"deep": [1, None, {"er": 2**60}]}
        expected = case.normal(copy.deepcopy(document))
        expected.pop("model")
        assert case.normal(sent_upstream(case, document)) == expected, f"in {found}"
