"""What a JSON text weighs: told alike wherever it is cut, and never more for what stands inside texts."""

from __future__ import annotations

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tokendance.json_weight import MAX_WEIGHT, NEVER_HEAVY_BYTES, Weight, most

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.text(alphabet='\\",:[{', max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=30,
)


def weigh(*pieces: bytes) -> int:
    """The weight of a text in pieces."""
    weight = Weight()
    for piece in pieces:
        weight.add(piece)
    return weight.total


def expected(value: object) -> int:
    """The weight of a value, counted from what it is."""
    if isinstance(value, str):
        return 1
    if isinstance(value, list):
        return 2 + sum(map(expected, value)) + max(len(value) - 1, 0)
    if isinstance(value, dict):
        return 2 + sum(map(expected, value.values())) + 3 * len(value) + max(len(value) - 1, 0)
    return 0


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(JSON, st.booleans(), st.lists(st.integers(0, 400), max_size=4))
def test_a_text_weighs_what_is_in_it(value: object, ascii_only: bool, cuts: list[int]) -> None:
    """However it is escaped, and wherever it is cut."""
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert weigh(*pieces) == weigh(text) == expected(value) <= most(text)


def test_few_bytes_are_never_heavy() -> None:
    """So nobody needs to weigh them."""
    for piece in (b"[", b"{", b":", b",", b'"'):
        assert weigh(piece * NEVER_HEAVY_BYTES) <= MAX_WEIGHT
