"""Each target with noise, with JSON of any shape, and with good inputs that were damaged; a few hundred of each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.seeds import (
    CHAT,
    COMPLETION,
    EMBEDDINGS,
    MESSAGE,
    MESSAGE_EVENTS,
    MESSAGES,
    RESPONSE,
    RESPONSE_EVENTS,
    RESPONSES,
    SEEDS,
)
from tests.fuzz.targets import TARGETS

EXAMPLES = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

_WORDS = st.sampled_from(
    sorted(
        {
            *CHAT,
            *COMPLETION,
            *EMBEDDINGS,
            *RESPONSES,
            *RESPONSE,
            "summary",
            "call_id",
            "arguments",
            "role",
            "content",
            "type",
            "text",
            "function",
            "name",
        }
    )
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    _WORDS,
)
JSON = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(_WORDS, st.text(max_size=8)), inner)
    ),
    max_leaves=20,
)


def test_each_target_takes_its_seed() -> None:
    """Fuzzing begins from what is let through, and not from what is refused at the first byte."""
    assert SEEDS.keys() == TARGETS.keys()
    for name, seed in SEEDS.items():
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_noise(name: str) -> None:
    """Bytes of any kind."""

    @EXAMPLES
    @given(st.binary(max_size=2000))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs(name: str) -> None:
    """A good input with pieces cut out, put in, repeated or changed."""
    seed = SEEDS[name]
    place = st.integers(0, len(seed))
    damage = st.lists(
        st.tuples(place, place, st.one_of(st.binary(max_size=8), st.just(seed[:200]))), min_size=1, max_size=4
    )

    @EXAMPLES
    @given(damage)
    def holds(pieces: list[tuple[int, int, bytes]]) -> None:
        data = seed
        for start, end, piece in pieces:
            data = data[: min(start, end)] + piece + data[max(start, end) :]
        TARGETS[name](data)

    holds()


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("read_chat", CHAT),
        ("read_completion", COMPLETION),
        ("read_embeddings", EMBEDDINGS),
        ("read_messages", MESSAGES),
        ("read_messages_answer", MESSAGE),
        ("read_messages_stream", MESSAGE_EVENTS),
        ("read_responses", RESPONSES),
        ("read_responses_answer", RESPONSE),
        ("read_responses_stream", RESPONSE_EVENTS),
    ],
)
def test_documents_of_other_shapes(name: str, good: Any) -> None:
    """A good document with another value at one place, however deep, or with one more field."""

    @EXAMPLES
    @given(st.data(), JSON)
    def holds(data: Any, value: Any) -> None:
        document = json.loads(json.dumps(good))
        at: Any = document
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = data.draw(st.sampled_from([*keys, "more"] if isinstance(at, dict) else keys))
            if isinstance(at, dict) and key not in at:
                break
            if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
                break
            at = at[key]
        at[key] = value
        TARGETS[name](written(document))

    holds()


def written(document: Any) -> bytes:
    """A document, or a list of them as a stream of events."""
    if isinstance(document, list):
        return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in document)
    return json.dumps(document).encode()
